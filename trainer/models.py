"""The notebook's three models and a small ResNet: uint8 images in, float32 logits out.

Scaling to [0, 1] is the model's first layer, so that every caller hands over the same uint8 pixels;
softmax is outside, so that loss and probabilities are computed in float32 from the logits.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from tfrecords.errors import InputError


def build_model(name: str, image_shape: tuple[int, int, int], classes: int, *, dtype: str) -> keras.Model:
    """Builds a model by name.

    Args:
        name: "mlp", "cnn", "best_cnn" or "resnet".
        image_shape: (height, width, channels).
        classes: length of the logits.
        dtype: Keras dtype policy of all layers but the head, which is float32.

    Returns:
        a model from uint8 [B, H, W, C] to float32 logits [B, classes].

    Raises:
        InputError: an unknown name, or images too small for the model.
    """
    if name not in _BODIES:
        raise InputError(f"--model={name}: must be one of {', '.join(_BODIES)}")
    inputs = keras.Input(image_shape, dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255, dtype=dtype, name="scale")(inputs)
    try:
        x = _BODIES[name](x, dtype)
    except ValueError as error:
        raise InputError(f"--model={name}: cannot take images of {image_shape}: {error}") from None
    outputs = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


def _mlp(x: Any, dtype: str) -> Any:
    """4,147,586 parameters at 180x180x1 and two classes."""
    x = layers.Flatten(dtype=dtype)(x)
    return layers.Dense(128, activation="relu", dtype=dtype)(x)


def _cnn(x: Any, dtype: str) -> Any:
    """3,300,482 parameters at 180x180x1 and two classes."""
    x = _convolutions(x, (16, 32, 64), dtype)
    return layers.Dense(128, activation="relu", dtype=dtype)(layers.Flatten(dtype=dtype)(x))


def _best_cnn(x: Any, dtype: str) -> Any:
    """13,477,250 parameters at 180x180x1 and two classes."""
    x = _convolutions(x, (64, 128, 256), dtype)
    x = layers.Dropout(0.3, dtype=dtype)(x)
    return layers.Dense(128, activation="relu", dtype=dtype)(layers.Flatten(dtype=dtype)(x))


def _resnet(x: Any, dtype: str) -> Any:
    """698,530 parameters at any size with one channel and two classes.

    The basic blocks and the beginning of He et al., "Deep Residual Learning for Image Recognition" (2016),
    three stages of two blocks; Dropout before the logits, for small data sets.
    """
    x = layers.Conv2D(32, 7, 2, padding="same", use_bias=False, dtype=dtype)(x)
    x = _normalized(x, dtype)
    x = layers.MaxPooling2D(3, 2, padding="same", dtype=dtype)(layers.ReLU(dtype=dtype)(x))
    for filters, stride in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        x = _residual(x, filters, stride, dtype)
    x = layers.GlobalAveragePooling2D(dtype=dtype)(x)
    return layers.Dropout(0.2, dtype=dtype)(x)


def _residual(x: Any, filters: int, stride: int, dtype: str) -> Any:
    y = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, dtype=dtype)(x)
    y = layers.ReLU(dtype=dtype)(_normalized(y, dtype))
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype=dtype)(y)
    y = _normalized(y, dtype)
    if stride > 1:
        x = layers.Conv2D(filters, 1, stride, use_bias=False, dtype=dtype)(x)
        x = _normalized(x, dtype)
    return layers.ReLU(dtype=dtype)(layers.Add(dtype=dtype)([x, y]))


def _normalized(x: Any, dtype: str) -> Any:
    # Keras' momentum of 0.99 takes hundreds of steps to know a small data set's statistics.
    return layers.BatchNormalization(momentum=0.9, dtype=dtype)(x)


def _convolutions(x: Any, filters: tuple[int, ...], dtype: str) -> Any:
    for count in filters:
        x = layers.Conv2D(count, 3, activation="relu", dtype=dtype)(x)
        x = layers.MaxPooling2D(dtype=dtype)(x)
    return x


_BODIES: dict[str, Callable[[Any, str], Any]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "best_cnn": _best_cnn,
    "resnet": _resnet,
}
