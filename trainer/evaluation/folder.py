"""Writes the folder of a report: each file appears whole, and in a new folder all appear together."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError
from tfrecords.files.atomic import publish, publish_folder, temporary_path

# Among a report's facts: what it is of.
MODEL_FACT: Final = "model file"  # "SHA-256 ..." of the model that was evaluated; "none yet" of one so far
PLAN_FACT: Final = "data plan"  # fingerprint of the data that it was evaluated on

_NOT_ALWAYS: Final = (
    "mistakes.png",
    "stress.png",
    "stress.csv",
    "prevalence.png",
)  # files that not every report has


def write_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    """Writes files in the given order, each whole; a new directory appears with all of them.

    Raises:
        InputError: It cannot be written.
    """
    place = directory.resolve()  # follow a link instead of replacing it
    try:
        there = place.exists()
        beside = place if there else place.parent  # an existing directory may be on another disk
        beside.mkdir(parents=True, exist_ok=True)
        partial = temporary_path(beside / place.name)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            for name, content in files.items():
                (partial / name).write_bytes(content)
            if not there and _appears(partial, place):
                return
            for name in _NOT_ALWAYS:  # of an earlier report, about another model or another split
                if name not in files:
                    (place / name).unlink(missing_ok=True)
            for name in files:
                publish(partial / name, place / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot write the report to {directory}: {error.strerror or error}. "
            "Give a directory that can be written, on a disk with free space"
        ) from error


def _appears(partial: Path, place: Path) -> bool:
    """Gives the complete directory its name; returns False if another process was faster."""
    try:
        publish_folder(partial, place)
    except OSError:
        if not place.is_dir():
            raise
        return False
    return True
