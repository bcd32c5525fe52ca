"""Evaluates a run on a split and writes its report; while it still trains, at its best epoch so far.

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

_RUN_DIR = define_path("run_dir", None, "Folder of the run.", required=True)
_DATA = define_path(
    "data",
    None,
    "Where the run's data are now, or another data set of the same classes: a folder or a URL. Default: "
    "where the run's were.",
)
_CACHE_DIR = define_path("cache_dir", None, "Where fetched data are kept. Default: the user's cache.")
_CACHE_LIMIT_MB = flags.DEFINE_integer(
    "cache_limit_mb", 0, "Space for all fetched data sets, MB. Default 0: what the disk has.", lower_bound=0
)
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")
_OUT = define_path(
    "out",
    None,
    "Folder for the report; nothing is written into the run. Default: report/SPLIT in --run_dir, of another "
    "data set report/DATASET-SPLIT.",
)
_SO_FAR = flags.DEFINE_bool(
    "so_far",
    False,
    "Evaluate the best epoch so far of a run that goes on after an end. A run that has not ended yet is "
    "evaluated so in any case.",
)
_POSITIVE = flags.DEFINE_string(
    "positive",
    "",
    "Of two classes the one that is looked for. For another than the run's the threshold is chosen anew on "
    "the run's validation split, for this report alone: it goes to report/SPLIT-positive-CLASS. Default: the "
    "run's.",
)


def main(_: list[str]) -> None:
    """Parses the flags and evaluates."""
    opened = Run.load(Path(_RUN_DIR.value))
    data = _DATA.value
    if (url := opened.config.data_url) and data and is_remote(data) and without_secrets(data) == url:
        url, data = data, None  # the run's own, with what its place asks for
    if url and not data:  # the cache may have been cleaned, or be another machine's
        needed = () if opened.config.direct else ("val", _SPLIT.value)
        opened = replace(opened, config=replace(opened.config, data=str(_local(url, needed))))
    with quiet_start():
        from trainer.evaluation.evaluate_run import evaluate_run
    # Validation is needed only where no threshold was chosen yet.
    chooses = _SO_FAR.value or not (opened.folder / RESULT_NAME).exists()
    evaluation = evaluate_run(
        opened,
        split=_SPLIT.value,
        data=_local(data, (*("val",) * chooses, _SPLIT.value)) if data else None,
        out=Path(_OUT.value) if _OUT.value else None,
        so_far=_SO_FAR.value,
        positive=_POSITIVE.value,
    )
    print(f"{evaluation.text}\n\nreport: {evaluation.page}")
    if opened.config.direct:
        end_process()


def _local(data: str, splits: tuple[str, ...]) -> Path:
    return resolve_data(data, splits, cache_dir=_CACHE_DIR.value, limit=_CACHE_LIMIT_MB.value << 20)


if __name__ == "__main__":
    run(main)
