"""Models of the user's own: `--model=package.module:function` and `--model=FILE.keras`."""

import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfrecords.errors import InputError

PYTHON = "python:"  # --model=python:NAME is made by `build` of `trainer.training.train`
_PROOF_IMAGES = 2
_LEAST = 1e-7  # probabilities are clipped before their logarithm, as Keras' losses do


def import_module_of(model: str) -> None:
    """Imports the module of --model=package.module:function, whose registered layers a saved model may need.

    Raises:
        InputError: the module cannot be found.
    """
    if ":" not in model or model.startswith(("keras:", PYTHON)):
        return
    module = model.partition(":")[0]
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` finds modules in the folder it is started in
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--model={model}: {error}; run the command in the folder of the module, or put that folder on "
            f"PYTHONPATH"
        ) from None


def of_function(
    name: str,
    image_shape: tuple[int, int, int],
    classes: int,
    args: Mapping[str, Any],
    build: Callable[..., Any] | None = None,
) -> keras.Model:
    """Returns what the user's function makes: function(image_shape, classes, **args) -> keras.Model.

    The function is `build`, or the one that the name says.

    Raises:
        InputError: there is no such function, it takes no such argument, or it returns no model.
    """
    if (build is not None) != name.startswith(PYTHON):
        raise InputError(
            f"--model={name}: {PYTHON}NAME is for train(config, build=function) from Python, and only there"
        )
    import_module_of(name)
    module, _, function = name.partition(":")
    make = build or getattr(sys.modules[module], function, None)
    if not callable(make):
        raise InputError(f"--model={name}: the module {module} has no function {function}")
    try:
        signature(make).bind(image_shape, classes, **args)
    except TypeError as error:
        raise InputError(
            f"--model_args: {name}: {error}; it is called as {function}(image_shape, classes, **model_args)"
        ) from None
    model = make(image_shape, classes, **args)
    if not isinstance(model, keras.Model):
        raise InputError(f"--model={name}: returned {type(model).__name__}; it must return a keras.Model")
    return model


def of_file(name: str) -> keras.Model:
    """Returns the model of a Keras file, with its weights and its own dtypes; safe mode runs no code of it.

    Raises:
        InputError: it cannot be loaded.
    """
    try:
        return keras.models.load_model(name, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"--model={name}: cannot be loaded: {str(error).splitlines()[0]}") from None


def with_logits(
    model: keras.Model, name: str, image_shape: tuple[int, int, int], classes: int
) -> keras.Model:
    """Returns the model with float32 logits [B, classes]; a softmax at its end is taken away.

    Probabilities that come otherwise, told by rows that are not negative and sum to 1 on random images, are
    followed by their logarithm: softmax of it gives them back.

    Raises:
        InputError: the model takes other images, or does not give one value for each class.
    """
    images = np.random.default_rng(0).integers(0, 256, (_PROOF_IMAGES, *image_shape), np.uint8)
    given = f"--model={name}"
    try:
        out = np.asarray(model(images, training=False), np.float32)
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{given}: cannot take uint8 images of {image_shape}: {reason}") from None
    if out.shape != (_PROOF_IMAGES, classes):
        raise InputError(
            f"{given}: gives {out.shape[1:]} an image; it must be one logit for each of {classes} classes"
        )
    last = model.layers[-1]
    if getattr(last, "activation", None) is keras.activations.sigmoid:
        raise InputError(f"{given}: ends in a sigmoid; end it in logits or a softmax over {classes} classes")
    output, inputs = model.outputs[0], model.inputs
    if getattr(last, "activation", None) is keras.activations.softmax:
        last.activation = keras.activations.linear
    elif isinstance(last, keras.layers.Softmax):
        output = last.input
    elif (out >= 0).all() and np.allclose(out.sum(axis=1), 1, atol=1e-2):
        output = keras.ops.log(keras.ops.clip(output, _LEAST, 1.0))
    if output.dtype != "float32":
        output = keras.layers.Activation("linear", dtype="float32")(output)
    return (
        model
        if output is model.outputs[0]
        else keras.Model(inputs[0] if len(inputs) == 1 else inputs, output, name=model.name)
    )


def require_saving(model: keras.Model, name: str, image_shape: tuple[int, int, int]) -> None:
    """Refuses a model that safe mode does not load with equal logits.

    Raises:
        InputError: so it is.
    """
    images = np.random.default_rng(0).integers(0, 256, (_PROOF_IMAGES, *image_shape), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
            again = keras.models.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"--model={name}: cannot be saved and loaded in Keras' safe mode: {reason}; build it of "
                f"Keras' layers, or register own ones: keras.saving.register_keras_serializable"
            ) from None
    if not np.array_equal(model(images, training=False), again(images, training=False)):
        raise InputError(f"--model={name}: gives other logits once it is saved and loaded")
