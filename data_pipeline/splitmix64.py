"""splitmix64 in TensorFlow ops: the functions of `tfrecords.splitmix64`, equal to the bit; see `uniforms`."""

from typing import Any

import tensorflow as tf

from tfrecords.splitmix64 import INCREMENT, LAST_SHIFT, ROUNDS, UNUSED_BITS


def mix(bits: Any) -> Any:
    """Returns splitmix64's output function of each state, a bijection of uint64; the shape of `bits`."""
    for shift, factor in ROUNDS:
        bits = _xor_shifted(bits, shift) * tf.constant(factor, tf.uint64)
    return _xor_shifted(bits, LAST_SHIFT)


def stateless_bits(*words: Any) -> Any:
    """Returns 64 random bits that follow from the words alone.

    Args:
        words: int64 each, of shapes that broadcast.

    Returns:
        uint64 of the words' common shape.
    """
    bits = tf.constant(0, tf.uint64)
    for word in words:
        unsigned = tf.bitcast(tf.cast(word, tf.int64), tf.uint64)
        bits = mix(tf.bitwise.bitwise_xor(bits, unsigned) + tf.constant(INCREMENT, tf.uint64))
    return bits


def uniforms(keys: Any, count: int) -> Any:
    """Returns the first numbers of the splitmix64 sequence of each key.

    While a tf.function is traced, TensorFlow reads the list of steps as float64, which rounds them to 53
    bits. So a train step gets other numbers than NumPy, which are as random. They stay, because runs have
    been trained with them (test_splitmix64.py).

    Args:
        keys: int64 [B].
        count: numbers for each key. More numbers leave the first ones as they are.

    Returns:
        float64 [count, B], in [0, 1).
    """
    steps = tf.constant([number * INCREMENT % 2**64 for number in range(1, count + 1)], tf.uint64)
    bits = mix(tf.bitcast(keys, tf.uint64) + steps[:, None])
    used = tf.bitwise.right_shift(bits, tf.constant(UNUSED_BITS, tf.uint64))
    return tf.cast(used, tf.float64) * 2.0**-53


def _xor_shifted(bits: Any, shift: int) -> Any:
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64)))
