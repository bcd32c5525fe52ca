"""Exceptions that end a command: bad input, or an early end with all work saved."""

from collections.abc import Sequence
from typing import Final

_NAMED: Final = 10  # names in a message


class InputError(ValueError):
    """Bad input: a flag, a file, a folder or a data set.

    The message names the thing, the value found, what is allowed and the fix. A command prints it
    without a traceback and exits with code 2; every other exception is an internal failure, code 1.
    """


class EndedEarly(Exception):  # noqa: N818  # it is not an error
    """The command ends early for a reason that is no bug: it was stopped, or lost a peer, for example.

    Or it has finished, but left something out.

    Args:
        message: the last line that is printed: what is saved, and what to do next.
        code: the exit code, one of those in `tfrecords.command`.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def first_names(names: Sequence[str]) -> str:
    """Returns names for a message, with commas: the first ten, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f", ... and {more:,} more" if more > 0 else "")
