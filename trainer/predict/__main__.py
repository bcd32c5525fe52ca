"""Predicts the class of image files with a trained run.

    python -m trainer.predict --run_dir=runs/chest_xray-cnn IMAGE_OR_FOLDER...

Prints a line a file: the file, its class, the class's probability. Of two classes the positive one is
predicted from the probability on that was chosen on validation, as in the run's report.
"""

from pathlib import Path

from absl import flags

from data_pipeline.quiet import quiet_start
from tfrecords.command import run
from tfrecords.errors import InputError
from trainer.run import Run

_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of the run.", required=True)
_CSV = flags.DEFINE_string("csv", None, "Also write a table with the probability of every class.")


def main(arguments: list[str]) -> None:
    """Parses the flags and predicts."""
    if not arguments:
        raise InputError("no image given; name files or folders after the flags")
    opened = Run.load(Path(_RUN_DIR.value))
    with quiet_start():
        from trainer.predict.files import predict_files, write_csv
    names = opened.data.class_names
    answers = []
    for answer in predict_files(opened, [Path(argument) for argument in arguments]):
        probability = answer.probabilities[names.index(answer.predicted)]
        print(f"{answer.file}\t{answer.predicted}\t{probability:.4f}", flush=True)
        answers.append(answer)
    if _CSV.value:
        write_csv(Path(_CSV.value), names, answers)
        print(f"{len(answers):,} rows: {_CSV.value}")


if __name__ == "__main__":
    run(main, positional="image files or folders")
