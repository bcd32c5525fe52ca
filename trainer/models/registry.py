"""The models that --model names: one entry in `MODELS` each, with the function that builds it.

A model takes uint8 images and gives float32 logits. Scaling to [0, 1] is its first layer, so that all callers
pass the same uint8 pixels. It has no softmax: loss and probabilities are computed in float32 from logits.

This module imports no Keras before a model is built, so that flags and configurations read the table at once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Final

from data_pipeline.step.network import classifier, cnn
from tfrecords.errors import InputError
from trainer.models.applications import APPLICATIONS, application

_KERAS: Final = "keras:"
_FILE: Final = ".keras"
_FUNCTION: Final = re.compile(r"[\w.]+:\w+")

ModelArg = int | float | str | bool


@dataclass(frozen=True)
class Architecture:
    """A model that --model names.

    Attributes:
        body: (x, dtype, **arguments) -> x: the layers between scaled pixels [B, H, W, C] and the logits. Its
            keyword-only parameters are the arguments that --model_args takes. If the default is a whole
            number, the argument is one too, 1 or more; if it is a fraction, the argument is a Dropout rate,
            from 0 to less than 1.
        description: one clause for --help.
    """

    body: Callable[..., Any]
    description: str

    @property
    def args(self) -> Mapping[str, ModelArg]:
        """The arguments with their defaults, by name."""
        parameters = signature(self.body).parameters.values()
        return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def build_model(
    name: str,
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    dtype: str,
    args: Mapping[str, ModelArg] | None = None,
    imagenet: bool = False,
    build: Callable[..., Any] | None = None,
) -> Any:
    """Builds a model by name.

    Args:
        name: what --model takes; see `check_model`.
        image_shape: (height, width, channels).
        classes: number of logits.
        dtype: Keras dtype policy of all layers but the last, which is float32.
        args: arguments that differ from the model's defaults.
        imagenet: whether keras:NAME starts from ImageNet's weights.
        build: (image_shape, classes, **args) -> a `keras.Model`, for python:NAME.

    Returns:
        a `keras.Model` from uint8 [B, H, W, C] to float32 logits [B, classes].

    Raises:
        InputError: the name or an argument is unknown, or the images are too small for the model.
    """
    check_model(name)
    check_model_args(name, tuple((args or {}).items()))
    if name not in MODELS:
        return _others(name, image_shape, classes, dtype, args or {}, imagenet, build)
    body = partial(MODELS[name].body, **(args or {}))
    return classifier(body, image_shape, classes, dtype=dtype, name=name)


def _others(
    name: str,
    image_shape: tuple[int, int, int],
    classes: int,
    dtype: str,
    args: Mapping[str, ModelArg],
    imagenet: bool,
    build: Callable[..., Any] | None,
) -> Any:
    """Builds a model that is not ours, in the dtype policy; a file keeps its own."""
    import keras

    from trainer.models.users import of_file, of_function, with_logits

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        if name.startswith(_KERAS):
            return application(name.removeprefix(_KERAS), image_shape, classes, imagenet=imagenet)
        if name.endswith(_FILE):
            return with_logits(of_file(name), name, image_shape, classes)
        made = of_function(name, image_shape, classes, args, build)
        return with_logits(made, name, image_shape, classes)
    finally:
        keras.config.set_dtype_policy(before)


def is_function(name: object) -> bool:
    """Returns whether a value of --model is a function of the user's, `package.module:function`."""
    return isinstance(name, str) and bool(_FUNCTION.fullmatch(name)) and not name.startswith(_KERAS)


def check_model(name: str, others: Sequence[str] = ()) -> None:
    """Raises InputError unless this is a form of --model, or one of the others."""
    if name.startswith(_KERAS):
        if name.removeprefix(_KERAS) not in APPLICATIONS:
            raise InputError(f"--model={name}: must be keras: and one of {', '.join(APPLICATIONS)}")
    elif name not in (*MODELS, *others) and not name.endswith(_FILE) and not _FUNCTION.fullmatch(name):
        raise InputError(
            f"--model={name}: must be one of {', '.join(MODELS)}, or keras:NAME, or "
            f"package.module:function, or FILE.keras"
        )


def check_model_args(model: str, args: Sequence[tuple[str, ModelArg]]) -> None:
    """Raises InputError unless these are arguments of the model, with allowed values."""
    if is_function(model):
        return  # its signature is read when it is called
    known = MODELS[model].args if model in MODELS else {}
    for name, value in args:
        if name not in known:
            raise InputError(
                f"--model_args={name}={value}: {model} has no such argument; it has "
                f"{', '.join(known) or 'none'}"
            )
        if isinstance(known[name], int) and not (type(value) is int and value >= 1):
            raise InputError(f"--model_args={name}={value}: must be a whole number, 1 or more")
        if isinstance(known[name], float) and not (type(value) in (int, float) and 0 <= float(value) < 1):
            raise InputError(f"--model_args={name}={value}: must be from 0 to less than 1")


def parse_model_args(texts: Sequence[str], flag: str = "model_args") -> tuple[tuple[str, ModelArg], ...]:
    """Returns NAME=VALUE texts as pairs sorted by name; a value is a whole number, a fraction or a word.

    Raises:
        InputError: a text is not NAME=VALUE, or a name is given twice.
    """
    found: dict[str, ModelArg] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"--{flag}={text}: must be NAME=VALUE, as units=64,dropout=0.5")
        if name in found:
            raise InputError(f"--{flag}: {name} is given twice; give it once")
        found[name] = _value(value)
    return tuple(sorted(found.items()))


def model_args_text(args: Sequence[tuple[str, ModelArg]]) -> str:
    """Returns arguments as --model_args takes them: `dropout=0.5,units=64`."""
    return ",".join(f"{name}={value}" for name, value in args)


def _value(text: str) -> ModelArg:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _mlp(x: Any, dtype: str, *, units: int = 128, dropout: float = 0.0) -> Any:
    """4,147,586 parameters at 180x180x1 and two classes."""
    from keras import layers

    x = layers.Flatten(dtype=dtype)(x)
    if dropout:
        x = layers.Dropout(dropout, dtype=dtype)(x)
    return layers.Dense(units, activation="relu", dtype=dtype)(x)


def _resnet(x: Any, dtype: str, *, width: int = 32, dropout: float = 0.2) -> Any:
    """698,530 parameters at any size with one channel and two classes.

    The first layers and the basic blocks of He et al., "Deep Residual Learning for Image Recognition" (2016):
    three stages of two blocks. Dropout before the logits is added for small data sets.
    """
    from keras import layers

    x = layers.Conv2D(width, 7, 2, padding="same", use_bias=False, dtype=dtype)(x)
    x = _normalized(x, dtype)
    x = layers.MaxPooling2D(3, 2, padding="same", dtype=dtype)(layers.ReLU(dtype=dtype)(x))
    for times, stride in ((1, 1), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1)):
        x = _residual(x, times * width, stride, dtype)
    x = layers.GlobalAveragePooling2D(dtype=dtype)(x)
    return layers.Dropout(dropout, dtype=dtype)(x) if dropout else x


def _residual(x: Any, filters: int, stride: int, dtype: str) -> Any:
    """A basic block: two convolutions and a shortcut around them."""
    from keras import layers

    y = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, dtype=dtype)(x)
    y = layers.ReLU(dtype=dtype)(_normalized(y, dtype))
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False, dtype=dtype)(y)
    y = _normalized(y, dtype)
    if stride > 1:
        x = layers.Conv2D(filters, 1, stride, use_bias=False, dtype=dtype)(x)
        x = _normalized(x, dtype)
    return layers.ReLU(dtype=dtype)(layers.Add(dtype=dtype)([x, y]))


def _normalized(x: Any, dtype: str) -> Any:
    from keras import layers

    # With Keras' default momentum of 0.99 the statistics of a small data set settle after hundreds of steps.
    return layers.BatchNormalization(momentum=0.9, dtype=dtype)(x)


MODELS: Final[Mapping[str, Architecture]] = {
    "mlp": Architecture(_mlp, "one hidden layer"),
    "cnn": Architecture(cnn, "the notebook's net of three convolutions and one hidden layer"),
    "best_cnn": Architecture(
        partial(cnn, filters_1=64, filters_2=128, filters_3=256, dropout=0.3),
        "the cnn with the numbers that the notebook's search found",
    ),
    "resnet": Architecture(_resnet, "a small ResNet, which takes images of any size"),
}
