"""Locks of an output folder: one conversion at a time, or several tasks of one array job.

A lock is a file that names its holder, host and process, and that the holder has locked. The system frees the
lock of a process of this host that ends in any way. Over a network file system nobody can tell whether a
process of another host is alive, so its lock is not taken over.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, TextIO

from tfrecords.errors import InputError
from tfrecords.files.locks import try_lock

LOCK_NAME: Final = "convert.lock"
TASK_LOCKS: Final = "convert-*-of-*.lock"  # one for each task of an array job


@contextmanager
def conversion_lock(out: Path) -> Iterator[None]:
    """Makes the output folder and keeps other conversions out of it while the block runs.

    Raises:
        InputError: another conversion runs there, or the folder cannot be made.
    """
    with _held(out, out / LOCK_NAME):
        for path in sorted(out.glob(TASK_LOCKS)):
            _refuse_held(out, path)
            path.unlink(missing_ok=True)  # left by a killed task
        yield


@contextmanager
def task_lock(out: Path, task: int, tasks: int) -> Iterator[None]:
    """Makes the output folder; keeps out a second process of this task, and conversions that are no tasks.

    The other tasks run at the same time. The lock of a killed task is taken over even if it ran on another
    host, because a scheduler may restart a task on any host. If the first process is alive after all, both
    write the same bytes, each under a hidden name of its own, and rename.

    Raises:
        InputError: this task or a conversion runs already, or the folder cannot be made.
    """
    with _held(out, out / f"convert-{task}-of-{tasks}.lock", from_any_host=True):
        _refuse_held(out, out / LOCK_NAME)
        yield


def is_lock(name: str) -> bool:
    """Returns whether a file name is that of a lock."""
    return name == LOCK_NAME or fnmatch(name, TASK_LOCKS)


def _refuse_held(out: Path, path: Path) -> None:
    """Raises InputError if another process holds a lock, or if it was left by another host."""
    try:
        file = path.open()
    except FileNotFoundError:
        return
    with file:
        holder = file.read().strip()
        if not try_lock(file, shared=True):
            raise _in_use(out, holder)
        _refuse_foreign(path, holder)


def _in_use(out: Path, holder: str) -> InputError:
    return InputError(
        f"--out={out}: another conversion runs there ({holder}); wait for it, or choose another --out"
    )


def _refuse_foreign(path: Path, holder: str) -> None:
    if holder and not holder.startswith(f"host {socket.gethostname()},"):
        raise InputError(
            f"{path}: left by a conversion on another host ({holder}); if that one does not run any more, "
            f"remove this file and run the same command again"
        )


@contextmanager
def _held(out: Path, path: Path, *, from_any_host: bool = False) -> Iterator[None]:
    with _open_lock(out, path) as file:
        file.seek(0)
        holder = file.read().strip()
        # The holder may have removed the file after it was opened here.
        free = try_lock(file) and path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
        if not free:
            raise _in_use(out, holder)
        if not from_any_host:
            _refuse_foreign(path, holder)
        try:
            file.truncate(0)
            # Not through the file's buffer, which would be written again when the file is closed.
            os.write(file.fileno(), f"host {socket.gethostname()}, process {os.getpid()}\n".encode())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise InputError(
                f"{path}: cannot be written: {error.strerror}; make room or choose another --out"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _open_lock(out: Path, path: Path) -> TextIO:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise InputError(
            f"--out={out}: cannot be made or written: {error.strerror}; choose another --out"
        ) from None
