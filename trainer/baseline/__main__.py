"""Fits a classical model on a converted data set, evaluates it and writes its report, as for a network.

    python -m trainer.baseline --data=data/chest_xray --model=pca_svm

Its settings are compared on folds of the train split, by group. The same command again goes on with an
interrupted search.
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

_DATA = define_path(
    "data",
    None,
    "Folder made by tfrecords.convert, or its URL. Default: drawn demo data, made once and kept.",
)
_CACHE_DIR = define_path("cache_dir", None, "Where fetched data are kept. Default: the user's cache.")
_CACHE_LIMIT_MB = flags.DEFINE_integer(
    "cache_limit_mb", 0, "Space for all fetched data sets, MB. Default 0: what the disk has.", lower_bound=0
)
_RUN_DIR = define_path(
    "run_dir", None, "Folder of the run; the same command again goes on with it. Default: runs/DATA-MODEL."
)
_MODEL = flags.DEFINE_enum(
    "model",
    _DEFAULT.model,
    BASELINES,
    "pca_svm: principal components, then a support vector machine. logistic: logistic regression on the "
    "pixels. random_forest: trees on the pixels.",
)
_PIXELS = flags.DEFINE_integer(
    "pixels",
    _DEFAULT.pixels,
    "The model sees grey images whose longer side has so many pixels at most, each the mean of its area. "
    "Memory grows with the square.",
)
_FOLDS = flags.DEFINE_integer(
    "folds",
    _DEFAULT.folds,
    "Parts of the train split for the comparison of settings, at most: a class may have fewer groups.",
)
_POSITIVE = flags.DEFINE_string(
    "positive",
    _DEFAULT.positive,
    "Of two classes the one that is looked for, as of trainer.main.",
)
_SEED = flags.DEFINE_integer("seed", _DEFAULT.seed, "Of the folds and of what the model draws.")
_JOBS = flags.DEFINE_integer(
    "jobs",
    _DEFAULT.jobs,
    "Fits at the same time; the result is the same for any number. Default 0: as many as cores and memory "
    "allow.",
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
    name = Manifest.load(Path(data), check_shards=False).name
    options = BaselineOptions(
        data=str(data),
        run_dir=_RUN_DIR.value or f"runs/{name}-{_MODEL.value}",
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
    evaluation = fit_baseline(options, partial(print, flush=True))  # minutes may pass between two lines
    print(
        f"\n{evaluation.text}\n\n"
        f"model:  {Path(options.run_dir) / 'model.skops'}\n"
        f"report: {evaluation.page}\n"
        f"Next:\n  python -m trainer.evaluate --run_dir={options.run_dir} --split=val\n"
        f"  python -m trainer.predict --run_dir={options.run_dir} IMAGE_OR_FOLDER"
    )


if __name__ == "__main__":
    run(main)
