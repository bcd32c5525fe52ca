"""Blocks of steps, between which the loop calls callbacks, and where they end."""

from dataclasses import dataclass
from typing import Final, Literal

# Steps: Python and the callbacks between two blocks cost at most as much as one step.
LONGEST_BLOCK: Final = 50


@dataclass(frozen=True)
class Block:
    """A block of steps that has just ended.

    Attributes:
        phase: training or validation.
        epoch: epochs done before this one.
        end: steps of the epoch's phase that are done.
        steps: steps of this block.
        seconds: how long the block took.
        loss: mean loss of the phase so far.
    """

    phase: Literal["train", "val"]
    epoch: int
    end: int
    steps: int
    seconds: float
    loss: float


@dataclass(frozen=True)
class Cuts:
    """Steps after which a block of training ends, however long it is. All workers must be given the same.

    Attributes:
        of_run: at each multiple of this step, counted from the run's start; 0: at none.
        of_epoch: at each multiple of this step, counted from the epoch's start; 0: at none.
        single: (first, end): each step from `first` to before `end`, counted from the run's start, is a block
            of its own, without a loop in its graph: a profile takes the turns of such a loop for the steps.
    """

    of_run: int = 0
    of_epoch: int = 0
    single: tuple[int, int] = (0, 0)

    def alone(self, step: int) -> bool:
        """Returns whether the step that comes after `step` steps of the run is a block of its own."""
        return self.single[0] <= step < self.single[1]


def block_end(epoch: int, done: int, length: int, steps_per_epoch: int, cuts: Cuts) -> int:
    """Returns the step at which the next block ends, counted from the epoch's start.

    Args:
        epoch: epochs before this one.
        done: steps of this epoch that are done.
        length: the most steps of the block.
        steps_per_epoch: training steps of one epoch.
        cuts: where blocks end besides.
    """
    ends = [done + length, steps_per_epoch]
    of_run = epoch * steps_per_epoch + done
    if cuts.of_run:
        ends.append(done + cuts.of_run - of_run % cuts.of_run)
    if cuts.of_epoch:
        ends.append(done + cuts.of_epoch - done % cuts.of_epoch)
    first, end = cuts.single
    if of_run < end:
        ends.append(done + max(1, first - of_run))
    return min(ends)
