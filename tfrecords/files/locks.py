"""Locks between processes of one machine, by flock(2): the system frees the lock of a process that ends.

A lock across machines is another thing: see `trainer.lock`.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


def try_lock(file: IO[Any] | int, *, shared: bool = False) -> bool:
    """Locks an open file or folder until it is closed; returns False if another process has the lock.

    Args:
        file: an open file, or a descriptor.
        shared: whether others may hold the lock too, if theirs is shared as well.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(file: IO[Any] | int) -> None:
    """Locks an open file or folder until it is closed; waits for the process that has the lock.

    Raises:
        OSError: the file system has no locks.
    """
    fcntl.flock(file, fcntl.LOCK_EX)


@contextmanager
def file_lock(path: Path, *, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Holds the lock of a file, which is made if need be; waits for the process that has it.

    Args:
        path: of the file.
        on_wait: called before a wait, to tell the user.

    Raises:
        OSError: the file cannot be made, or its file system has no locks.
    """
    with path.open("w") as file:
        if not try_lock(file):
            on_wait()
            wait_for_lock(file)
        yield


def share_until_exit(path: Path) -> None:
    """Holds a shared lock on a file, which is made if need be, until this process ends.

    Its modification time becomes now. Waits for a process that has the lock for itself.

    Raises:
        OSError: the file cannot be made, or its file system has no locks.
    """
    path.touch()
    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_SH)  # never closed: the end of the process does it
