"""Files that are whole or not there, and their SHA-256."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from tfrecords.errors import InputError


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that under its name there is the old content or all of the new.

    Raises:
        InputError: it cannot be written.
    """
    try:
        replace_atomically(path, data)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}; make room or choose another folder"
        ) from None


def replace_atomically(path: Path, data: bytes) -> None:
    """Does what `write_atomically` does, for those who know better what to advise.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
