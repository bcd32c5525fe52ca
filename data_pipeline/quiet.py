"""Imports TensorFlow without the start-up notes about which a user can do nothing."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# TensorFlow 2.16 to 2.21 prints these notes at every log level.
_NOISE = re.compile(
    rb"^(?:WARNING: All log messages before absl::InitializeLog"
    rb"|I0000 |To enable the following instructions"
    rb"|.*(?:oneDNN custom operations are on|Could not find cuda drivers|cudart_stub|computation_placer)"
    rb"|.*(?:cpu_feature_guard|failed call to cuInit|Unable to register cu\w+ factory|TF-TRT Warning))"
)


@contextmanager
def quiet_start() -> Iterator[None]:
    """Holds standard error back, then passes on all of it but the known notes.

    If the block raises, it passes on everything.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        known: re.Pattern[bytes] | None = None
        try:
            yield
            known = _NOISE
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            for line in held:
                if known is None or not known.match(line):
                    os.write(2, line)
