"""Which records come next: pure functions of (seed, epoch, position), the same for every worker."""

from typing import Any

import tensorflow as tf

from data_pipeline.splitmix64 import stateless_bits
from data_pipeline.windows import SALT

# Of the cipher. tf.random.experimental.index_shuffle has 4: too few for keys as close as (seed, 0),
# (seed, 1), ...; epochs then resemble each other, and some are hardly shuffled (tests: test_order.py).
_ROUNDS = 8
_NONCE = 498247692  # fills the key's third word, as index_shuffle does


def steps_per_epoch(records: int, global_batch_size: int, last_batch: str) -> int:
    """Returns the steps that an epoch of `records` takes; "wrap" and "pad" round up, "drop" down."""
    if last_batch == "drop":
        return records // global_batch_size
    return -(-records // global_batch_size)


def shuffled(position: Any, *, seed: int, epoch: Any, size: int) -> Any:
    """Returns the record at each position of an epoch's permutation of `size` records.

    The permutation is computed, not stored: TensorFlow's RandomIndexShuffle, the block cipher Simon
    cycle-walked into the range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Args:
        position: int64 [N], from 0 to size - 1.
        seed: of the run.
        epoch: int64 scalar, or [N].
        size: records in the split.

    Returns:
        int64 [N].
    """
    epoch = tf.cast(epoch, tf.int64)
    key = tf.stack(
        [tf.fill(tf.shape(epoch), tf.constant(one, tf.int64)) for one in (_NONCE, seed)] + [epoch], -1
    )
    last = tf.constant(size - 1, tf.int64)
    return tf.raw_ops.RandomIndexShuffle(index=position, seed=key, max_index=last, rounds=_ROUNDS)


def window_shuffled(size: Any, *, seed: int, epoch: Any, window: Any) -> Any:
    """Returns what `windows.permutation` does, in a graph: an order of the records of one window.

    Args:
        size: records in the window, int64 scalar.
        seed: of the run.
        epoch: int64 scalar.
        window: its number in the epoch, int64 scalar; -1 for the order of the shards.

    Returns:
        int64 [size], a permutation.
    """
    position = tf.range(tf.cast(size, tf.int64))
    bits = tf.bitcast(stateless_bits(SALT, seed, epoch, window, position), tf.int64)
    return tf.cast(tf.argsort(bits, stable=True), tf.int64)
