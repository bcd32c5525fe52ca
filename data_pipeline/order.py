"""The order of records: pure functions of (seed, epoch, position), the same for every worker."""

from typing import Any

import tensorflow as tf

from data_pipeline.splitmix64 import stateless_bits
from data_pipeline.windows import SALT

# Rounds of the cipher. tf.random.experimental.index_shuffle has 4: too few for keys as close as (seed, 0) and
# (seed, 1). Epochs then resemble each other, and some are hardly shuffled (test_order.py).
_ROUNDS = 8
_NONCE = 498247692  # third word of the key, the value that index_shuffle uses


def steps_per_epoch(records: int, global_batch_size: int, last_batch: str) -> int:
    """Returns the steps of an epoch of `records`; "wrap" and "pad" round up, "drop" rounds down."""
    if last_batch == "drop":
        return records // global_batch_size
    return -(-records // global_batch_size)


def shuffled(position: Any, *, seed: int, epoch: Any, size: int) -> Any:
    """Returns the record at each position of an epoch's permutation of `size` records.

    The permutation is computed, not stored: TensorFlow's RandomIndexShuffle applies the block cipher Simon
    until the result is in range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Args:
        position: int64 [N], from 0 to size - 1.
        seed: seed of the run.
        epoch: int64 scalar, or [N].
        size: number of records in the split.

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
    """Returns an order of the records of one window: `windows.permutation` in TensorFlow ops.

    Args:
        size: number of records in the window, int64 scalar.
        seed: seed of the run.
        epoch: int64 scalar.
        window: number of the window in the epoch, int64 scalar; -1 for the order of the shards.

    Returns:
        int64 [size], a permutation.
    """
    position = tf.range(tf.cast(size, tf.int64))
    bits = tf.bitcast(stateless_bits(SALT, seed, epoch, window, position), tf.int64)
    return tf.cast(tf.argsort(bits, stable=True), tf.int64)
