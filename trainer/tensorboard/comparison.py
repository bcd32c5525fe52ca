"""A run as a row of TensorBoard's HParams page: what it was told, and how good it became."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from trainer.config import TrainConfig
from trainer.evaluation.metric_table import OF_AN_EPOCH, REPORTED, names
from trainer.models.registry import MODELS
from trainer.tensorboard import hparams
from trainer.tensorboard.hparams import Value

# The flags that make a run what it is. At first the page shows five: those that are changed most often.
_SHOWN: Final = ("model", "learning_rate", "global_batch_size", "augment", "seed")
_FLAGS: Final = (
    *_SHOWN,
    *("copies", "class_weights", "schedule", "warmup_epochs", "epochs", "patience", "min_delta"),
    *("last_batch", "deterministic", "optimizer", "weight_decay", "clip_norm", "accumulate", "ema"),
    *("label_smoothing", "mixup", "sampling", "normalize", "monitor", "weights", "freeze", "fold", "recipe"),
)
# The first five are shown at first.
METRICS: Final[hparams.Metrics] = {
    **{f"validation {name}, best epoch": ("validation", f"best_epoch/{name}") for name in names(OF_AN_EPOCH)},
    **{f"test {name}": ("report", f"test/report/{name}") for name in names(REPORTED)},
}


def write_run(folder: Path, config: TrainConfig, data: str, precision: str) -> None:
    """Writes the row of a run, and the columns of all runs; does nothing if the same are there.

    Args:
        folder: the run's folder for TensorBoard.
        config: of the run.
        data: the name of its data set.
        precision: its Keras dtype policy, which `config` may leave open.

    Raises:
        InputError: they cannot be written.
    """
    hparams.write_experiment(folder, _columns(), METRICS, first=_SHOWN)
    hparams.write_session(folder, config.run_dir, values_of(config, data, precision))


def values_of(config: TrainConfig, data: str, precision: str) -> dict[str, Value]:
    """Returns the values of a run, with all arguments of its own model, under the names that a search has."""
    given = config.to_json()
    defaults = MODELS[config.model].args if config.model in MODELS else {}
    arguments: Mapping[str, Value] = {**defaults, **dict(config.model_args)}
    values: dict[str, Value] = {name: given[name] for name in _FLAGS}
    values |= {"precision": precision, "data": data}
    return values | {f"model_args.{name}": value for name, value in arguments.items()}


def _columns() -> dict[str, Any]:
    """Returns all parameters that a run may have, each with its type.

    No value is left out: TensorBoard hides the rows whose value is in no domain, and the columns of a run may
    be those that another version wrote.
    """
    values: dict[str, Value] = {}
    for model in MODELS:
        values |= values_of(TrainConfig(data="", run_dir="", model=model), "", "")
    return {name: _type(value) for name, value in values.items()}


def _type(value: Value) -> type:
    return float if type(value) is int else type(value)
