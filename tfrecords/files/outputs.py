"""What an output flag names: a file, replaced as a whole; a pipe, a device or `-`, written into."""

import errno
import fcntl
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
from tfrecords.files.atomic import publish, sync, temporary_path

_STDOUT: Final = 1
_DESCRIPTOR: Final = re.compile(r"/proc/(\d+)/(?:task/\d+/)?fd/(\d+)")
_MOST_LINKS: Final = 40  # Linux follows no more
_FIXES: Final = {
    errno.ENOENT: "make the folder {folder}, or name another file",
    errno.EISDIR: "name a file in it",
    errno.ELOOP: "its symbolic links form a circle: remove them, or name another file",
    errno.EBADF: "it is not open for writing; name a file, or - for standard output",
    errno.ENOSPC: "make room, or name a file elsewhere",
}


@dataclass(frozen=True)
class Output:
    """What an output flag names, opened by `open_output`.

    Attributes:
        shown: the flag with its value, for errors.
        descriptor: the open file.
        is_stdout: whether it is the command's standard output; the command then prints messages on stderr.
    """

    shown: str
    descriptor: int
    is_stdout: bool

    def write(self, data: bytes) -> None:
        """Writes all of the data.

        Raises:
            InputError: it cannot be written.
            BrokenPipeError: standard output has no reader any more.
        """
        if self.is_stdout:
            print(end="", flush=True)  # earlier prints come first
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self.descriptor, left) :]
        except BrokenPipeError:
            if self.is_stdout:
                raise
            raise InputError(
                f"{self.shown}: its reader closed it before all was written; run both again"
            ) from None
        except OSError as error:
            raise _refused(self.shown, error) from None


@contextmanager
def open_output(flag: str, name: str) -> Iterator[Output]:
    """Opens what an output flag names; to be called before the work whose result is written.

    A regular file appears under its name when the block ends, and not at all if the block raises. A symbolic
    link stays: the file that it leads to is replaced and keeps its permission bits. Other hard links to that
    file keep the old content. A pipe or a device is written into and never replaced. So is an open descriptor
    (/dev/stdout, /dev/fd/3), because others may write there too. `-` is standard output.

    Args:
        flag: its name, for errors.
        name: its value.

    Raises:
        InputError: it cannot be opened or written.
    """
    shown = f"{flag}={name}"
    try:
        descriptor, temporary, target = _open(shown, name)
    except OSError as error:
        raise _refused(shown, error) from None
    try:
        yield Output(shown, descriptor, _is_stdout(os.fstat(descriptor)))
        try:
            if temporary and target:
                _replace(temporary, target)
        except OSError as error:
            raise _refused(shown, error) from None
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


def _open(shown: str, name: str) -> tuple[int, Path | None, Path | None]:
    """Returns a descriptor and, if a file is made or replaced, its hidden name and its final name."""
    if name == "-":
        return os.dup(_STDOUT), None, None
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - a Path raises where there is no such user
    if found := _descriptor_behind(path):
        process, number = found
        if process != os.readlink("/proc/self"):  # noqa: PTH115 - not a path
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY), None, None
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return os.dup(number), None, None  # a second open would write from the file's start
    status = None
    with suppress(FileNotFoundError):
        status = path.stat()
    if name.endswith("/") or (status and stat.S_ISDIR(status.st_mode)):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if status and stat.S_ISBLK(status.st_mode):
        raise InputError(f"{shown}: is a disk or a partition, which this would destroy; name a file")
    if status and _is_stdout(status):
        return os.dup(_STDOUT), None, None
    if status and not stat.S_ISREG(status.st_mode):
        return os.open(path, os.O_WRONLY | os.O_NOCTTY), None, None
    target = Path(os.path.realpath(path))
    temporary = temporary_path(target)
    temporary.unlink(missing_ok=True)  # left by a killed process of the same id
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    if status:
        with suppress(OSError):  # only root may give a file to another user
            os.fchown(descriptor, -1, status.st_gid)
            os.fchown(descriptor, status.st_uid, -1)
        with suppress(OSError):  # some file systems have no such bits
            os.fchmod(descriptor, status.st_mode & 0o777)
    return descriptor, temporary, target


def _descriptor_behind(path: Path) -> tuple[str, int] | None:
    """Returns the process id and the number of the open descriptor that a name leads to; None: to none.

    Linux shows a descriptor as a link to the open file, and that file must not be replaced.
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
    """Returns whether this is the file behind standard output; of devices only a terminal counts."""
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
        shutil.copyfile(temporary, target)  # the file is a mount of its own, as in a container
        sync(target)


def _refused(shown: str, error: OSError) -> InputError:
    fix = _FIXES.get(error.errno or 0, "name a file elsewhere, or - for standard output")
    fix = fix.replace("{folder}", str(Path(error.filename or "").parent))
    return InputError(f"{shown}: cannot be written: {error.strerror}; {fix}")
