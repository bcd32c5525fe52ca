"""Which records come next: pure functions of (seed, epoch, position), the same for every worker."""

from typing import Any

import tensorflow as tf

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
        epoch: int64 scalar.
        size: records in the split.

    Returns:
        int64 [N].
    """
    key = tf.stack([tf.constant(_NONCE, tf.int64), tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    last = tf.constant(size - 1, tf.int64)
    return tf.raw_ops.RandomIndexShuffle(index=position, seed=key, max_index=last, rounds=_ROUNDS)
