"""Evaluates a trained run on a split and writes its report.

python -m trainer.evaluate --run_dir=runs/chest_xray-cnn --split=test
"""

from dataclasses import replace
from pathlib import Path

from absl import flags

from data_pipeline.fetch import end_process, is_remote, local, without_secrets
from data_pipeline.quiet import quiet_start
from tfrecords.command import run
from trainer.run import Run

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of the run.", required=True)
_DATA = flags.DEFINE_string(
    "data", None, "Another data set of the same classes, a folder or a URL. Default: the run's."
)
_CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Where fetched data are kept. Default: the user's cache.")
_CACHE_LIMIT_MB = flags.DEFINE_integer(
    "cache_limit_mb", 0, "Space for all fetched data sets, MB. Default 0: what the disk has.", lower_bound=0
)
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")
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
    if url:  # the cache may have been cleaned, or be another machine's
        needed = () if opened.config.direct else ("val", *(() if data else (_SPLIT.value,)))
        opened = replace(opened, config=replace(opened.config, data=str(_local(url, needed))))
    with quiet_start():
        from trainer.evaluation.evaluate_run import evaluate_run
    evaluation = evaluate_run(
        opened,
        split=_SPLIT.value,
        data=_local(data, (_SPLIT.value,)) if data else None,
        positive=_POSITIVE.value,
    )
    print(f"{evaluation.text}\n\nreport: {evaluation.page}")
    if opened.config.direct:
        end_process()


def _local(data: str, splits: tuple[str, ...]) -> Path:
    return local(data, splits, cache_dir=_CACHE_DIR.value, limit=_CACHE_LIMIT_MB.value << 20)


if __name__ == "__main__":
    run(main)
