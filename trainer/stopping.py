"""What all workers decide between two blocks of steps: to save, to stop, and how long the next block is."""

import math
import signal
import time
from collections.abc import Callable
from typing import Final

from tfrecords import signals
from tfrecords.command import INTERRUPTED, STOPPED
from tfrecords.errors import EndedEarly
from trainer.blocks import LONGEST_BLOCK, Block
from trainer.callbacks.saving import SaveCheckpoints
from trainer.checkpoint import NotFinite
from trainer.workers.agreement import Sum, synchronise_before_exit

FIRST_BLOCK: Final = 1
_TICK_SECONDS: Final = 0.2  # between two exchanges, each of which takes about a millisecond
_BLOCK_SECONDS: Final = 4.0  # signals are handled between blocks: within 5 s, callbacks included


class Stopping:
    """Finds out whether the run must stop, because of a signal on any worker or because of its time limit.

    Args:
        add: returns the sums over the workers, see `sum_over_workers`.
        max_minutes: the run's time limit in minutes; 0: none.
        began: when the run started, in seconds of the clock.
        clock: returns seconds.
    """

    def __init__(
        self, add: Sum, *, max_minutes: float, began: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.add, self._max_minutes, self._began, self._clock = add, max_minutes, began, clock

    def look(self, *numbers: int) -> tuple[str, int, list[int]]:
        """Exchanges signals and numbers; all workers must call it at the same time, with as many numbers.

        Returns:
            why to stop ("" for no reason), the exit code for it, and the sums of the workers' numbers.
        """
        own = signals.heard()
        late = 0 < self._max_minutes <= (self._clock() - self._began) / 60
        mine = [int(own == signal.SIGTERM), int(own == signal.SIGINT), int(late)]
        terminated, interrupted, over, *sums = self.add([*mine, *numbers])
        if terminated:
            return f"stopped by SIGTERM{_elsewhere(mine[0])}", STOPPED, sums
        if interrupted:
            return f"interrupted{_elsewhere(mine[1])}", INTERRUPTED, sums
        if over:
            return f"stopped by --max_minutes={self._max_minutes:g}", STOPPED, sums
        return "", 0, sums

    def synchronise_before_exit(self) -> None:
        """Waits until all workers know why to stop, see `agreement.synchronise_before_exit`."""
        synchronise_before_exit(self.add)

    def now_and_then(self, saved: str) -> Callable[[], None]:
        """Returns a function that the chief calls often while it works and the other workers wait.

        The function looks for a reason to stop, at most every 0.2 s, and raises EndedEarly if there is one.

        Args:
            saved: what is saved by now, for the last line of the output.
        """
        looked = -math.inf

        def tick() -> None:
            nonlocal looked
            if self._clock() - looked < _TICK_SECONDS:
                return
            self._refuse(saved, 0)
            looked = self._clock()

        return tick

    def leave_together(self, saved: str, *, chief: bool) -> None:
        """Waits until the chief is done; meanwhile the others answer the exchanges of its `now_and_then`.

        Raises:
            EndedEarly: the run must stop before the chief is done.
        """
        while not self._refuse(saved, int(chief)):
            pass

    def _refuse(self, saved: str, done: int) -> int:
        why, code, (done,) = self.look(done)
        if why and not done:
            self.synchronise_before_exit()
            raise EndedEarly(f"{why}: {saved}", code)
        return done


class Pause:
    """Is called after each block of steps: saves if it is due, ends the run if it must stop.

    Args:
        saver: saves checkpoints.
        stopping: finds out whether the run must stop.
        chief: whether this worker is the chief, which decides when to save and how long blocks are.
        steps_per_epoch: of training.
    """

    def __init__(
        self, saver: SaveCheckpoints, stopping: Stopping, *, chief: bool, steps_per_epoch: int
    ) -> None:
        self._saver, self._stopping, self._chief = saver, stopping, int(chief)
        self._steps_per_epoch = steps_per_epoch

    def __call__(self, block: Block) -> int:
        """Returns the length of the next block.

        Raises:
            EndedEarly: the run was stopped and is saved, or its loss is not finite and nothing is saved.
        """
        in_train = block.phase == "train"
        step = block.epoch * self._steps_per_epoch + (block.end if in_train else self._steps_per_epoch)
        due = in_train and block.end < self._steps_per_epoch and self._saver.due(step)
        broken = not math.isfinite(block.loss)
        why, code, (saving, not_finite, length) = self._stopping.look(
            self._chief * due, int(broken), self._chief * next_length(block)
        )
        if not_finite:
            self._stopping.synchronise_before_exit()
            what = "loss" if in_train else "val_loss"
            raise NotFinite(f"epoch {block.epoch + 1}, step {step:,}: {what} is {block.loss}", step)
        if why or saving:
            self._saver.save(step, block.epoch)
        if why:
            self._stopping.synchronise_before_exit()  # the others may still be saving
            raise EndedEarly(
                f"{why}: saved after {place(block, self._steps_per_epoch)}; the same command goes on from "
                f"there",
                code,
            )
        return length


def next_length(block: Block) -> int:
    """Returns the steps of the next block: as many as take four seconds, at most twice as many as now."""
    in_time = _BLOCK_SECONDS / max(block.seconds / block.steps, 1e-9)
    return max(1, min(LONGEST_BLOCK, 2 * block.steps, int(in_time)))


def place(block: Block, steps_per_epoch: int) -> str:
    """Returns where in the run a block ended, in words."""
    if block.phase == "val":
        return f"epoch {block.epoch + 1}'s training, before its validation"
    return f"step {block.end:,} of {steps_per_epoch:,} of epoch {block.epoch + 1}"


def _elsewhere(here: int) -> str:
    return "" if here else " on another worker"
