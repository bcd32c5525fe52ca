"""Exponential moving averages of a model's weights, which are evaluated and saved in place of the weights."""

from collections.abc import Sequence
from typing import Any, Final

import keras
import tensorflow as tf

_WARM_UP: Final = 10.0


class Averages:
    """Averages of all that a model has in floating point: weights, and the statistics of normalization.

    After n updates of the weights each average becomes d * average + (1 - d) * weight, with d the smaller one
    of `ema` and (1 + n) / (10 + n). So the first weights, which are random, are soon forgotten. That is the
    formula of `tf.train.ExponentialMovingAverage` with `num_updates`; the idea is that of Polyak and
    Juditsky, "Acceleration of stochastic approximation by averaging" (1992). Training goes on with the
    weights.

    Args:
        model: with its weights; this is called in the scope of the strategy.
        ema: how much of an average an update keeps, from 0 to less than 1; 0: nothing is averaged.

    Attributes:
        values: the averages, in the order of `averaged(model)`, for checkpoints; [] with `ema` 0.
    """

    def __init__(self, model: keras.Model, ema: float) -> None:
        self._model, self._ema = model, ema
        self.values: list[tf.Variable] = [
            tf.Variable(each.value, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
            for each in (averaged(model) if ema else ())
        ]

    def update(self, optimizer: Any) -> None:
        """Moves the averages towards the weights; called on each replica, after the optimizer's update."""
        if not self.values:
            return
        done = tf.cast(getattr(optimizer, "inner_optimizer", optimizer).iterations.value, tf.float32)
        kept = tf.minimum(self._ema, (1 + done) / (_WARM_UP + done))
        for average, weight in zip(self.values, averaged(self._model), strict=True):
            now = tf.convert_to_tensor(weight.value)
            average.assign(now + tf.cast(kept, now.dtype) * (average - now))

    def logits(self, image: Any) -> Any:
        """Returns the model's logits with the averages for its weights, float32 [B, K], of one replica."""
        if not self.values:
            return self._model(image, training=False)
        places = {id(each): value for each, value in zip(averaged(self._model), self.values, strict=True)}
        groups = [
            [tf.convert_to_tensor(places.get(id(each), each.value)) for each in variables]
            for variables in (self._model.trainable_variables, self._model.non_trainable_variables)
        ]
        logits, _ = self._model.stateless_call(*groups, image, training=False)
        return logits


def averaged(model: keras.Model) -> Sequence[Any]:
    """Returns the variables of a model that are averaged: all in floating point, in a fixed order."""
    return [each for each in model.variables if "float" in each.dtype]
