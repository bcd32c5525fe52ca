"""A trace of some training steps, for TensorBoard's Profile page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf


class Profile(keras.callbacks.Callback):
    """Profiles training steps, each of which must be a block of its own (see `loop.Cuts.single`).

    Each step is marked in the trace, so that the page knows how long a step takes. It should be the first of
    the callbacks: then a marked step holds nothing of the others.

    Args:
        folder: the run's folder for TensorBoard; the trace is put into its `plugins/profile`.
        first: the first step to profile, counted from the run's start, from 0.
        end: the step after the last one.
        steps_per_epoch: training steps of one epoch.
        log: told what is profiled, and what is not.
    """

    def __init__(
        self, folder: Path, first: int, end: int, *, steps_per_epoch: int, log: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._folder, self._first, self._end = folder, first, end
        self._steps_per_epoch, self._log = steps_per_epoch, log
        self._name = f"--profile_steps={first},{end}"
        self._from: int | None = None  # the first step in the trace, while it is recorded
        self._next: int | None = None  # the step that comes next, once one has begun
        self._marked: Any = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the trace if it is due, and marks the step."""
        step = self._epoch * self._steps_per_epoch + batch
        if self._next is None and step > self._first:
            left = f"only steps {step:,} to {self._end - 1:,} are" if step < self._end else "none is"
            self._log(f"{self._name}: steps up to {step - 1:,} were done before this start: {left} profiled")
        self._next = step
        if self._first <= step < self._end:
            if self._from is None:
                self._from = step
                tf.profiler.experimental.start(str(self._folder))
            self._marked = tf.profiler.experimental.Trace("train", step_num=step, _r=1)
            self._marked.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Ends the step's mark, and after the last step the trace."""
        self._next = self._epoch * self._steps_per_epoch + batch + 1
        if self._marked is not None:
            self._marked.__exit__(None, None, None)
            self._marked = None
            if self._next == self._end:
                self._stop()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Ends the trace of a run that ends earlier."""
        if self._from is not None:
            self._stop()
        elif self._next is None:
            self._log(f"{self._name}: nothing is profiled: this start has trained no step")
        elif self._next <= self._first:
            self._log(f"{self._name}: nothing is profiled: the training ended after {self._next:,} steps")

    def _stop(self) -> None:
        """Writes the trace."""
        tf.profiler.experimental.stop()
        self._log(
            f"profiled steps {self._from:,} to {(self._next or 0) - 1:,}: the Profile page of tensorboard "
            f"--logdir={self._folder.parent} shows them (pip install xprof)"
        )
        self._from = None
