"""Parses serialized records into tensors, a batch at a time."""

from functools import partial
from typing import Any

import tensorflow as tf

from tfrecords.example import FIELDS
from tfrecords.manifest import Manifest

_DTYPES = {"bytes": tf.string, "int64": tf.int64}
_DECODERS = {
    "png": tf.io.decode_png,
    # TensorFlow's default transform differs from Pillow's pixels by up to 9 grey levels.
    "jpeg": partial(tf.io.decode_jpeg, dct_method="INTEGER_ACCURATE"),
}


def parse_batch(serialized: Any, manifest: Manifest, fields: tuple[str, ...]) -> dict[str, Any]:
    """Parses a batch of serialized records with one op.

    Args:
        serialized: string [B].
        manifest: of the data set.
        fields: names out of `FIELDS`.

    Returns:
        fields by name: `image` uint8 [B, H, W, C], `label` int32 [B], the others as stored.
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
