"""One model that averages probabilities: of several networks, or of several views of an image.

The result is made of Keras' own layers and operations, so plain Keras loads it in safe mode.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Final

import keras
import numpy as np
from keras import ops

from tfrecords.errors import InputError
from trainer.models.users import import_module_of
from trainer.run import Run

_LEAST: Final = 1e-30  # probability whose logarithm is taken; float32 has none far below

View = Callable[[Any], Any]


def averaged(models: Sequence[keras.Model]) -> keras.Model:
    """Returns a model whose probabilities are the means of those of several models.

    Args:
        models: each from uint8 [B, H, W, C] to logits [B, K], with the same shapes. They may have equal
            names, and layers with equal names: each becomes a model within the new one, named `member_N`.

    Returns:
        a `keras.Model` from uint8 [B, H, W, C] to float32 [B, K]: the logarithms of the mean probabilities,
        which are logits. It has the weights of the models themselves, not copies of them.

    Raises:
        ValueError: there is no model, or shapes differ.
    """
    shapes = {(model.input_shape, model.output_shape) for model in models}
    if len(shapes) != 1:
        raise ValueError(f"{len(models)} models of {sorted(shapes)}; needs one or more of the same shapes")
    return _mean(models, [lambda images: images], models[0].input_shape[1:])


def views(
    model: keras.Model,
    *,
    flip: bool = False,
    shift: int = 0,
    image_shape: tuple[int, int, int] | None = None,
) -> keras.Model:
    """Returns a model that averages the probabilities of a model over views of the image.

    The views are the image and, with `shift`, the image moved by so many pixels to the left, to the right, up
    and down; with `flip` all of these and their mirror images, left to right. So there are 2, 5 or 10.
    Pixels that a shift uncovers repeat the edge.

    Source: test-time augmentation as in Krizhevsky et al., "ImageNet Classification with Deep Convolutional
    Neural Networks" (2012), which averages crops and their reflections.

    Args:
        model: from uint8 [B, H, W, C] to logits [B, K].
        flip: whether mirror images are among the views.
        shift: pixels, less than H and W; 0: no shifts.
        image_shape: (height, width, channels); None: as the model says, which must leave none open.

    Returns:
        as of `averaged`; the model itself if there is no other view.
    """
    shape = image_shape or model.input_shape[1:]
    height, width, _ = shape
    places = [(0, 0)] + [(0, -shift), (0, shift), (-shift, 0), (shift, 0)] * (shift > 0)
    moved = [
        _view(rows=_moved(height, down), columns=_moved(width, right), mirrored=mirrored)
        for mirrored, (down, right) in product((False, True)[: 1 + flip], places)
    ]
    return _mean([model], moved, shape) if len(moved) > 1 else model


def averaged_runs(runs: Sequence[Run]) -> keras.Model:
    """Returns the average of the models that runs have published, with their views and temperatures.

    Raises:
        InputError: a run has no model yet or one that cannot be loaded, or images mean different things to
            them: see `require_alike`.
    """
    require_alike(runs)
    for run in runs:
        run.result()  # the file is that of the result
        import_module_of(run.config.model)
    try:
        return averaged([keras.models.load_model(run.model, compile=False, safe_mode=True) for run in runs])
    except (OSError, TypeError, KeyError) as error:
        raise InputError(f"a model cannot be loaded: {str(error).splitlines()[0]}; train it again") from None


def require_alike(runs: Sequence[Run]) -> None:
    """Raises InputError unless runs have the same classes, image shape, resizing and scaling of pixels."""
    first = runs[0]
    for run in runs[1:]:
        for name in ("class_names", "image_shape", "resize", "value_range"):
            mine, theirs = getattr(first.data, name), getattr(run.data, name)
            if mine != theirs:
                raise InputError(
                    f"{run.folder}: its data have {name} {theirs}, those of {first.folder} have {mine}; only "
                    f"models of the same {name} can be averaged: leave one out, or train it on such data"
                )


def _mean(models: Sequence[keras.Model], moved: Sequence[View], shape: Sequence[int | None]) -> keras.Model:
    """Returns the model that averages over models and views, with the name of the first model."""
    inputs = _input_of(models[0], shape)
    seen = [view(inputs) for view in moved]
    found = []
    for number, model in enumerate(models):
        again = _input_of(model, shape)
        member = keras.Model(again, model(again), name=f"member_{number}")
        found += [ops.softmax(ops.cast(member(each), "float32"), axis=-1) for each in seen]
    mean = ops.mean(ops.stack(found), axis=0)
    return keras.Model(inputs, ops.log(ops.maximum(mean, _LEAST)), name=models[0].name)


def _input_of(model: keras.Model, shape: Sequence[int | None]) -> Any:
    return keras.Input(shape, dtype=model.inputs[0].dtype, name="image")


def _view(*, rows: Sequence[int], columns: Sequence[int], mirrored: bool) -> View:
    """Returns the function to a view, [B, H, W, C], that has these rows and columns of an image."""

    def view(images: Any) -> Any:
        images = ops.flip(images, axis=2) if mirrored else images
        for axis, places in ((1, rows), (2, columns)):
            if list(places) != sorted(set(places)):
                images = ops.take(images, list(places), axis=axis)
        return images

    return view


def _moved(size: int, by: int) -> list[int]:
    """Returns for each of `size` pixels the one that comes there when all move by `by`, the edge repeated."""
    places: list[int] = np.clip(np.arange(size) - by, 0, size - 1).tolist()
    return places
