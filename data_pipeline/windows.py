"""The order of a stream, computed without reading: interleaved shards, cut into shuffled windows.

An epoch permutes the shards and interleaves them as `tf.data.Dataset.interleave` does: `CYCLE` shards at a
time, `BLOCK` records of one before the next. This sequence is cut into windows, and the records of each
window are permuted among themselves. So the record at each position follows from the number of records in
each shard, from (seed, epoch), and from the position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.splitmix64 import stateless_bits

CYCLE: Final = 8  # shards that are interleaved at a time
BLOCK: Final = 16  # records of one shard before the next shard's turn
SALT: Final = 0x77696E646F77  # keeps these orders apart from other uses of the same seed

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EpochOrder:
    """The records of an epoch before the shuffle, as runs of consecutive records of one shard.

    Attributes:
        shard: int64 [K], the shard of each run.
        record: int64 [K], the first record of each run, counted in its shard.
        start: int64 [K + 1], the position of each run in the epoch, then the end of the epoch.
    """

    shard: Integers
    record: Integers
    start: Integers

    def at(self, position: Integers) -> tuple[Integers, Integers]:
        """Returns the shard and the record at positions of the epoch, int64 [B] each."""
        run = np.searchsorted(self.start, position, side="right") - 1
        return self.shard[run], self.record[run] + position - self.start[run]


def interleaved(
    records: Sequence[int], turn: Sequence[int], *, cycle: int = CYCLE, block: int = BLOCK
) -> EpochOrder:
    """Returns the order in which tf.data's deterministic interleave reads shards.

    Args:
        records: number of records in each shard.
        turn: the shards in the order in which they are opened.
        cycle: number of shards that are interleaved at a time.
        block: number of records of one shard before the next shard's turn.
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
            if count < block:  # the shard has ended: the next round opens another in its place
                slots[at] = None
        at = (at + 1) % cycle
    shards, first, counts = np.array(runs, np.int64).reshape(-1, 3).T
    return EpochOrder(shards, first, np.concatenate([[0], np.cumsum(counts)]))


def sequential(records: Sequence[int]) -> EpochOrder:
    """Returns the order without a shuffle: all shards, one after the other."""
    shards = np.arange(len(records))
    return EpochOrder(
        shards, np.zeros_like(shards), np.concatenate([[0], np.cumsum(records)]).astype(np.int64)
    )


def records_per_window(window: int, shards: Sequence[Any], shown: int) -> int:
    """Returns how many records one window holds.

    Args:
        window: size of the window, bytes.
        shards: the shards of the split, with `records` and `bytes`.
        shown: number of records in an epoch.
    """
    mean = max(1, sum(shard.bytes for shard in shards) // sum(shard.records for shard in shards))
    return min(max(1, window // mean), shown)


def permutation(size: int, *, seed: int, epoch: int, window: int) -> Integers:
    """Returns an order of the records of one window: they are sorted by 64 random bits for each.

    Args:
        size: number of records in the window.
        seed: seed of the run.
        epoch: number of the epoch.
        window: number of the window in the epoch; -1 for the order of the shards.

    Returns:
        int64 [size].
    """
    bits = stateless_bits(SALT, seed, epoch, window, np.arange(size))
    return np.argsort(bits.view(np.int64), kind="stable")
