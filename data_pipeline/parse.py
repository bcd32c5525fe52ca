"""Serialized records to tensors, a batch at a time, and the naming of a damaged shard."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_pipeline.service import loss_in
from tfrecords.errors import InputError
from tfrecords.example import FIELDS
from tfrecords.manifest import Manifest
from tfrecords.records import read_records

_FIX = "restore it or convert again with --overwrite"
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
    parsed = parse_stored(serialized, fields)
    if "image" in parsed:
        parsed["image"] = _pixels(parsed["image"], manifest)
    if "label" in parsed:
        parsed["label"] = tf.cast(parsed["label"], tf.int32)
    return parsed


def parse_stored(serialized: Any, fields: tuple[str, ...]) -> dict[str, Any]:
    """Parses as `parse_batch` does, but leaves each field as it is stored: `image` is string [B]."""
    spec = {name: tf.io.FixedLenFeature([], _DTYPES[FIELDS[name]]) for name in fields}
    return tf.io.parse_example(serialized, spec)


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
def named_damage(directory: Path, manifest: Manifest, *splits: str, direct: bool = False) -> Iterator[None]:
    """Turns a reading error of TensorFlow into one that names the shard and the record.

    TensorFlow says what is wrong but not where, so the splits' shards are read and parsed once more.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        splits: that are read inside.
        direct: whether the shards are not in the folder but behind a URL: the error stays as it is.

    Raises:
        InputError: a shard is missing, cut, damaged or has another number of records, or a record of
            it is whole but not what the manifest says.
    """
    try:
        yield
    except (tf.errors.OpError, ValueError) as error:
        if lost := loss_in(str(error)):
            raise InputError(lost) from None
        if direct:  # TensorFlow's file systems name the URL
            raise
        manifest.check_shards(directory, *splits)
        for shard in [shard for split in splits for shard in manifest.split(split).shards]:
            path, count = directory / shard.name, 0
            for count, record in enumerate(read_records(path), 1):
                _refuse_record(record, manifest, f"{path}: record {count - 1}")
            if count != shard.records:
                raise InputError(
                    f"{path}: has {count} records, the manifest says {shard.records}; {_FIX}"
                ) from None
        raise


def _refuse_record(serialized: bytes, manifest: Manifest, where: str) -> None:
    try:
        parse_batch([serialized], manifest, tuple(FIELDS))
    except (tf.errors.OpError, ValueError) as error:
        height, width, channels = manifest.image_shape
        raise InputError(
            f"{where}: cannot be used ({str(error).splitlines()[0]}); it must have the fields "
            f"{', '.join(FIELDS)} and an image of {height}x{width}x{channels}, {manifest.encoding}; {_FIX}"
        ) from None
