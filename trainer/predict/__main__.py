"""Predicts the class of image files with a trained run.

    python -m trainer.predict --run_dir=runs/chest_xray-cnn IMAGE_OR_FOLDER...

Prints a line a file: the file, its class, the class's probability. Of two classes the positive one is
predicted from the probability on that was chosen on validation, as in the run's report. A file that cannot
be used is named on stderr with the reason, the others go on, and the exit code is 3. Files below folders
that are no images, as texts and tables, are passed over and counted.
"""

from pathlib import Path

from data_pipeline.quiet import quiet_start
from tfrecords.command import define_path, run
from tfrecords.errors import InputError
from trainer.run import Run

_RUN_DIR = define_path("run_dir", None, "Folder of the run.", required=True)
_CSV = define_path(
    "csv",
    None,
    "File for a table with the probability of every class, and the reason where a file was left out. "
    "- is standard output; all else is printed to stderr then.",
)


def main(arguments: list[str]) -> None:
    """Parses the flags and predicts."""
    if not arguments:
        raise InputError("no image given; name files or folders after the flags")
    opened = Run.load(Path(_RUN_DIR.value))
    with quiet_start():
        from trainer.predict.writing import write_answers
    write_answers(opened, [Path(argument) for argument in arguments], _CSV.value or "")


if __name__ == "__main__":
    run(main, positional="image files or folders", paths=True)
