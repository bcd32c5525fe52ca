"""The progress of a command, told to its launcher, which counts a start that saved something as useful."""

import os
import sys
from typing import Final

from tfrecords.errors import InputError
from tfrecords.files.outputs import write_output

PROGRESS_VARIABLE: Final = "LAUNCH_PROGRESS"  # set by a launcher: the path of the progress file


def tell_launcher(saved: str) -> None:
    """Writes one line, for example `step 1200`; the launcher only looks whether it changed.

    If the file cannot be written, the error is printed on stderr and the command goes on.
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
