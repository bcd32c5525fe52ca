"""Evaluates a run on a split and writes a report; while it still trains, at its best epoch so far.

python -m trainer.evaluate --run_dir=runs/chest_xray-cnn --split=test
"""

from dataclasses import replace
from pathlib import Path

from absl import flags

from data_pipeline.fetch import end_process, resolve_data
from data_pipeline.quiet import quiet_start
from tfrecords.command import define_path, run
from tfrecords.files.urls import is_remote, without_secrets
from trainer.run import RESULT_NAME, Run

_RUN_DIR = define_path("run_dir", None, "The folder of the run whose model is evaluated.", required=True)
_DATA = define_path(
    "data",
    None,
    "The data to evaluate on, a folder or a URL: the run's own data if they were moved, or another data set "
    "with the same classes and image shape. By default it is the folder or URL that the run was trained on.",
)
_CACHE_DIR = define_path(
    "cache_dir", None, "The folder that keeps data fetched from a URL. By default it is in the user's cache."
)
_CACHE_LIMIT_MB = flags.DEFINE_integer(
    "cache_limit_mb",
    0,
    "The most space that all fetched data sets together may take, in megabytes. 0, the default, allows all "
    "free space of the disk.",
    lower_bound=0,
)
_SPLIT = flags.DEFINE_string(
    "split",
    "test",
    "The split to evaluate on: train (its originals, no copies), val, test, or any other split of the data.",
)
_OUT = define_path(
    "out",
    None,
    "The folder to write the report into; then nothing is written into the run. By default the report goes "
    "to report/SPLIT in --run_dir, or to report/DATASET-SPLIT for another data set.",
)
_SO_FAR = flags.DEFINE_bool(
    "so_far",
    False,
    "Evaluate the best epoch so far of a run that has ended once and trains on. A run that has never ended "
    "is always evaluated at its best epoch so far.",
)
_POSITIVE = flags.DEFINE_string(
    "positive",
    "",
    "The positive class of two, whose sensitivity is reported. For another class than the run's, the "
    "threshold is chosen anew on the run's validation split for this report alone, which goes to "
    "report/SPLIT-positive-CLASS. By default it is the run's positive class.",
)
_STRESS = flags.DEFINE_bool(
    "stress",
    False,
    "Predict the split under eight changes that images from elsewhere have, each at several levels: "
    "exposure, gamma, contrast, blur, noise, JPEG quality, rescaling, rotation. The curves are added to the "
    "report, with accuracy, PPV and NPV by prevalence, and an interval for the accuracy on images from "
    "elsewhere with its assumptions. Every model gets the same changes. It takes about forty times as long "
    "as the evaluation alone.",
)


def main(_: list[str]) -> None:
    """Parses the flags and evaluates."""
    opened = Run.load(Path(_RUN_DIR.value))
    data = _DATA.value
    of_fold = ("train", "val") if opened.config.fold else ()  # a fold is made from both
    if (url := opened.config.data_url) and data and is_remote(data) and without_secrets(data) == url:
        url, data = data, None  # the run's own data, with the secrets that their place needs
    if url and not data:  # fetch again: the cache may have been emptied, or be on another machine
        needed = () if opened.config.direct else (*of_fold, "val", _SPLIT.value)
        opened = replace(opened, config=replace(opened.config, data=str(_local(url, needed))))
    with quiet_start():
        from trainer.evaluation.evaluate_run import evaluate_run
    # The validation split is needed only if no threshold has been chosen yet.
    chooses = _SO_FAR.value or not (opened.folder / RESULT_NAME).exists()
    evaluation = evaluate_run(
        opened,
        split=_SPLIT.value,
        data=_local(data, (*of_fold, *("val",) * chooses, _SPLIT.value)) if data else None,
        out=Path(_OUT.value) if _OUT.value else None,
        so_far=_SO_FAR.value,
        positive=_POSITIVE.value,
        stress=_STRESS.value,
    )
    print(f"{evaluation.text}\n\nreport: {evaluation.page}")
    if opened.config.direct:
        end_process()


def _local(data: str, splits: tuple[str, ...]) -> Path:
    return resolve_data(data, splits, cache_dir=_CACHE_DIR.value, limit=_CACHE_LIMIT_MB.value << 20)


if __name__ == "__main__":
    run(main)
