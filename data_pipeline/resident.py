"""Data that fits into memory: a split decoded once into tensors, then gathered by index."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from data_pipeline.parse import named_damage, parse_batch
from tfrecords.example import FIELDS
from tfrecords.manifest import Manifest

_BATCH = 256  # records parsed by one op
_ALIGNMENT = 64  # bytes: TensorFlow reads a foreign buffer in place only if it starts so


def load(directory: Path, manifest: Manifest, split: str) -> dict[str, Any]:
    """Reads a split into memory, in the order of its shards.

    Returns:
        a tensor for each field: `image` uint8 [N, H, W, C], `label` int32 [N], `source` and `copy`
        int64 [N], `id` and `group` string [N].

    Raises:
        InputError: a shard is missing, cut or damaged; names it and the record.
    """
    described = manifest.split(split)
    images = _aligned((described.records, *manifest.image_shape))
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in FIELDS if name != "image"}
    paths = [str(directory / shard.name) for shard in described.shards]
    at = 0
    with named_damage(directory, manifest, split):
        for batch in (
            tf.data.TFRecordDataset(paths, buffer_size=8 << 20)
            .batch(_BATCH)
            .map(
                lambda serialized: parse_batch(serialized, manifest, tuple(FIELDS)),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            .prefetch(2)
            .as_numpy_iterator()
        ):
            size = len(batch["label"])
            images[at : at + size] = batch["image"]  # raises on too many records
            for name, values in columns.items():
                values.append(batch[name])
            at += size
        if at != described.records:
            raise ValueError(f"{at} records found, the manifest says {described.records}")
    tensors = {name: tf.constant(np.concatenate(values)) for name, values in columns.items()}
    # Shares the array's memory instead of copying it.
    tensors["image"] = tf.experimental.dlpack.from_dlpack(images.__dlpack__())
    return tensors


def _aligned(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    size = int(np.prod(shape))
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size].reshape(shape)
