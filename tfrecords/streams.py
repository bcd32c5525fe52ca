"""Standard output and error of a command: what they do not take never ends its work.

A reader that leaves (`| head`), a terminal that is gone and a disk that is full would make `print` raise in
the middle of the work, before its outcome is saved. Here what is printed from then on goes nowhere. Who left
has seen enough; of anything else `lost` tells, when the work is done. Characters that the output's encoding
does not have are escaped.
"""

import errno
import io
import os
import sys
from typing import Any, Final, TextIO

_GONE: Final = (errno.EPIPE, errno.EIO)  # the reader, the terminal


class _Descriptor(io.FileIO):
    """An open descriptor that takes all that is written, wherever it goes."""

    lost: OSError | None = None  # why something did not arrive at a reader that is still there

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
    """Makes standard output and error of this process such as this module tells; again, it does nothing.

    A descriptor that is closed is occupied, for the next file that is opened would get its number, and what
    is printed. Nothing can be written to it all the same.
    """
    global _out  # noqa: PLW0603 - a process has one standard output
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # it gets the lowest number that is free: this one
    if _out is None and sys.stdout is sys.__stdout__:
        _out = _Descriptor(1, "wb", closefd=False)
        sys.stdout = _text(_out, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Descriptor(2, "wb", closefd=False), sys.stderr, line_buffering=True)


def lost() -> str:
    """Returns the error of work that is done, but not all that it printed did arrive; "" where it did."""
    sys.stdout.flush()
    if _out is None or _out.lost is None:
        return ""
    return (
        f"error: standard output: cannot be written: {_out.lost.strerror}; what was printed is lost in part; "
        f"all else is done"
    )


def _text(descriptor: _Descriptor, like: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    """Returns a text stream as Python made it, but for the descriptor and what cannot be encoded."""
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
