"""The progress line: one line for each epoch, and how far a long epoch is."""

import math
import shutil
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

import keras

from tfrecords.progress import duration
from trainer.evaluation.metric_table import PREFIX, in_the_line

_SHORT_EPOCH: Final = 1000  # steps: shorter epochs log nothing within
_MOST_LOGS: Final = 10  # in an epoch, unless --log_steps says otherwise


def log_steps(asked: int | None, steps_per_epoch: int) -> int:
    """Returns after how many steps of an epoch it is logged how far the epoch is; 0: never.

    Steps decide, not the time: a resumed run logs at the steps at which an uninterrupted one does.

    Args:
        asked: what --log_steps says; None: the length of an epoch decides. Epochs of fewer than 1,000 steps
            log nothing within. Longer ones log at most ten times, after a round number of steps.
        steps_per_epoch: training steps of one epoch.
    """
    if asked is not None:
        return asked
    if steps_per_epoch < _SHORT_EPOCH:
        return 0
    least = math.ceil(steps_per_epoch / _MOST_LOGS)
    power = 10 ** (len(str(least)) - 1)
    return next(int(factor * power) for factor in (1, 2, 2.5, 5, 10) if factor * power >= least)


class ProgressLine(keras.callbacks.Callback):
    """Prints one line for each epoch, and how far the epoch is.

    A terminal shows how far the epoch is after each block of steps, in one line that is rewritten. Any other
    output gets a line of its own every `log_steps` steps of an epoch.

    Args:
        epochs: the most epochs that the run may have.
        steps: training steps of one epoch.
        images_per_step: images of one step, over all replicas.
        log_steps: 0: no lines within an epoch.
        out: where to print; None: standard output.
        clock: returns seconds.
    """

    def __init__(
        self,
        epochs: int,
        steps: int,
        images_per_step: int = 0,
        log_steps: int = 0,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._epochs, self._steps, self._out, self._clock = epochs, steps, out or sys.stdout, clock
        self._images_per_step, self._log_steps = images_per_step, log_steps
        self._terminal = self._out.isatty()
        self._began: tuple[float, float] | None = None  # where in the run this process began, in epochs; when
        self._epoch_began: tuple[int, float] | None = None  # the same of this epoch, in steps

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch."""
        self._epoch, self._epoch_began = epoch, None

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Notes when this process began the run and the epoch, and at which step."""
        if self._epoch_began is None:
            now = self._clock()
            self._epoch_began = (batch, now)
            self._began = self._began or (self._epoch + batch / self._steps, now)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Prints how far the epoch is, if that is due."""
        done = batch + 1
        due = self._log_steps and done % self._log_steps == 0 and done < self._steps
        if self._terminal or due:
            text = self._line_within(done, logs or {})
            if self._terminal:  # a line that is longer than the terminal is wide could not be rewritten
                width = shutil.get_terminal_size().columns
                print(f"\r{text[: width - 1]}\033[K", end="", file=self._out, flush=True)
            else:
                print(text, file=self._out, flush=True)

    def _line_within(self, done: int, logs: dict[str, float]) -> str:
        assert self._epoch_began is not None
        first, began = self._epoch_began
        seconds = max(self._clock() - began, 1e-9) / (done - first)  # of a step
        left = duration(seconds * (self._steps - done))
        where = f"epoch {self._epoch + 1:3d}/{self._epochs}  step {done:,} of {self._steps:,}"
        speed = f"{self._images_per_step / seconds:,.0f} images/s"
        return f"{where}, {left} left in epoch | {in_the_line(logs)} | {speed}"

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Prints the epoch's line."""
        left = math.nan  # not known: this process has only validated so far
        if self._began:
            first, began = self._began
            left = (self._clock() - began) / (epoch + 1 - first) * (self._epochs - epoch - 1)
        start = "\r\033[K" if self._terminal else ""
        print(start + progress_line(epoch, self._epochs, logs or {}, left), file=self._out, flush=True)


def progress_line(epoch: int, epochs: int, logs: dict[str, float], left: float) -> str:
    """Returns the line of an epoch.

    Args:
        epoch: the epochs before this one.
        epochs: the most epochs that the run may have.
        logs: of the epoch.
        left: seconds for all epochs that may follow; NaN if not known.
    """
    parts = [f"epoch {epoch + 1:3d}/{epochs}  {in_the_line(logs)} | val {in_the_line(logs, PREFIX)}"]
    if logs["images_per_second"]:  # 0 where only the validation of the epoch was left to do
        speed = f"{logs['images_per_second']:,.0f} images/s, input wait {logs['input_wait']:.1%}"
        parts.append(speed + ("" if math.isnan(left) else f", at most {duration(left)} left"))
    return " | ".join(parts)
