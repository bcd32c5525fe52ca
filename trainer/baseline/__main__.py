"""Fits a classical model to a converted data set and reports on it as on a network.

    python -m trainer.baseline --data=data/chest_xray --model=pca_svm

A few settings of the model are compared by cross-validation on the train split, with each group whole in one
fold. The best setting is fitted to all of the train split. The same command again goes on with an interrupted
comparison.
"""

from functools import partial
from pathlib import Path

from absl import flags

from data_pipeline.fetch import resolve_data
from data_pipeline.quiet import quiet_start
from tfrecords.command import define_path, run
from tfrecords.files.urls import is_remote, without_secrets
from tfrecords.manifest import Manifest
from tfrecords.signals import held
from trainer.baseline.options import BaselineOptions
from trainer.config import BASELINES

_DEFAULT = BaselineOptions(data="", run_dir="")

# Data.
_DATA = define_path(
    "data",
    None,
    "Folder of a data set that tfrecords.convert made, or its URL. Default: drawn demo data, which are made "
    "once and kept.",
)
_POSITIVE = flags.DEFINE_string(
    "positive",
    _DEFAULT.positive,
    "With two classes, the class that counts as the finding: sensitivity is that of this class, and the "
    "threshold is chosen for it. Default: as the data set says, else by the names of the classes.",
)
_CACHE_DIR = define_path(
    "cache_dir",
    None,
    "Folder in which data sets fetched from URLs are kept. Default: the user's cache folder.",
)
_CACHE_LIMIT_MB = flags.DEFINE_integer(
    "cache_limit_mb",
    0,
    "The space that all fetched data sets together may take, in MB. Default 0: as much as the disk has.",
    lower_bound=0,
)

# Model.
_MODEL = flags.DEFINE_enum(
    "model",
    _DEFAULT.model,
    BASELINES,
    "The classical model. pca_svm: principal components, then a support vector machine. logistic: logistic "
    "regression on the pixels. random_forest: decision trees on the pixels.",
)
_PIXELS = flags.DEFINE_integer(
    "pixels",
    _DEFAULT.pixels,
    "The longer side, in pixels, of the small grey images that the model sees; larger images are averaged "
    "down to it, smaller ones stay. Memory grows with the square of this number.",
)
_FOLDS = flags.DEFINE_integer(
    "folds",
    _DEFAULT.folds,
    "How many folds of the train split the settings of the model are compared on. There are fewer where a "
    "class has fewer groups.",
)
_SEED = flags.DEFINE_integer(
    "seed",
    _DEFAULT.seed,
    "Seed of the folds and of all random numbers of the model. The same seed gives the same model.",
)

# Run.
_RUN_DIR = define_path(
    "run_dir",
    None,
    "Folder of the run. The same command again goes on with an interrupted search in it. Default: "
    "runs/DATA-MODEL.",
)
_JOBS = flags.DEFINE_integer(
    "jobs",
    _DEFAULT.jobs,
    "How many models are fitted at the same time. The result is the same for any number. Default 0: as many "
    "as cores and memory allow.",
)


def main(_: list[str]) -> None:
    """Parses the flags and fits."""
    if _DATA.value:
        data = resolve_data(
            _DATA.value,
            ("train", "val", "test"),
            cache_dir=_CACHE_DIR.value,
            limit=_CACHE_LIMIT_MB.value << 20,
        )
    else:
        from tfrecords.demo.dataset import demo_data

        data = demo_data()
    manifest = Manifest.load(Path(data), check_shards=False)
    options = BaselineOptions(
        data=str(data),
        run_dir=_RUN_DIR.value or f"runs/{manifest.name}-{_MODEL.value}",
        model=_MODEL.value,
        pixels=_PIXELS.value,
        folds=_FOLDS.value,
        seed=_SEED.value,
        jobs=_JOBS.value,
        positive=_POSITIVE.value,
        data_url=without_secrets(_DATA.value) if _DATA.value and is_remote(_DATA.value) else "",
    )
    with quiet_start(), held():  # TensorFlow's threads must not take signals from this one
        from trainer.baseline.fitting import fit_baseline
    log = partial(print, flush=True)  # minutes may pass between two lines
    evaluation = fit_baseline(options, log, manifest=manifest)
    print(
        f"\n{evaluation.text}\n\n"
        f"model:  {Path(options.run_dir) / 'model.skops'}\n"
        f"report: {evaluation.page}\n"
        f"Next:\n  python -m trainer.evaluate --run_dir={options.run_dir} --split=val\n"
        f"  python -m trainer.predict --run_dir={options.run_dir} IMAGE_OR_FOLDER"
    )


if __name__ == "__main__":
    run(main)
