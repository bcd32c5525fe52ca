"""The flags of a training run become one frozen configuration."""

from pathlib import Path
from typing import Final

from data_pipeline.settings import load_settings
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig

# --help shows the groups in the order in which they are imported.
# isort: off
from trainer.flags import data, recipe, model, optimisation, served, pipeline, devices, run

# isort: on

GROUPS: Final = (data, recipe, model, optimisation, served, pipeline, devices, run)


def config_from_flags(folder: Path, manifest: Manifest) -> TrainConfig:
    """Returns the configuration that the flags describe.

    Args:
        folder: of the data set, the demo's if --data was not given.
        manifest: of the data set.

    Raises:
        InputError: a value is not allowed, there is no such recipe, or the data set's pipeline.json is
            damaged.
    """
    of_recipe = recipe.apply()  # first: it sets the defaults of other flags
    of_the_data = data.values()
    return TrainConfig.of(
        data=str(folder),
        run_dir=run.RUN_DIR.value or default_run_dir(manifest, model.short_name(), of_the_data["fold"]),
        **of_recipe,
        **of_the_data,
        **model.values(),
        **optimisation.values(),
        **served.values(),
        **pipeline.values(load_settings(folder, manifest)),
        **devices.values(),
        **run.values(),
    )


def default_run_dir(manifest: Manifest, model: str, fold: str) -> str:
    """Returns the run directory if --run_dir is not given."""
    return f"runs/{manifest.name}-{model}" + f"-fold-{fold.replace('/', '-of-')}" * bool(fold)
