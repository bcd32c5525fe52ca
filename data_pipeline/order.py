"""Which records come next: pure functions of (seed, epoch, position), the same for every worker."""

from typing import Any

import tensorflow as tf

from data_pipeline.windows import FACTORS, GOLDEN, SALT

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


def stateless_bits(*words: Any) -> Any:
    """Returns 64 random bits, uint64 of the words' common shape, that follow from int64 words alone."""
    bits = tf.constant(0, tf.uint64)
    for word in words:
        unsigned = tf.bitcast(tf.cast(word, tf.int64), tf.uint64)
        bits = mixed(tf.bitwise.bitwise_xor(bits, unsigned) + tf.constant(GOLDEN, tf.uint64))
    return bits


def mixed(bits: Any) -> Any:
    """Returns splitmix64's output function, a bijection of uint64."""
    for shift, factor in FACTORS:
        bits = _xor_shifted(bits, shift) * tf.constant(factor, tf.uint64)
    return _xor_shifted(bits, 31)


def _xor_shifted(bits: Any, shift: int) -> Any:
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64)))
