"""splitmix64 in NumPy: random 64-bit numbers that follow from a key alone.

`data_pipeline.splitmix64` has the same functions in TensorFlow ops, equal to the bit. The copies of an image,
the order of records and on-line augmentation follow from these numbers, so they must never change.

Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

INCREMENT: Final = 0x9E3779B97F4A7C15  # from one state of the sequence to the next
ROUNDS: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # (bits of the shift, factor)
LAST_SHIFT: Final = 31  # bits
UNUSED_BITS: Final = 11  # of 64: a float64 holds the other 53

Bits = npt.NDArray[np.uint64]


def mix(bits: Bits) -> Bits:
    """Returns splitmix64's output function of each state, a bijection of uint64; the shape of `bits`."""
    for shift, factor in ROUNDS:
        bits = (bits ^ bits >> np.uint64(shift)) * np.uint64(factor)
    return bits ^ bits >> np.uint64(LAST_SHIFT)


def stateless_bits(*words: Any) -> Bits:
    """Returns 64 random bits that follow from the words alone.

    Args:
        words: int64 each, of shapes that broadcast.

    Returns:
        uint64 of the words' common shape.
    """
    bits = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):  # NumPy warns of an overflow where all words are scalars
        for word in words:
            bits = mix((bits ^ np.asarray(word, np.int64).view(np.uint64)) + np.uint64(INCREMENT))
    return bits


def uniforms(keys: Any, count: int) -> npt.NDArray[np.float64]:
    """Returns the first numbers of the splitmix64 sequence of each key.

    Args:
        keys: integers of 64 bits, of any shape.
        count: numbers for each key. More numbers leave the first ones as they are.

    Returns:
        float64 [count, *keys.shape], in [0, 1).
    """
    keys = np.asarray(keys).astype(np.uint64)
    steps = np.uint64(INCREMENT) * np.arange(1, count + 1, dtype=np.uint64)
    bits = mix(keys + steps.reshape(-1, *[1] * keys.ndim))
    return (bits >> np.uint64(UNUSED_BITS)).astype(np.float64) * 2.0**-53
