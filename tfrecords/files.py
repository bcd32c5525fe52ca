"""Files that are whole or not there, also after a loss of power, and their SHA-256."""

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
        temporary.write_bytes(data)
        publish(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def publish(temporary: Path, path: Path) -> None:
    """Gives a complete file its final name: its bytes reach the disk first, then the name does.

    Raises:
        OSError: it cannot be synced or renamed.
    """
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until the bytes of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
