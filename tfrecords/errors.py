"""How a command ends when it is not simply done: bad input, or early with all that was made saved."""

from collections.abc import Sequence
from typing import Final

_NAMED: Final = 10  # of many


class InputError(ValueError):
    """Bad input: a flag, a file, a folder or a data set.

    The message names the thing, the value found, what is allowed and the fix. A command prints it
    without a traceback and exits with code 2; every other exception is an internal failure, code 1.
    """


class EndedEarly(Exception):  # noqa: N818  # an end, not an error
    """The command ends before it is done, as it should: stopped, a peer lost, a loss that is not finite.

    Or it is done, but something was left out.

    Args:
        message: the last line that is printed: what is saved, and what to do.
        code: the exit code, one of `tfrecords.command`.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def first_names(names: Sequence[str]) -> str:
    """Returns names for a message, with commas: of many the first ten, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f", ... and {more:,} more" if more > 0 else "")
