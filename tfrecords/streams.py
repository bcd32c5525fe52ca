"""Standard output and error of a command; a failed print never ends its work.

If the reader leaves (`| head`), the terminal closes or the disk is full, `print` would raise in the middle of
the work, before its result is saved. Here, later output is discarded instead. A reader that left needs no
message; for any other reason `lost` returns one when the work is done. Characters that the encoding of the
output lacks are escaped.
"""

import errno
import io
import os
import sys
from typing import Any, Final, TextIO

_GONE: Final = (errno.EPIPE, errno.EIO)  # the reader left, or the terminal was closed


class _Descriptor(io.FileIO):
    """An open descriptor whose `write` never fails; after an error, it discards all output."""

    lost: OSError | None = None  # why output was lost although its reader had not left

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _GONE:
                self.lost = error
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return memoryview(data).nbytes


_out: _Descriptor | None = None


def prepare() -> None:
    """Makes standard output and error of this process safe to print to; a second call does nothing.

    A closed descriptor (0, 1 or 2) is opened for reading, so that no file of the work gets its number and
    receives what is printed.
    """
    global _out  # noqa: PLW0603 - a process has one standard output
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # it gets the lowest free number, which is this one
    if _out is None and sys.stdout is sys.__stdout__:
        _out = _Descriptor(1, "wb", closefd=False)
        sys.stdout = _text(_out, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Descriptor(2, "wb", closefd=False), sys.stderr, line_buffering=True)


def lost() -> str:
    """Returns the error message for output that was lost; "" if all of it arrived."""
    sys.stdout.flush()
    if _out is None or _out.lost is None:
        return ""
    return (
        f"error: standard output: cannot be written: {_out.lost.strerror}; a part of the printed text is "
        f"lost; all else is done"
    )


def _text(descriptor: _Descriptor, like: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    """Returns a text stream like the given one, on another descriptor, that escapes unknown characters."""
    if like is not None:
        like.flush()
    at_once = getattr(like, "write_through", False)  # python -u
    return io.TextIOWrapper(
        descriptor if at_once else io.BufferedWriter(descriptor),
        encoding=like.encoding if like is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=line_buffering or getattr(like, "line_buffering", False),
        write_through=at_once,
    )
