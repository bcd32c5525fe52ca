"""Which share of an epoch each record has: by its class, its group, or the weight of its image in a file."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from data_pipeline.sampling.weights_file import read_weights
from tfrecords.errors import InputError, first_names

# The shares are whole numbers of this total, so that drawing by them is exact and the same on all machines.
# It divides 2**64, so that 64 random bits give each start in it equally often.
WHOLE: Final = 2**60
_FIELDS: Final = {"class": ("source", "label"), "group": ("source", "group")}
_FIELDS_OF_A_FILE: Final = ("source", "id")

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shares:
    """The shares of what an epoch draws from: records, or images of which it shows one variant; as tensors.

    Attributes:
        share: int64 [U], from 0 on; the sum is `WHOLE`.
        block: int64 [U], from 0 to blocks - 1: the class, or the group. A file makes one block.
        image: int64 [U], from 0 to images - 1; the variants of an image have one number.
        blocks: number of blocks.
        images: number of images.
    """

    share: Any
    block: Any
    image: Any
    blocks: int
    images: int


def fields_for(sampling: str) -> tuple[str, ...]:
    """Returns the fields of a record from which its share follows; () for "natural"."""
    return () if sampling == "natural" else _FIELDS.get(sampling, _FIELDS_OF_A_FILE)


def shares_of(sampling: str, columns: dict[str, Any], split: str, units: Indices | None = None) -> Shares:
    """Returns the shares of a split's records.

    "class" gives each class of the split the same share, "group" each group; within it each image has the
    same share. A file gives each image a share in proportion to its weight. The variants of an image that an
    epoch shows divide the image's share equally.

    The arithmetic is division and rounding of float64 and an exactly rounded sum, the same on all machines.

    Args:
        sampling: "class", "group", or the path of a file; see `read_weights`.
        columns: `fields_for(sampling)` of all records by name, tensors [N].
        split: name of the split, for errors.
        units: indices of the records to draw from, int64 [U]: one of each image; None: all.

    Raises:
        InputError: the file cannot be used, or it does not give each image of the split a weight.
    """
    chosen = {name: np.asarray(columns[name]) for name in fields_for(sampling)}
    if units is not None:
        chosen = {name: values[units] for name, values in chosen.items()}
    _, first, image = np.unique(chosen["source"], return_index=True, return_inverse=True)
    if sampling in _FIELDS:
        names, block = np.unique(chosen[_FIELDS[sampling][1]], return_inverse=True)
        weight = 1 / np.bincount(block[first])[block]
        blocks = len(names)
    else:
        weight, block, blocks = _weights_by_id(sampling, chosen["id"], split), np.zeros_like(image), 1
    weight /= np.bincount(image)[image]
    # Over the largest first, so that no sum of weights is too large for a float.
    weight /= weight.max()
    share = np.rint(weight / math.fsum(weight.tolist()) * WHOLE).astype(np.int64)
    share[share.argmax()] += WHOLE - share.sum()  # what rounding has left over
    # Tensors made here are inputs of the graphs that use them; as arrays they would be copied into each.
    share, block, image = (tf.constant(values, tf.int64) for values in (share, block, image))
    return Shares(share, block, image, blocks, len(first))


def _weights_by_id(path: str, ids: npt.NDArray[Any], split: str) -> npt.NDArray[np.float64]:
    weights = read_weights(path)
    names = [name.decode() for name in ids.tolist()]
    there = set(names)
    if unknown := [name for name in weights if name not in there]:
        raise InputError(
            f"--sampling={path}: {len(unknown):,} of its {len(weights):,} ids are of no image in split "
            f"{split!r}: {first_names(unknown)}; remove their lines, and write ids as in the column id of "
            f"sources.csv"
        )
    if missing := sorted(there - weights.keys()):
        raise InputError(
            f"--sampling={path}: {len(missing):,} of {len(there):,} images of split {split!r} have no line: "
            f"{first_names(missing)}; add a line for each (weight 0: it is never shown)"
        )
    return np.array([weights[name] for name in names], np.float64)
