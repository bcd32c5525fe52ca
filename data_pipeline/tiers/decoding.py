"""Decodes a split once into one array; its shards are read in parallel."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from data_pipeline.damage import named_damage
from data_pipeline.parse import parse_batch
from data_pipeline.stream.local import LocalShards, aligned
from tfrecords.manifest import Manifest

Array = npt.NDArray[Any]

_LARGEST_BATCH: Final = 256 << 10  # bytes that one op decodes: more is no faster and takes memory
_MOST_READERS: Final = 16  # shards read side by side
# This part of a split is in the readers' batches at a time. Each batch is in memory four times (buffered,
# serialized, parsed, decoded), so together they take a sixteenth of the split's size.
_UNDER_WAY: Final = 1 / 64
_AT_ONCE: Final = 16 << 20  # bytes of raw records read at once


def load(directory: Path, manifest: Manifest, split: str, fields: tuple[str, ...]) -> dict[str, Any]:
    """Reads a split into memory, in the order of its shards.

    It takes at most 1.15 times the memory of what it returns, if that is 200 MB or more. TensorFlow itself
    takes about 20 MB.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        split: name of the split.
        fields: names out of `tfrecords.example.FIELDS`.

    Returns:
        a tensor for each field: `image` uint8 [N, H, W, C], `label` int32 [N], `source` and `copy`
        int64 [N], `id` and `group` string [N].

    Raises:
        InputError: a shard is missing, cut or damaged; names it and the record.
    """
    images = None
    if "image" in fields:
        images = aligned((manifest.split(split).records, *manifest.image_shape))
    columns = read(directory, manifest, split, fields, images)
    tensors = {name: tf.constant(values) for name, values in columns.items()}
    return tensors if images is None else tensors | {"image": in_place(images)}


def in_place(images: npt.NDArray[np.uint8]) -> Any:
    """Returns a tensor that shares the memory of a writable array, instead of copying it."""
    return tf.experimental.dlpack.from_dlpack(images.__dlpack__())


def read(
    directory: Path,
    manifest: Manifest,
    split: str,
    fields: tuple[str, ...],
    images: npt.NDArray[np.uint8] | None,
) -> dict[str, Array]:
    """Reads a split's fields in the order of its shards; fills a given array with the images.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        split: name of the split.
        fields: names out of `tfrecords.example.FIELDS`.
        images: uint8 [N, H, W, C], which is filled; None if "image" is not among the fields.

    Returns:
        the other fields by name, [N].

    Raises:
        InputError: a shard is missing, cut or damaged; names it and the record.
    """
    if images is not None and manifest.encoding == "raw":
        with named_damage(directory, manifest, split):
            return _read_in_place(directory, manifest, split, fields, images)
    shards = manifest.split(split).shards
    first = np.cumsum([0, *(shard.records for shard in shards)])
    rows, readers = _batch_and_readers(manifest, split)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def parse(serialized: Any) -> dict[str, Any]:
        return parse_batch(serialized, manifest, fields)

    def read_shard(number: int) -> dict[str, Array]:
        shard, at = shards[number], int(first[number])
        parts: dict[str, list[Array]] = {name: [] for name in fields if name != "image"}
        records = tf.data.TFRecordDataset(str(directory / shard.name), buffer_size=_LARGEST_BATCH)
        for serialized in records.batch(rows):
            end = at + len(serialized)
            if end > first[number + 1]:
                raise ValueError(f"{shard.name}: more than the {shard.records} records of the manifest")
            batch = parse(serialized)
            if images is not None:
                images[at:end] = memoryview(batch["image"])
            for name, values in parts.items():
                values.append(batch[name].numpy())
            at = end
        if at != first[number + 1]:
            raise ValueError(f"{shard.name}: {at - first[number]} records, the manifest says {shard.records}")
        # A shard whose images were all left out has no records, so it gives no column and no dtype.
        return {name: np.concatenate(values) for name, values in parts.items() if values}

    with named_damage(directory, manifest, split), ThreadPoolExecutor(readers) as pool:
        parts = list(pool.map(read_shard, range(len(shards))))
    names = [name for name in fields if name != "image"]
    return {name: np.concatenate([part[name] for part in parts if name in part]) for name in names}


def _read_in_place(
    directory: Path, manifest: Manifest, split: str, fields: tuple[str, ...], images: npt.NDArray[np.uint8]
) -> dict[str, Array]:
    """Does what `read` does for raw images: each is read from its shard straight into its place."""
    _, readers = _batch_and_readers(manifest, split)
    shards = LocalShards(directory, manifest, split, window=_AT_ONCE, seed=0, shuffle=False, threads=readers)
    pixels = images.reshape(len(images), -1)
    parts = []
    for first in range(0, len(images), shards.window):
        position = np.arange(first, min(first + shards.window, len(images)))
        parts.append(shards.parsed(0, position, fields, pixels[first : first + len(position)]))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in fields if name != "image"}
    return columns | ({"label": columns["label"].astype(np.int32)} if "label" in columns else {})


def _batch_and_readers(manifest: Manifest, split: str) -> tuple[int, int]:
    """Returns how many records one op parses, and how many shards are read side by side."""
    described = manifest.split(split)
    under_way = int(described.records * _UNDER_WAY)
    readers = max(1, min(os.cpu_count() or 1, _MOST_READERS, len(described.shards), under_way))
    rows = max(1, min(_LARGEST_BATCH // int(np.prod(manifest.image_shape)), under_way // readers))
    return rows, readers
