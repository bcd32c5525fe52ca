"""The order of a stream, as numbers alone: shards side by side, cut into windows that are shuffled.

An epoch permutes the shards and reads `CYCLE` of them side by side, `BLOCK` records of one before the
next: what `tf.data.Dataset.interleave` does with these numbers. This sequence is cut into windows, and
the records of each are permuted among themselves. So the record at each position of an epoch follows from
the records in each shard, (seed, epoch), and the position: nothing needs to be read to know it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.splitmix64 import stateless_bits

CYCLE: Final = 8  # shards read side by side
BLOCK: Final = 16  # records taken from one before the next
SALT: Final = 0x77696E646F77  # keeps these orders apart from other uses of the same seed

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sequenced:
    """The records of an epoch before they are shuffled, as runs of neighbours in one shard.

    Attributes:
        shard: int64 [K], of each run.
        record: int64 [K], the run's first, counted in its shard.
        start: int64 [K + 1], the run's first position in the epoch, and the epoch's end.
    """

    shard: Integers
    record: Integers
    start: Integers

    def at(self, position: Integers) -> tuple[Integers, Integers]:
        """Returns shard and record of positions of the epoch, int64 [B] each."""
        run = np.searchsorted(self.start, position, side="right") - 1
        return self.shard[run], self.record[run] + position - self.start[run]


def side_by_side(
    records: Sequence[int], turn: Sequence[int], *, cycle: int = CYCLE, block: int = BLOCK
) -> Sequenced:
    """Returns the order in which tf.data's deterministic interleave reads shards.

    Args:
        records: of each shard.
        turn: the shards in the order in which they are opened.
        cycle: shards read side by side.
        block: records taken from one before the next.
    """
    runs: list[tuple[int, int, int]] = []
    waiting = iter(turn)
    slots: list[list[int] | None] = [None] * cycle  # shard, records read
    more, at, idle = True, 0, 0
    while idle < cycle:
        slot = slots[at]
        if slot is None and more:
            opened = next(waiting, None)
            more = opened is not None
            slot = slots[at] = None if opened is None else [opened, 0]
        if slot is None:
            idle += 1
        else:
            idle = 0
            shard, done = slot
            count = min(block, records[shard] - done)
            if count:
                runs.append((shard, done, count))
                slot[1] += count
            if count < block:  # its end is met: the next time round another takes its place
                slots[at] = None
        at = (at + 1) % cycle
    shards, first, counts = np.array(runs, np.int64).reshape(-1, 3).T
    return Sequenced(shards, first, np.concatenate([[0], np.cumsum(counts)]))


def one_after_another(records: Sequence[int]) -> Sequenced:
    """Returns the records of all shards in their order."""
    there = np.arange(len(records))
    return Sequenced(there, np.zeros_like(there), np.concatenate([[0], np.cumsum(records)]).astype(np.int64))


def records_per_window(window: int, shards: Sequence[Any], shown: int) -> int:
    """Returns how many records are shuffled among themselves.

    Args:
        window: bytes.
        shards: the split's, with `records` and `bytes`.
        shown: records of an epoch.
    """
    mean = max(1, sum(shard.bytes for shard in shards) // sum(shard.records for shard in shards))
    return min(max(1, window // mean), shown)


def permutation(size: int, *, seed: int, epoch: int, window: int) -> Integers:
    """Returns an order of the records of one of an epoch's windows, by 64 random bits for each.

    Args:
        size: records in the window.
        seed: of the run.
        epoch: its number.
        window: its number in the epoch; -1 for the order of the shards.

    Returns:
        int64 [size].
    """
    bits = stateless_bits(SALT, seed, epoch, window, np.arange(size))
    return np.argsort(bits.view(np.int64), kind="stable")
