"""Computes a perceptual hash of an image, and finds all close pairs of hashes without comparing every pair.

The hash is the DCT hash of pHash (Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010, section 3.2.1): 32x32 means, their two-dimensional DCT-II, and one bit for each of the 8x8
coefficients of frequencies 1 to 8: above their median or not. Integer arithmetic makes it the same
everywhere. A gradient hash (dHash) does not work for radiographs, which share one anatomy: among 5,216 of
them it gave 681 pairs of different images the same hash. This one gave none the same hash, and 3 pairs within
`NEAR_BITS`.

The search is that of Manku, Jain and Das Sarma, "Detecting near-duplicates for web crawling" (WWW 2007). The
bits form 6 blocks, and at most 3 blocks can hold one of 3 differing bits. So two near hashes agree in at
least 3 whole blocks, about 32 bits. For each of the 20 choices of 3 blocks the hashes are sorted by these
bits, and compared only with hashes that share them: 20 sorts instead of N * N / 2 comparisons.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

NEAR_BITS: Final = 3  # most differing bits of 64; a recompressed or resized image differs in 0 or 2

_GRID: Final = 32
_SAMPLES: Final = 8  # most rows and columns that are read in each cell of the grid
_BLOCK_EDGES: Final = (0, 10, 21, 32, 42, 53, 64)
_BITS_OF_BYTE: Final = np.array([byte.bit_count() for byte in range(256)], np.uint8)
_COSINES: Final = np.rint(
    1024 * np.cos(np.pi * np.outer(np.arange(1, 9), 2 * np.arange(_GRID) + 1) / (2 * _GRID))
).astype(np.int64)


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> int:
    """Returns the 64-bit hash of uint8 [H, W, C]; hashes of images that look alike differ in few bits."""
    height, width, channels = pixels.shape
    rows, columns = _sampled(height), _sampled(width)
    bands = np.zeros((_GRID, width, channels), np.int64)
    for offset in range(rows.shape[1]):
        bands += pixels[rows[:, offset]]
    cells = bands[:, columns].reshape(_GRID, _GRID, -1).sum(axis=2)
    means = 16 * cells // (rows.shape[1] * columns.shape[1] * channels)
    waves = (_COSINES @ means @ _COSINES.T).ravel()
    return int(np.packbits(waves > np.partition(waves, 31)[31]).view(">u8")[0])


@lru_cache(maxsize=8)
def _sampled(size: int) -> npt.NDArray[np.int64]:
    """Returns the indices to read in each of the 32 cells of a side, int64 [32, samples]."""
    samples = min(_SAMPLES, max(1, size // _GRID))
    count = _GRID * samples
    return ((2 * np.arange(count) + 1) * size // (2 * count)).reshape(_GRID, samples)


def near_pairs(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Returns all pairs (i, j), i < j, of hashes that differ in at most `NEAR_BITS` bits.

    Args:
        hashes: uint64 [N], all different.

    Returns:
        int64 [pairs, 2], sorted.
    """
    found = [np.empty((0, 2), np.int64)]
    for mask in _masks():
        keys = hashes & mask
        order = np.argsort(keys, kind="stable")
        keys, ordered = keys[order], hashes[order]
        step, begin = 1, np.flatnonzero(keys[1:] == keys[:-1])
        while begin.size:  # compares each with the hash `step` places on, while they share the key
            close = _bits(ordered[begin] ^ ordered[begin + step]) <= NEAR_BITS
            found.append(np.sort(np.stack([order[begin[close]], order[begin[close] + step]], 1), 1))
            step += 1
            begin = begin[begin + step < len(keys)]
            begin = begin[keys[begin] == keys[begin + step]]
    return np.unique(np.concatenate(found), axis=0)


def _bits(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Returns how many bits of each value are set; NumPy 1 has no `bitwise_count`."""
    return _BITS_OF_BYTE[values.view(np.uint8).reshape(-1, 8)].sum(axis=1, dtype=np.int64)


def _masks() -> Iterator[np.uint64]:
    blocks = [(1 << end) - (1 << start) for start, end in pairwise(_BLOCK_EDGES)]
    for chosen in combinations(blocks, len(blocks) - NEAR_BITS):
        yield np.uint64(sum(chosen))
