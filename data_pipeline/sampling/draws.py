"""Draws the records of one epoch by their shares: a pure function of (shares, seed, epoch)."""

from typing import Any, Final

import tensorflow as tf

from data_pipeline.order import shuffled
from data_pipeline.sampling.shares import WHOLE, Shares
from data_pipeline.splitmix64 import stateless_bits

_SALT: Final = 0x73616D70  # keeps these draws apart from other uses of the same seed


def drawn(shares: Shares, *, size: int, seed: int, epoch: Any) -> tuple[Any, Any]:
    """Draws `size` times with replacement; each epoch is as near to the shares as whole numbers can be.

    This is systematic sampling (Madow and Madow, "On the theory of systematic sampling", 1944): all shares
    lie side by side on a line, and `size` points at equal distances, with a random start, pick the records
    on whose shares they fall. Whatever has one piece of the line is drawn floor or ceil of its expected
    number of times, and that number on average over the starts: a record, an image with its variants, a
    class, a group. The order on the line is shuffled in each epoch, first blocks, then images in a block: in
    one order the same records would always come together.

    It takes the time of one sort of the records, once in an epoch.

    Args:
        shares: of what is drawn from.
        size: number of draws, less than 2**31.
        seed: seed of the run.
        epoch: int64 scalar.

    Returns:
        unit: int64 [size], indices into the shares, those of a block side by side.
        repeat: int64 [size], how many times the same was drawn before: 0, 1, ...
    """

    def permutation(size: int) -> Any:
        # The epoch's own order comes after this one: the two must not be the same, hence another seed.
        return shuffled(tf.range(size, dtype=tf.int64), seed=seed ^ _SALT, epoch=epoch, size=size)

    # Few blocks are permuted, then looked up: for a small range the cipher takes thousands of rounds.
    block = tf.gather(permutation(shares.blocks), shares.block)
    image = tf.gather(permutation(shares.images), shares.image)
    line = tf.argsort(block * shares.images + image, stable=True)
    ends = tf.cumsum(tf.gather(shares.share, line))
    start = tf.bitcast(stateless_bits(_SALT, seed, epoch) // (2**64 // WHOLE), tf.int64)
    draw = tf.range(size, dtype=tf.int64)
    # (draw * WHOLE + start) // size, without a product that is too large for int64.
    point = draw * (WHOLE // size) + (draw * (WHOLE % size) + start) // size
    place = tf.searchsorted(ends, point, side="right", out_type=tf.int64)
    first = tf.searchsorted(place, place, side="left", out_type=tf.int64)
    return tf.gather(tf.cast(line, tf.int64), place), draw - first
