"""When checkpoints are saved, and what they hold besides variables."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import keras

from trainer.callbacks.history import HistoryFiles
from trainer.checkpoint import Checkpoints, State, callback_state
from trainer.evaluation.metric_table import MONITORS, is_better, monitored

_NO_BEST: Final = (0, 0, float("inf"))


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves a checkpoint after each epoch and, when one is due, within it.

    It must be the last callback: it saves what the others have made of the epoch. The best epoch is the
    first one with the best value of `monitor`. Within an epoch it saves at the end of a block of steps. All
    workers take part in a save, so all must decide alike.

    Args:
        checkpoints: the checkpoints of the run.
        history: the rows to save.
        others: the callbacks whose state to save.
        resumed: the state of the checkpoint that the run resumed from, if it did.
        steps_per_epoch: training steps of one epoch.
        keep_meters: `Loop.keep_meters`.
        every_steps: a checkpoint is due at each multiple of this step of the run; 0: at none. The loop must
            end blocks there.
        minutes: a checkpoint is due when the last one is this old; 0: its age does not matter.
        check: called before each save; if it raises, nothing is saved.
        monitor: one of `metric_table.MONITORS`.
        clock: returns seconds.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        history: HistoryFiles,
        others: Sequence[keras.callbacks.Callback],
        resumed: State | None,
        *,
        steps_per_epoch: int,
        keep_meters: Callable[[], None] = lambda: None,
        every_steps: int = 0,
        minutes: float = 0.0,
        check: Callable[[], None] = lambda: None,
        monitor: str = MONITORS[0],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._checkpoints, self._history, self._others = checkpoints, history, others
        self._steps_per_epoch, self._keep_meters = steps_per_epoch, keep_meters
        self._every_steps, self._minutes, self._check, self._clock = every_steps, minutes, check, clock
        self._best = (resumed.best_epoch, resumed.best_step, resumed.best_loss) if resumed else _NO_BEST
        self._monitor = monitor
        self._monitored: float | None = None
        if resumed and resumed.best_epoch:
            self._monitored = monitored(monitor, resumed.history[resumed.best_epoch - 1])
        self._saved = clock()

    def due(self, step: int) -> bool:
        """Returns whether a checkpoint is due after this step of the run, which lies within an epoch."""
        old = self._minutes > 0 and self._clock() - self._saved >= 60 * self._minutes
        return old or (bool(self._every_steps) and step % self._every_steps == 0)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves.

        Raises:
            NotFinite: a variable to save is not finite.
        """
        step, row = (epoch + 1) * self._steps_per_epoch, logs or {}
        value = monitored(self._monitor, row)
        if is_better(self._monitor, value, self._monitored):
            self._best, self._monitored = (epoch + 1, step, row["val_loss"]), value
        self.save(step, epoch + 1)

    def save(self, step: int, epochs: int) -> None:
        """Saves after `step` training steps and `epochs` epochs whose validation is done too."""
        self._keep_meters()
        self._check()
        rows, state = tuple(self._history.rows), callback_state(self._others)
        self._checkpoints.save(State(step, epochs, *self._best, rows, state))
        self._saved = self._clock()
