"""The metrics of each epoch, summed up on the device during a pass over a split."""

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

Logs = dict[str, float]


class MatthewsCorrelation(keras.metrics.Metric):
    """Matthews correlation of the predicted with the true classes, as `intervals` has it in the report.

    Where it is undefined, because all records are of one class or are predicted as one, it is 0, as Keras'
    metrics are; the report calls it undefined.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(name="mcc")
        self._right = self.add_variable((), "zeros", name="right")
        self._actual = self.add_variable((classes,), "zeros", name="actual")
        self._predicted = self.add_variable((classes,), "zeros", name="predicted")

    def update_state(self, label: Any, logits: Any, sample_weight: Any) -> None:
        """Adds a batch; arguments as of `EpochMetrics.update`."""
        label, predicted = tf.cast(label, tf.int64), tf.argmax(logits, axis=1)
        self._right.assign_add(tf.reduce_sum(sample_weight * tf.cast(predicted == label, tf.float32)))
        for sums, each in ((self._actual, label), (self._predicted, predicted)):
            one_hot = tf.one_hot(each, sums.shape[0])
            sums.assign_add(tf.reduce_sum(one_hot * sample_weight[:, None], axis=0))

    def result(self) -> Any:
        """Returns the correlation over the records so far."""
        sums = (self._right, self._actual, self._predicted)
        right, actual, predicted = (tf.cast(each, tf.float64) for each in sums)
        total = tf.reduce_sum(actual)
        covariance = total * right - tf.reduce_sum(actual * predicted)
        spreads = (total**2 - tf.reduce_sum(each**2) for each in (actual, predicted))
        return tf.math.divide_no_nan(covariance, tf.sqrt(tf.math.reduce_prod(list(spreads))))


class EpochMetrics:
    """The metrics of `metric_table.OF_AN_EPOCH` over a pass. Each record counts once, padding not at all.

    AUC is that of class 1 with two classes, else the mean over each class against the rest. Keras
    approximates it by thresholds; the report computes it exactly.

    Args:
        classes: number of classes.
        weighted_loss: whether to keep the mean loss by the weights of training too.
    """

    def __init__(self, classes: int, *, weighted_loss: bool = False) -> None:
        self.loss = keras.metrics.Mean(name="loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        self.auc = keras.metrics.AUC(
            name="auc", multi_label=classes > 2, num_labels=classes if classes > 2 else None
        )
        self.classes = classes
        self.weighted_loss = keras.metrics.Mean(name="weighted_loss") if weighted_loss else None
        # In the order of the versions that added them: `of_before` needs it.
        self._all: list[Any] = [self.loss, self.accuracy, self.auc]
        self._all += [self.weighted_loss] if self.weighted_loss else []
        self.mcc = MatthewsCorrelation(classes)
        self._all.append(self.mcc)

    def update(self, label: Any, logits: Any, loss: Any, weight: Any, of_training: Any = None) -> None:
        """Adds a batch.

        Args:
            label: int32 [B].
            logits: float32 [B, K].
            loss: float32 [B].
            weight: float32 [B], 1 for a record and 0 for padding.
            of_training: float32 [B], times the class weights.
        """
        if self.weighted_loss:
            self.weighted_loss.update_state(loss, sample_weight=of_training)
        self.loss.update_state(loss, sample_weight=weight)
        self.accuracy.update_state(label, logits, sample_weight=weight)
        self.mcc.update_state(label, logits, sample_weight=weight)
        probability = tf.nn.softmax(logits)
        if self.classes > 2:
            self.auc.update_state(tf.one_hot(label, self.classes), probability, sample_weight=weight)
        else:
            self.auc.update_state(label, probability[:, 1], sample_weight=weight)

    def take(self) -> Logs:
        """Returns the values so far by name."""
        return {meter.name: float(meter.result()) for meter in self._all}

    def reset(self) -> None:
        """Starts a new pass."""
        for meter in self._all:
            meter.reset_state()

    @property
    def sums(self) -> list[Any]:
        """The variables, float32: sums over the records so far, of each replica its own."""
        return [sums for meter in self._all for sums in meter.variables]

    def of_before(self, kept: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns the `sums` that a checkpoint holds, float32 [replicas, n], as this version has them.

        An older version has fewer metrics. In the epoch in which it was stopped, a metric that it lacks is
        computed from the records after the resume alone. The weighted loss goes on with the sums of the loss,
        because the version that lacks it weighted the loss itself.
        """
        before = 0  # sums of the metrics before this one
        for meter in self._all:
            size = sum(math.prod(sums.shape) for sums in meter.variables)
            if before == kept.shape[1]:
                of_the_loss = meter is self.weighted_loss  # total and count
                added = kept[:, :size] if of_the_loss else np.zeros((len(kept), size), kept.dtype)
                kept = np.concatenate([kept, added], 1)
            before += size
        return kept
