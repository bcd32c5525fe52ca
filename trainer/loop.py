"""The training loop: blocks of steps inside one `tf.function`, Keras callbacks between them.

It owns no policy. Stopping, saving and logging are callbacks; what comes next is the dataset's.
Keras' own `fit` cannot be used: it fails under multi-worker strategies and cannot start in mid-run.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
import tensorflow as tf

_BLOCK: Final = 50  # steps inside one call: Python and callbacks run between, at a step's cost or less

Logs = dict[str, float]


@dataclass(frozen=True)
class Data:
    """What a run reads.

    Attributes:
        train: start step -> an endless distributed dataset of batches from there.
        val: () -> one padded pass over validation.
        steps_per_epoch: of train.
        val_steps: of validation.
        global_batch_size: records a step.
    """

    train: Callable[[int], Any]
    val: Callable[[], Any]
    steps_per_epoch: int
    val_steps: int
    global_batch_size: int


class Meters:
    """Loss, accuracy and AUC over a pass, weighted, so that padding counts nothing.

    AUC is of class 1 for two classes, else the mean of each class against the rest; Keras
    approximates it by thresholds. The report computes it exactly.
    """

    def __init__(self, classes: int) -> None:
        self.loss = keras.metrics.Mean(name="loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        self.auc = keras.metrics.AUC(
            name="auc", multi_label=classes > 2, num_labels=classes if classes > 2 else None
        )
        self.classes = classes

    def update(self, label: Any, logits: Any, loss: Any, weight: Any) -> None:
        """Adds a batch: label int32 [B], logits float32 [B, K], loss and weight float32 [B]."""
        self.loss.update_state(loss, sample_weight=weight)
        self.accuracy.update_state(label, logits, sample_weight=weight)
        probability = tf.nn.softmax(logits)
        if self.classes > 2:
            self.auc.update_state(tf.one_hot(label, self.classes), probability, sample_weight=weight)
        else:
            self.auc.update_state(label, probability[:, 1], sample_weight=weight)

    def take(self) -> Logs:
        """Returns the values so far by name."""
        return {meter.name: float(meter.result()) for meter in (self.loss, self.accuracy, self.auc)}

    def reset(self) -> None:
        """Starts a new pass."""
        for meter in (self.loss, self.accuracy, self.auc):
            meter.reset_state()


class Loop:
    """Trains and evaluates one model under one strategy.

    Args:
        strategy: a `tf.distribute` strategy.
        build: () -> (model, optimizer), called in the strategy's scope.
        classes: number of classes.
        class_weights: the weight of each class in the training loss; None: all 1.
        deterministic: whether `enable_op_determinism` is on, which forbids `tf.timestamp`.
    """

    def __init__(
        self,
        strategy: Any,
        build: Callable[[], tuple[keras.Model, keras.optimizers.Optimizer]],
        classes: int,
        class_weights: Sequence[float] | None = None,
        *,
        deterministic: bool = False,
    ) -> None:
        self.strategy, self._deterministic = strategy, deterministic
        with strategy.scope():
            self.model, self.optimizer = build()
            self.optimizer.build(self.model.trainable_variables)
            self._train_meters, self._val_meters = Meters(classes), Meters(classes)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
        # The optimizer is where Keras callbacks look for it; fit() itself is not used.
        self.model.compile(optimizer=self.optimizer, loss=self._loss, auto_scale_loss=False)
        self._class_weights = tf.constant(class_weights or [1.0] * classes, tf.float32)
        self._train_block = tf.function(self._make_train_block())
        self._val_block = tf.function(self._make_val_block())

    def run(
        self,
        data: Data,
        callbacks: Sequence[keras.callbacks.Callback],
        *,
        epochs: int,
        first_epoch: int = 0,
        on_begin: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Trains until `epochs` or until a callback sets `model.stop_training`.

        Callbacks get Keras' calls and logs: `on_train_batch_end` once a block, and at the end of an
        epoch loss, accuracy, auc, the same with `val_`, learning_rate, images_per_second (of training)
        and input_wait (the share of training time spent waiting for a batch).

        Args:
            data: what to read.
            callbacks: Keras callbacks.
            epochs: at most, counted from the run's start.
            first_epoch: epochs done before.
            on_begin: called after the callbacks' own `on_train_begin`, which resets them.
            clock: seconds.
        """
        calls = keras.callbacks.CallbackList(list(callbacks), model=self.model)
        calls.set_params({"epochs": epochs, "steps": data.steps_per_epoch, "verbose": 0})
        self.model.stop_training = False
        calls.on_train_begin()
        on_begin()
        batches = iter(data.train(first_epoch * data.steps_per_epoch))
        val = data.val()
        logs: Logs = {}
        for epoch in range(first_epoch, epochs):
            if self.model.stop_training:
                break
            calls.on_epoch_begin(epoch)
            logs = self._train_epoch(batches, data, calls, clock)
            logs |= {f"val_{name}": value for name, value in self._evaluate(val, data, calls).items()}
            logs["learning_rate"] = float(self.optimizer.learning_rate.numpy())
            calls.on_epoch_end(epoch, logs)
        calls.on_train_end(logs)

    def _train_epoch(self, batches: Any, data: Data, calls: Any, clock: Callable[[], float]) -> Logs:
        self._train_meters.reset()
        started, waited = clock(), 0.0
        logs: Logs = {}
        for first in range(0, data.steps_per_epoch, _BLOCK):
            count = min(_BLOCK, data.steps_per_epoch - first)
            calls.on_train_batch_begin(first)
            waited += float(self._train_block(batches, tf.constant(count)))
            logs = self._train_meters.take()
            calls.on_train_batch_end(first + count - 1, logs)
        seconds = max(clock() - started, 1e-9)
        images = data.steps_per_epoch * data.global_batch_size
        return logs | {"images_per_second": images / seconds, "input_wait": min(1.0, waited / seconds)}

    def _evaluate(self, val: Any, data: Data, calls: Any) -> Logs:
        self._val_meters.reset()
        calls.on_test_begin()
        self._val_block(iter(val), tf.constant(data.val_steps))
        logs = self._val_meters.take()
        calls.on_test_end(logs)
        return logs

    def _train_step(self, batch: dict[str, Any]) -> None:
        """One step of one replica."""
        label, context = batch["label"], tf.distribute.get_replica_context()
        weight = batch["weight"] * tf.gather(self._class_weights, label)
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(weight))
        with tf.GradientTape() as tape:
            logits = self.model(batch["image"], training=True)
            losses = self._loss(label, logits)
            # The sum over all replicas' shares is the mean over the global batch.
            share = self.optimizer.scale_loss(tf.reduce_sum(losses * weight) / total)
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(share, variables), variables)  # sums over the replicas
        self._train_meters.update(label, logits, losses, weight)

    def _val_step(self, batch: dict[str, Any]) -> None:
        logits = self.model(batch["image"], training=False)
        losses = self._loss(batch["label"], logits)
        self._val_meters.update(batch["label"], logits, losses, batch["weight"])

    def _make_train_block(self) -> Callable[[Any, Any], Any]:
        def block(batches: Any, count: Any) -> Any:
            """Runs `count` steps; returns the seconds spent waiting for batches, float64."""
            now = _deterministic_now if self._deterministic else tf.timestamp
            waited = tf.constant(0.0, tf.float64)
            for _ in tf.range(count):
                asked = now()
                with tf.control_dependencies([asked]):
                    batch = next(batches)
                got = self.strategy.experimental_local_results(batch)
                with tf.control_dependencies(tf.nest.flatten(got)):
                    waited += now() - asked
                self.strategy.run(self._train_step, args=(batch,))
            return waited

        return block

    def _make_val_block(self) -> Callable[[Any, Any], None]:
        def block(batches: Any, count: Any) -> None:
            for _ in tf.range(count):
                self.strategy.run(self._val_step, args=(next(batches),))

        return block


def _deterministic_now() -> Any:
    """Returns the seconds since the epoch, float64, read when the graph comes to it."""
    return tf.ensure_shape(tf.numpy_function(time.time, [], tf.float64), [])
