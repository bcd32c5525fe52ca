"""The frame of every model, and the notebook's convolutional net; Keras is imported when a model is built."""

import re
from collections.abc import Callable
from typing import Any

from tfrecords.errors import InputError


def classifier(
    body: Callable[[Any, str], Any],
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    dtype: str,
    name: str,
) -> Any:
    """Returns a `keras.Model` from uint8 [B, H, W, C] to float32 logits [B, classes].

    Args:
        body: (x, dtype) -> x, the layers between the pixels, scaled to [0, 1], and the logits.
        image_shape: (height, width, channels).
        classes: number of logits.
        dtype: Keras dtype policy of all layers but the last, which is float32.
        name: of the model, as --model has it.

    Raises:
        InputError: the images are too small for the layers.
    """
    import keras
    from keras import layers

    inputs = keras.Input(image_shape, dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255, dtype=dtype, name="scale")(inputs)
    try:
        x = body(x, dtype)
    except ValueError as error:
        raise InputError(f"--model={name}: cannot take images of {image_shape}: {_reason(error)}") from None
    outputs = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


def _reason(error: ValueError) -> str:
    """Returns what Keras says of a layer, in one line: without colours and without the layer's arguments."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)).partition("Arguments received")[0]
    return " ".join(text.split()).rstrip(".")


def cnn(
    x: Any,
    dtype: str,
    *,
    filters_1: int = 16,
    kernel_1: int = 3,
    filters_2: int = 32,
    kernel_2: int = 3,
    filters_3: int = 64,
    kernel_3: int = 3,
    dropout: float = 0.0,
    units: int = 128,
) -> Any:
    """The body of the notebook's net: 3,300,482 parameters at 180x180x1 and two classes.

    With the numbers of the notebook's search (`trainer.models`, best_cnn) it has 13,477,250.
    """
    from keras import layers

    for filters, kernel in ((filters_1, kernel_1), (filters_2, kernel_2), (filters_3, kernel_3)):
        x = layers.Conv2D(filters, kernel, activation="relu", dtype=dtype)(x)
        x = layers.MaxPooling2D(dtype=dtype)(x)
    if dropout:
        x = layers.Dropout(dropout, dtype=dtype)(x)
    return layers.Dense(units, activation="relu", dtype=dtype)(layers.Flatten(dtype=dtype)(x))
