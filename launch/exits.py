"""What an exit code tells a launcher; docs/architecture.md has the table of all codes."""

import signal
from typing import Final

BUG: Final = 1
BAD_INPUT: Final = 2
STOPPED: Final = 75  # stopped and saved; the same command continues
PEER_LOST: Final = 76  # another process of the training was lost; all must be started again
NOT_FINITE: Final = 77  # the loss is not finite; another start would end the same way
INTERRUPTED: Final = 130


def starts_again(code: int) -> bool:
    """Returns whether all processes must be started again after one ended with this code.

    Args:
        code: the code as `subprocess` gives it: -N if signal N ended the process.
    """
    return code == PEER_LOST or code < 0


def exit_code(code: int) -> int:
    """Returns the launcher's own exit code: that of its command, or 128 + N if signal N ended the command."""
    return 128 - code if code < 0 else code


def describe_exit(code: int) -> str:
    """Returns in words how a process ended, as in `rank 1 WORDS`."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
