"""What an exit code means for who started the command; docs/architecture.md has the table of all codes."""

import signal
from typing import Final

BUG: Final = 1
BAD_INPUT: Final = 2
STOPPED: Final = 75  # saved; the same command goes on
PEER_LOST: Final = 76  # another process of the training was lost: all are to be started again
NOT_FINITE: Final = 77  # the loss: the same again would end the same way
INTERRUPTED: Final = 130


def starts_again(code: int) -> bool:
    """Returns whether all processes are to be started again after one ended with this code.

    Args:
        code: as `subprocess` counts: -N where signal N ended it.
    """
    return code == PEER_LOST or code < 0


def exit_code(code: int) -> int:
    """Returns the launcher's code for that of its command: 128 + N where signal N ended it."""
    return 128 - code if code < 0 else code


def in_words(code: int) -> str:
    """Returns how a process ended."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"left with code {code}"
