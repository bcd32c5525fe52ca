"""Files and folders that appear under their name whole or not at all, also after a loss of power.

Each is written under a hidden name beside it. Then its bytes are synced, it is renamed, and its folder is
synced, so that the new name is on the disk too.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from tfrecords.errors import InputError

_LONGEST_NAME: Final = 255  # bytes, of Linux's file systems


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file; until all of it is on the disk, its name keeps the old content.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        replace_atomically(path, data)
    except OSError as error:
        raise cannot_write(path, error) from None


def replace_atomically(path: Path, data: bytes) -> None:
    """Does what `write_atomically` does, for callers that give their own advice.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = temporary_path(path)
    try:
        temporary.write_bytes(data)
        publish(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def create_atomically(path: Path, data: bytes, *, writer: int) -> bool:
    """Writes a file unless it exists; of several writers, exactly one creates it.

    Args:
        path: of the file.
        data: its content.
        writer: a number that no other writer has, on any machine; it is part of the hidden name.

    Returns:
        whether this call created the file.

    Raises:
        InputError: the file cannot be written.
    """
    temporary = temporary_path(path, writer)
    try:
        temporary.write_bytes(data)
        sync(temporary)
        created = True
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            created = False
        temporary.unlink()
        sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None
    return created


def cannot_write(path: Path, error: OSError) -> InputError:
    """Returns the error for a file that cannot be written."""
    return InputError(f"{path}: cannot be written: {error.strerror}; make room or choose another folder")


def temporary_path(path: Path, writer: int | None = None) -> Path:
    """Returns the hidden name beside a file under which it is written.

    Args:
        path: of the file.
        writer: a number that tells writers apart; None: the id of this process.
    """
    ending = f".{os.getpid() if writer is None else writer}.tmp"
    longest = _LONGEST_NAME - 1 - len(ending)
    return path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:longest])}{ending}")


def publish(temporary: Path, path: Path) -> None:
    """Gives a complete file its final name: first its bytes reach the disk, then its name does.

    Raises:
        OSError: it cannot be synced or renamed.
    """
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def publish_folder(temporary: Path, folder: Path) -> None:
    """Gives a complete folder its final name: first all files in it reach the disk, then its name does.

    Raises:
        OSError: it cannot be synced or renamed; a folder that is not empty is not replaced.
    """
    sync_tree(temporary)
    temporary.rename(folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Waits until the bytes of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Waits until a folder, with all files in it, is on the disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def sync_open_file(file: IO[Any]) -> None:
    """Waits until all that was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
