"""Layers that are trained later than the others, or more slowly: a backbone that has learned before."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from tfrecords.errors import InputError
from trainer.config import TrainConfig


class Backbone:
    """The layers that --freeze names.

    Args:
        model: the model, all of it trainable.
        pattern: regular expression that is looked for in the names of layers. If it is found in the name of
            a model inside the model, all layers of that one are meant.
        share: of the learning rate, with which these layers are trained once they are.

    Attributes:
        frozen: whether they stay as they are.

    Raises:
        InputError: no layer with weights has such a name, or each has.
    """

    def __init__(self, model: keras.Model, pattern: str, share: float) -> None:
        self._layers = [layer for layer in _found(model, pattern) if layer.variables]
        self._share, self.frozen = share, False
        if not self._layers:
            names = ", ".join(layer.name for layer in model.layers if layer.variables)
            raise InputError(f"--freeze={pattern}: is in the name of no layer; the layers are {names}")
        self._variables = [each for layer in self._layers for each in layer.trainable_variables]
        if len(self._variables) == len(model.trainable_variables):
            raise InputError(f"--freeze={pattern}: is in the names of all layers, so that none is trained")

    @classmethod
    def of(cls, config: TrainConfig) -> Callable[[keras.Model], "Backbone | None"]:
        """Returns the function that returns the backbone of a model; None if the run has none."""
        share = (config.backbone_learning_rate or config.learning_rate) / config.learning_rate
        return lambda model: cls(model, config.freeze, share) if config.freeze else None

    @property
    def slow(self) -> tuple[Sequence[Any], float]:
        """The variables that are trained more slowly now, and their share of the learning rate."""
        return ((), 1.0) if self.frozen or self._share == 1 else (self._variables, self._share)

    def freeze(self, frozen: bool) -> None:  # a setter: the name says what it is
        """Freezes or unfreezes the layers. A frozen BatchNormalization uses the statistics it has."""
        self.frozen = frozen
        for layer in self._layers:
            layer.trainable = not frozen


class Unfreeze(keras.callbacks.Callback):
    """Unfreezes the backbone at the start of an epoch, also in a run that was resumed.

    Args:
        backbone: frozen or not.
        epoch: the first epoch in which it is trained, counted from 1; 0: it never is.
        retrace: `Loop.retrace`.
    """

    def __init__(self, backbone: Backbone, epoch: int, retrace: Callable[[], None]) -> None:
        super().__init__()
        self._backbone, self._epoch, self._retrace = backbone, epoch, retrace

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Freezes or unfreezes."""
        frozen = not self._epoch or epoch + 1 < self._epoch
        if frozen != self._backbone.frozen:
            self._backbone.freeze(frozen)
            self._retrace()


def _found(model: Any, pattern: str, *, inside: bool = False) -> Iterator[Any]:
    for layer in model.layers:
        meant = inside or re.search(pattern, layer.name) is not None
        if hasattr(layer, "layers"):
            yield from _found(layer, pattern, inside=meant)
        elif meant:
            yield layer
