"""Models that make the tones of images alike: histogram equalisation before the network (--normalize).

A normalized model is a model of two parts, "normalize" and the network. Prediction calls the whole. Training
calls the parts: a change of tones before equalisation would be undone by it, as a monotone change leaves the
ranks of the levels. So the train step changes the picture, normalizes, changes the tones, and calls the
network. All parts take and give uint8.

All of it is operations of Keras, without code of its own: a saved model loads in Keras' safe mode.
`keras.layers.Equalization` is not used: in Keras 3.15.1 it equalises a batch by one histogram, so that the
result of an image depends on the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import keras
import tensorflow as tf
from keras import ops

from data_pipeline.augment import augmenter
from data_pipeline.splitmix64 import stateless_bits

PART: Final = "normalize"  # name of the layer
_EQUALIZED: Final = 0.5  # share of the equalised image in prediction, which is the mean of training's
_SALT: Final = 0x626C656E64  # makes the shares independent of other uses of the same keys


def normalized(model: keras.Model, normalize: str) -> keras.Model:
    """Returns a model that normalizes images before a network.

    Args:
        model: the network, from uint8 [B, H, W, C] to logits.
        normalize: one of `trainer.config.NORMALIZE`; with "none" the model itself is returned.

    Returns:
        from uint8 [B, H, W, C] to the network's logits. `front` and `network` return its parts.
    """
    if normalize == "none":
        return model
    shape = model.input_shape[1:]
    image = keras.Input(shape, dtype="uint8", name="image")
    part = equalized(image)
    if normalize == "blend":
        part = blended(image, part, _EQUALIZED)
    inputs = keras.Input(shape, dtype="uint8", name="image")
    outputs = model(keras.Model(image, part, name=PART)(inputs))
    return keras.Model(inputs, outputs, name=f"{model.name}_{normalize}")


def front(model: keras.Model) -> keras.Model:
    """Returns the part of a normalized model that comes before the network."""
    return model.get_layer(PART)


def network(model: keras.Model) -> keras.Model:
    """Returns the network of a normalized model, the part with weights."""
    return model.layers[-1]


@dataclass(frozen=True)
class Front:
    """What a train step does before the network of a normalized model.

    Attributes:
        blend: whether the share of the equalised image is drawn for each record, uniformly from 0 to 1.
        tones: (image, key) -> image, the augmentation's change of tones; None: none.
    """

    blend: bool
    tones: Callable[[Any, Any], Any] | None

    @classmethod
    def of(cls, normalize: str, augment: str) -> Self | None:
        """Returns the front for --normalize and --augment; None if images are not normalized."""
        if normalize == "none":
            return None
        return cls(normalize == "blend", augmenter(augment, picture=False))

    def __call__(self, model: keras.Model, image: Any, batch: dict[str, Any]) -> Any:
        """Normalizes the images of a batch and changes their tones.

        Args:
            model: of `normalized`.
            image: uint8 [B, H, W, C].
            batch: its `key` int64 [B], where shares or tones are drawn.

        Returns:
            uint8 [B, H, W, C].
        """
        if self.blend:
            found = blended(image, equalized(image), shares(batch["key"])[:, None, None, None])
        else:
            found = front(model)(image, training=True)
        return self.tones(found, batch["key"]) if self.tones else found


def shares(key: Any) -> Any:
    """Returns the share of the equalised image for each key, float32 [B], uniform in [0, 1)."""
    bits = tf.bitwise.right_shift(stateless_bits(_SALT, key), tf.constant(40, tf.uint64))
    return tf.cast(bits, tf.float32) * 2.0**-24


def equalized(image: Any) -> Any:
    """Equalises the histogram of each image and channel, as OpenCV's equalizeHist does.

    With n(v) pixels of a level up to v, and m those of the least level that occurs, v becomes
    round(255 (n(v) - m) / (n(255) - m)). An image of one level stays. Pillow's ImageOps.equalize takes whole
    steps instead of rounding: it differs by 1 level at 180x180, and by more in small images.

    Args:
        image: uint8 [B, H, W, C]; a tensor, or the symbolic one of a model.

    Returns:
        uint8 [B, H, W, C].
    """
    height, width, channels = image.shape[1:]
    pixels = height * width
    rows = ops.reshape(ops.transpose(ops.cast(image, "int32"), (0, 3, 1, 2)), (-1, pixels))
    histogram = ops.reshape(ops.bincount(rows, minlength=256), (-1, 256))
    up_to = ops.cast(ops.cumsum(histogram, axis=1), "float32")
    least = ops.min(ops.where(up_to > 0, up_to, float(pixels)), axis=1, keepdims=True)
    table = ops.round((up_to - least) * 255.0 / ops.maximum(pixels - least, 1.0))
    table = ops.where(least < pixels, table, ops.arange(256, dtype="float32")[None])
    levels = ops.reshape(ops.take_along_axis(table, rows, axis=1), (-1, channels, height, width))
    return ops.cast(ops.transpose(levels, (0, 2, 3, 1)), "uint8")


def blended(image: Any, other: Any, share: Any) -> Any:
    """Returns (1 - share) * image + share * other, rounded.

    Args:
        image: uint8 [B, H, W, C].
        other: uint8 [B, H, W, C], the equalised image.
        share: a number, or float32 [B, 1, 1, 1].

    Returns:
        uint8 [B, H, W, C].
    """
    image, other = ops.cast(image, "float32"), ops.cast(other, "float32")
    return ops.cast(ops.round(image * (1 - share) + other * share), "uint8")
