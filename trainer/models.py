"""The notebook's three models and a small ResNet: uint8 images in, float32 logits out.

Scaling to [0, 1] is the model's first layer, so that every caller hands over the same uint8 pixels;
softmax is outside, so that loss and probabilities are computed in float32 from the logits.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

from tfrecords.errors import InputError
from trainer.config import MODEL_ARGS, ModelArg, TrainConfig, check_model_args


def build_model(
    name: str,
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    dtype: str,
    args: Mapping[str, ModelArg] | None = None,
) -> keras.Model:
    """Builds a model by name.

    Args:
        name: "mlp", "cnn", "best_cnn" or "resnet".
        image_shape: (height, width, channels).
        classes: length of the logits.
        dtype: Keras dtype policy of all layers but the head, which is float32.
        args: what differs from the model's `MODEL_ARGS`.

    Returns:
        a model from uint8 [B, H, W, C] to float32 logits [B, classes].

    Raises:
        InputError: an unknown name or argument, or images too small for the model.
    """
    if name not in _BODIES:
        raise InputError(f"--model={name}: must be one of {', '.join(_BODIES)}")
    check_model_args(name, tuple((args or {}).items()))
    values = {**MODEL_ARGS[name], **(args or {})}
    inputs = keras.Input(image_shape, dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255, dtype=dtype, name="scale")(inputs)
    try:
        x = _BODIES[name](x, dtype, **values)
    except ValueError as error:
        raise InputError(f"--model={name}: cannot take images of {image_shape}: {error}") from None
    outputs = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


def _mlp(x: Any, dtype: str, *, units: int, dropout: float) -> Any:
    """4,147,586 parameters at 180x180x1 and two classes."""
    x = _dropped(layers.Flatten(dtype=dtype)(x), dropout, dtype)
    return layers.Dense(units, activation="relu", dtype=dtype)(x)


def _cnn(
    x: Any,
    dtype: str,
    *,
    filters_1: int,
    kernel_1: int,
    filters_2: int,
    kernel_2: int,
    filters_3: int,
    kernel_3: int,
    dropout: float,
    units: int,
) -> Any:
    """3,300,482 parameters at 180x180x1 and two classes; of best_cnn 13,477,250."""
    for filters, kernel in ((filters_1, kernel_1), (filters_2, kernel_2), (filters_3, kernel_3)):
        x = layers.Conv2D(filters, kernel, activation="relu", dtype=dtype)(x)
        x = layers.MaxPooling2D(dtype=dtype)(x)
    x = _dropped(x, dropout, dtype)
    return layers.Dense(units, activation="relu", dtype=dtype)(layers.Flatten(dtype=dtype)(x))


def _resnet(x: Any, dtype: str, *, width: int, dropout: float) -> Any:
    """698,530 parameters at any size with one channel and two classes.

    The basic blocks and the beginning of He et al., "Deep Residual Learning for Image Recognition" (2016),
    three stages of two blocks; Dropout before the logits, for small data sets.
    """
    x = layers.Conv2D(width, 7, 2, padding="same", use_bias=False, dtype=dtype)(x)
    x = _normalized(x, dtype)
    x = layers.MaxPooling2D(3, 2, padding="same", dtype=dtype)(layers.ReLU(dtype=dtype)(x))
    for times, stride in ((1, 1), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1)):
        x = _residual(x, times * width, stride, dtype)
    return _dropped(layers.GlobalAveragePooling2D(dtype=dtype)(x), dropout, dtype)


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


def _dropped(x: Any, rate: float, dtype: str) -> Any:
    return layers.Dropout(rate, dtype=dtype)(x) if rate else x


_BODIES: dict[str, Callable[..., Any]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "best_cnn": _cnn,
    "resnet": _resnet,
}


def learning_rate(config: TrainConfig, steps_per_epoch: int) -> Any:
    """Returns the rate or its schedule by the optimizer's step, which a checkpoint holds."""
    if config.schedule == "constant":
        return config.learning_rate
    warmup = config.warmup_epochs * steps_per_epoch
    steps = config.epochs * steps_per_epoch - warmup
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=config.learning_rate, warmup_steps=warmup
    )
