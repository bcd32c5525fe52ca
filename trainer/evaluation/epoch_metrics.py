"""What is counted while a pass over a split goes on, on the device: the metrics of an epoch's log."""

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

Logs = dict[str, float]


class EpochMetrics:
    """Loss, accuracy and AUC over a pass, of each real record alike: padding counts nothing.

    AUC is of class 1 for two classes, else the mean of each class against the rest; Keras
    approximates it by thresholds. The report computes it exactly.

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
        self._all: list[Any] = [self.loss, self.accuracy, self.auc]
        self.weighted_loss = keras.metrics.Mean(name="weighted_loss") if weighted_loss else None
        if self.weighted_loss:  # behind the others, where a version before had nothing
            self._all.append(self.weighted_loss)

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

        A version before weighted all of them, so that its loss is the weighted one. The values of the epoch
        in which it was stopped stay of both kinds.
        """
        size = sum(math.prod(sums.shape) for sums in self.sums)
        if self.weighted_loss and kept.shape[1] == size - 2:
            return np.concatenate([kept, kept[:, :2]], 1)  # total and count of the loss
        return kept
