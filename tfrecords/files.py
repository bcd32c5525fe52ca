"""Files that are whole or not there, also after a loss of power, what output flags name, and SHA-256."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError

_STDOUT: Final = 1
_DESCRIPTOR: Final = re.compile(r"/proc/(\d+)/(?:task/\d+/)?fd/(\d+)")
_MOST_LINKS: Final = 40  # as Linux follows
_LONGEST_NAME: Final = 255  # bytes, of Linux's file systems
_FIXES: Final = {
    errno.ENOENT: "make the folder {folder}, or name another file",
    errno.EISDIR: "name a file in it",
    errno.ELOOP: "its links lead round in a circle: remove them, or name another file",
    errno.EBADF: "no descriptor that is open for writing; name a file, or - for standard output",
    errno.ENOSPC: "make room, or name a file elsewhere",
}


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
    temporary = _temporary(path)
    try:
        temporary.write_bytes(data)
        publish(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


@dataclass(frozen=True)
class Output:
    """What an output flag names, opened by `open_output`.

    Attributes:
        said: the flag with its value, for errors.
        descriptor: what is written to.
        is_stdout: whether that is the command's standard output, so that what it prints belongs on stderr.
    """

    said: str
    descriptor: int
    is_stdout: bool

    def write(self, data: bytes) -> None:
        """Writes all of the data.

        Raises:
            InputError: it cannot be written.
            BrokenPipeError: standard output has no reader any more.
        """
        if self.is_stdout:
            print(end="", flush=True)  # what was printed before comes first
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self.descriptor, left) :]
        except BrokenPipeError:
            if self.is_stdout:
                raise
            raise InputError(f"{self.said}: who reads it has closed it; not all was written") from None
        except OSError as error:
            raise _refused(self.said, error) from None


@contextmanager
def open_output(flag: str, name: str) -> Iterator[Output]:
    """Opens what an output flag names, before the work whose outcome it takes.

    A regular file appears under its name when the block is through: whole, or not at all where the block
    raises. Symbolic links stay, the file behind them is replaced, and its permission bits are kept; other
    hard links to it keep the old content. What is no regular file, a pipe or a device, is written into and
    never replaced; so is an open descriptor (/dev/stdout, /dev/fd/3), whatever it leads to, for others
    write there too. `-` is standard output.

    Args:
        flag: its name, for errors.
        name: its value.

    Raises:
        InputError: it cannot be opened or written.
    """
    said = f"{flag}={name}"
    try:
        descriptor, temporary, target = _open(said, name)
    except OSError as error:
        raise _refused(said, error) from None
    try:
        yield Output(said, descriptor, _is_stdout(os.fstat(descriptor)))
        try:
            if temporary and target:
                _replace(temporary, target)
        except OSError as error:
            raise _refused(said, error) from None
    finally:
        os.close(descriptor)
        if temporary:
            temporary.unlink(missing_ok=True)


def write_output(flag: str, name: str, data: bytes) -> bool:
    """Writes what an output flag names, as `open_output` does; returns whether that is standard output.

    Raises:
        InputError: it cannot be written.
        BrokenPipeError: standard output has no reader any more.
    """
    with open_output(flag, name) as output:
        output.write(data)
    return output.is_stdout


def _open(said: str, name: str) -> tuple[int, Path | None, Path | None]:
    """Returns a descriptor and, for a file that is made or replaced, its hidden name and the final one."""
    if name == "-":
        return os.dup(_STDOUT), None, None
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - a Path raises where there is no such user
    if found := _descriptor_behind(path):
        process, number = found
        if process != os.readlink("/proc/self"):  # noqa: PTH115 - not a path
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY), None, None
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return os.dup(number), None, None  # opened anew, a file would be written from its start
    status = None
    with suppress(FileNotFoundError):
        status = path.stat()
    if name.endswith("/") or (status and stat.S_ISDIR(status.st_mode)):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if status and stat.S_ISBLK(status.st_mode):
        raise InputError(f"{said}: a disk or a part of one, which this would destroy; name a file")
    if status and _is_stdout(status):
        return os.dup(_STDOUT), None, None
    if status and not stat.S_ISREG(status.st_mode):
        return os.open(path, os.O_WRONLY | os.O_NOCTTY), None, None
    target = Path(os.path.realpath(path))
    temporary = _temporary(target)
    temporary.unlink(missing_ok=True)  # of a process that was killed and had the same number
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    if status:
        with suppress(OSError):  # only root gives files away
            os.fchown(descriptor, -1, status.st_gid)
            os.fchown(descriptor, status.st_uid, -1)
        with suppress(OSError):  # some file systems have no such bits
            os.fchmod(descriptor, status.st_mode & 0o777)
    return descriptor, temporary, target


def _descriptor_behind(path: Path) -> tuple[str, int] | None:
    """Returns the process and the number of the open descriptor that a name leads to; None: to none.

    Linux shows it as a link to the file that is open, which is not to be replaced by that name.
    """
    for _ in range(_MOST_LINKS):
        path = Path(os.path.realpath(path.parent)) / path.name
        if match := _DESCRIPTOR.fullmatch(str(path)):
            return match.group(1), int(match.group(2))
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return None


def _is_stdout(status: os.stat_result) -> bool:
    """Returns whether this is what standard output leads to; of devices only a terminal counts."""
    try:
        same = os.path.samestat(status, os.fstat(_STDOUT))
        return same and (not stat.S_ISCHR(status.st_mode) or os.isatty(_STDOUT))
    except OSError:  # it is closed
        return False


def _replace(temporary: Path, target: Path) -> None:
    try:
        publish(temporary, target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        shutil.copyfile(temporary, target)  # a file that is mounted by itself, as into a container
        sync(target)


def _refused(said: str, error: OSError) -> InputError:
    fix = _FIXES.get(error.errno or 0, "name a file elsewhere, or - for standard output")
    fix = fix.replace("{folder}", str(Path(error.filename or "").parent))
    return InputError(f"{said}: cannot be written: {error.strerror}; {fix}")


def _temporary(path: Path) -> Path:
    """Returns the hidden name beside a file under which it is written."""
    ending = f".{os.getpid()}.tmp"
    most = _LONGEST_NAME - 1 - len(ending)
    return path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:most])}{ending}")


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
