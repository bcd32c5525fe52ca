"""`python -m trainer.main`, waiting after each block of steps as long as a file is there; run by the tests.

SLOWED=FILE python slowed.py FLAGS OF trainer.main...
"""

import os
import time
from pathlib import Path
from typing import Any

from tfrecords.command import run
from trainer import main, stopping

_WAIT_SECONDS = 1.2
_call = stopping.Pause.__call__


def _slowed(self: stopping.Pause, block: Any) -> int:
    if Path(os.environ["SLOWED"]).exists():
        time.sleep(_WAIT_SECONDS)
    return _call(self, block)


if __name__ == "__main__":
    stopping.Pause.__call__ = _slowed
    run(main.main)
