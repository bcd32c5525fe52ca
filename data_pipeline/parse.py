"""Serialized records to tensors, a batch at a time, and the naming of a damaged shard."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrecords.errors import InputError
from tfrecords.example import FIELDS
from tfrecords.manifest import Manifest
from tfrecords.records import read_records

_DTYPES = {"bytes": tf.string, "int64": tf.int64}
_DECODERS = {
    "png": tf.io.decode_png,
    # TensorFlow's default transform is off by up to 9 grey levels from what Pillow sees in the file.
    "jpeg": partial(tf.io.decode_jpeg, dct_method="INTEGER_ACCURATE"),
}


def parse_batch(serialized: Any, manifest: Manifest, fields: tuple[str, ...]) -> dict[str, Any]:
    """Parses a batch of serialized records with one op.

    Args:
        serialized: string [B].
        manifest: of the data set.
        fields: names out of `FIELDS`.

    Returns:
        by name: `image` uint8 [B, H, W, C], `label` int32 [B], the others as stored.
    """
    spec = {name: tf.io.FixedLenFeature([], _DTYPES[FIELDS[name]]) for name in fields}
    parsed = tf.io.parse_example(serialized, spec)
    if "image" in parsed:
        parsed["image"] = _pixels(parsed["image"], manifest)
    if "label" in parsed:
        parsed["label"] = tf.cast(parsed["label"], tf.int32)
    return parsed


def _pixels(data: Any, manifest: Manifest) -> Any:
    shape = manifest.image_shape
    if manifest.encoding == "raw":
        return tf.reshape(tf.io.decode_raw(data, tf.uint8), [tf.size(data), *shape])
    decode = _DECODERS[manifest.encoding]
    return tf.map_fn(
        lambda one: tf.ensure_shape(decode(one, channels=shape[-1]), shape),
        data,
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
    )


@contextmanager
def named_damage(directory: Path, manifest: Manifest, *splits: str) -> Iterator[None]:
    """Turns a reading error of TensorFlow into one that names the shard and the record.

    TensorFlow says what is wrong but not where, so the splits' shards are read once more.

    Raises:
        InputError: a shard is missing, cut, damaged or has another number of records.
    """
    try:
        yield
    except (tf.errors.OpError, ValueError):
        manifest.check_shards(directory)
        for shard in [shard for split in splits for shard in manifest.split(split).shards]:
            count = sum(1 for _ in read_records(directory / shard.name))
            if count != shard.records:
                raise InputError(
                    f"{directory / shard.name}: has {count} records, the manifest says {shard.records}; "
                    f"restore it or convert again with --overwrite"
                ) from None
        raise
