"""Predicts the class of image files with a trained model.

    python -m trainer.predict --run_dir=runs/chest_xray-cnn IMAGE_OR_FOLDER...

Prints a line for each file: the file, its predicted class, and the probability of that class. With two
classes the positive one is predicted if its probability reaches the threshold that was chosen on validation,
as in the run's report. A file that cannot be used is named on stderr with the reason; the others are still
predicted, and the exit code is 3. In folders, files that are no images, such as texts and tables, are skipped
and counted.
"""

from pathlib import Path

from data_pipeline.quiet import quiet_start
from tfrecords.command import define_path, run
from tfrecords.errors import InputError
from trainer.run import Run

_RUN_DIR = define_path("run_dir", None, "The folder of the run whose model predicts.", required=True)
_CSV = define_path(
    "csv",
    None,
    "A file to write a table into, with a row for each image file: the probability of every class, or the "
    "reason why the file was left out. - writes the table to standard output, and everything else to stderr.",
)


def main(arguments: list[str]) -> None:
    """Parses the flags and predicts."""
    if not arguments:
        raise InputError("no image given; name files or folders after the flags")
    opened = Run.load(Path(_RUN_DIR.value))
    with quiet_start():
        from trainer.predict.writing import write_predictions
    write_predictions(opened, [Path(argument) for argument in arguments], _CSV.value or "")


if __name__ == "__main__":
    run(main, positional="image files or folders", paths=True)
