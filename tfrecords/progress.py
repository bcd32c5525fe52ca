"""How far a command is, told to a launcher (a start that saved something was not in vain) and to people."""

import os
import sys
from typing import Final

from tfrecords.errors import InputError
from tfrecords.files.outputs import write_output

PROGRESS_VARIABLE: Final = "LAUNCH_PROGRESS"  # names the file, where a launcher wants to know


def tell_launcher(saved: str) -> None:
    """Writes one line, as `step 1200`; only whether it changed counts.

    A file that cannot be written is said on stderr, and no reason to end what was saved.
    """
    path = os.environ.get(PROGRESS_VARIABLE)
    if not path:
        return
    try:
        write_output(PROGRESS_VARIABLE, path, f"{saved}\n".encode())
    except InputError as error:
        print(error, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Returns `48s`, `3m20s` or `2h05m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
