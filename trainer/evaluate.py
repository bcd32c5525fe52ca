"""Evaluates a trained run on a split and writes its report.

python -m trainer.evaluate --run_dir=runs/chest_xray-cnn --split=test
"""

from pathlib import Path

from absl import flags

from tfrecords.command import run
from trainer.quiet import quiet_start
from trainer.run import Run

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of the run.", required=True)
_DATA = flags.DEFINE_string("data", None, "Another data set of the same classes. Default: the run's.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate.")


def main(_: list[str]) -> None:
    """Parses the flags and evaluates."""
    opened = Run.load(Path(_RUN_DIR.value))
    data = Path(_DATA.value) if _DATA.value else None
    with quiet_start():
        from trainer.evaluation import evaluate_run
    evaluation = evaluate_run(opened, split=_SPLIT.value, data=data)
    print(f"{evaluation.text}\n\nreport: {evaluation.page}")


if __name__ == "__main__":
    run(main)
