"""Scalars for TensorBoard: by epoch, and by training step within long epochs.

The folders `train` and `validation` are two runs of TensorBoard, so that a chart shows both. Their tags:

    epoch_NAME        each epoch's value, by epochs done before it
    steps/NAME        the epoch's running value, by training steps done; validation at the end of each epoch
    best_epoch/NAME   validation's value of each epoch that was the best so far, by its number (from 1)
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import keras

from trainer.evaluation.metric_table import MONITORS, best_epoch, is_better, monitored
from trainer.tensorboard.events import ScalarFile, drop_points

_EPOCH: Final = "epoch_"
_STEPS: Final = "steps/"
_BEST: Final = "best_epoch/"
_BEFORE: Final = "evaluation_"  # by training steps; Keras' own callback wrote it for earlier versions
_VAL: Final = "val_"


class Scalars(keras.callbacks.Callback):
    """Writes scalars; a resumed run writes no point twice and leaves none out.

    Each point is in its file before the checkpoint of its step is saved. A run that is killed may have
    written points after its last checkpoint; the resumed run removes these first, and then writes them again.

    Args:
        folder: the run's folder for TensorBoard.
        steps_per_epoch: training steps of one epoch.
        images_per_step: images of one step, over all replicas.
        log_steps: points within an epoch, every so many of its steps; 0: none by step at all.
        start: epochs done before, validation included, and training steps done, both since the run's start.
        history: the rows of the epochs done before.
        monitor: one of `metric_table.MONITORS`, which decides what the best epoch is.
        clock: returns seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        steps_per_epoch: int,
        images_per_step: int,
        log_steps: int = 0,
        start: tuple[int, int] = (0, 0),
        history: Sequence[dict[str, float]] = (),
        monitor: str = MONITORS[0],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self._folders = {"train": folder / "train", "validation": folder / "validation"}
        self._files = {name: ScalarFile(place) for name, place in self._folders.items()}
        self._steps_per_epoch, self._images_per_step = steps_per_epoch, images_per_step
        self._log_steps, self._start, self._clock = log_steps, start, clock
        best = best_epoch(monitor, history)
        self._monitor, self._best = monitor, monitored(monitor, history[best - 1]) if best else None
        self._since: tuple[int, float] | None = None  # a step of the epoch, and when it began

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Removes the points after those that the run goes on from.

        Raises:
            InputError: a file cannot be written.
        """
        epochs, steps = self._start
        for name, done in (("train", steps), ("validation", epochs * self._steps_per_epoch)):
            drop_points(self._folders[name], partial(_keep, epochs=epochs, steps=done))

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch."""
        self._epoch, self._since = epoch, None

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Notes when the first step of the next point began."""
        self._since = self._since or (batch, self._clock())

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the values so far, if that is due.

        Raises:
            InputError: the file cannot be written.
        """
        done = batch + 1
        if not self._log_steps or (done % self._log_steps and done < self._steps_per_epoch):
            return
        first, began = self._since or (batch, 0.0)
        speed = (done - first) * self._images_per_step / max(self._clock() - began, 1e-9)
        self._since = None
        rate = float(self.model.optimizer.learning_rate.numpy())
        values = {**(logs or {}), "learning_rate": rate, "images_per_second": speed}
        self._write("train", _STEPS, self._epoch * self._steps_per_epoch + done, values)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the values of the epoch.

        Raises:
            InputError: a file cannot be written.
        """
        logs = logs or {}
        train = {name: value for name, value in logs.items() if not name.startswith(_VAL)}
        val = {name.removeprefix(_VAL): value for name, value in logs.items() if name.startswith(_VAL)}
        self._write("train", _EPOCH, epoch, train)
        self._write("validation", _EPOCH, epoch, val)
        if self._log_steps:
            self._write("validation", _STEPS, (epoch + 1) * self._steps_per_epoch, val)
        value = monitored(self._monitor, logs)
        if is_better(self._monitor, value, self._best):
            self._best = value
            self._write("validation", _BEST, epoch + 1, val)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()

    def _write(self, name: str, prefix: str, step: int, values: dict[str, float]) -> None:
        self._files[name].write(step, {prefix + tag: value for tag, value in values.items()})


def _keep(tag: str, step: int, *, epochs: int, steps: int) -> bool:
    """Returns whether a point belongs to what is done: so many epochs, and in its folder so many steps."""
    if tag.startswith(_EPOCH):
        return step < epochs
    if tag.startswith(_BEST):
        return step <= epochs
    if tag.startswith((_STEPS, _BEFORE)):
        return step <= steps
    return True
