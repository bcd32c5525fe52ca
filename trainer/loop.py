"""The training loop: blocks of steps inside one `tf.function`, Keras callbacks between them.

It owns no policy. Stopping, saving and logging are callbacks; what comes next is the dataset's.
Keras' own `fit` cannot be used: it fails under multi-worker strategies and cannot start in mid-run.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import keras
import numpy as np
import tensorflow as tf

from data_pipeline.autotune import distribute_without_autotune
from data_pipeline.step.gradient import expect_summed_gradients, train_step
from data_pipeline.tiers.device_tables import look_up
from tfrecords.errors import EndedEarly
from trainer.evaluation.epoch_metrics import EpochMetrics, Logs
from trainer.seeds import decorrelate_replicas

LONGEST_BLOCK: Final = 50  # steps inside one call: Python and callbacks run between, at a step's cost or less


@dataclass(frozen=True)
class Block:
    """A block of steps that has just ended.

    Attributes:
        phase: training or validation.
        epoch: epochs done before this one.
        end: steps done in the epoch's phase.
        steps: of them in this block.
        seconds: it took.
        loss: mean of the phase so far.
    """

    phase: Literal["train", "val"]
    epoch: int
    end: int
    steps: int
    seconds: float
    loss: float


@dataclass(frozen=True)
class Data:
    """What a run reads.

    Attributes:
        train: step since the run's start -> an endless distributed dataset of batches from there.
        val: () -> padded passes over validation, one after the other, without end.
        steps_per_epoch: of train.
        val_steps: of validation.
        global_batch_size: records a step.
        table: () -> the train split in the memory of each replica's device, by which the batches' indices
            are looked up; or None if the batches are complete.
    """

    train: Callable[[int], Any]
    val: Callable[[], Any]
    steps_per_epoch: int
    val_steps: int
    global_batch_size: int
    table: Callable[[], Any] = lambda: None


class Loop:
    """Trains and evaluates one model under one strategy.

    Args:
        strategy: a `tf.distribute` strategy.
        build: () -> (model, optimizer), called in the strategy's scope.
        classes: number of classes.
        class_weights: the weight of each class in the loss that training minimises; None: all 1. The metrics
            are those of the records as they are, in training as in validation.
        deterministic: whether `enable_op_determinism` is on, which forbids `tf.timestamp`.
        augment: (images, keys) -> images, for training; see `data_pipeline.augment`.

    Attributes:
        kept_meters: float32 [replicas, n], the training meters as `keep_meters` found them, for a
            checkpoint in mid-epoch; of each replica its own, for a sum of sums is rounded otherwise.
    """

    def __init__(
        self,
        strategy: Any,
        build: Callable[[], tuple[keras.Model, keras.optimizers.Optimizer]],
        classes: int,
        class_weights: Sequence[float] | None = None,
        *,
        deterministic: bool = False,
        augment: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.strategy, self._deterministic, self._augment = strategy, deterministic, augment
        with strategy.scope():
            self.model, self.optimizer = build()
            self.optimizer.build(self.model.trainable_variables)
            expect_summed_gradients(self.optimizer)
            self._train_meters = EpochMetrics(classes, weighted_loss=class_weights is not None)
            self._val_meters = EpochMetrics(classes)
        decorrelate_replicas(self.model)
        distribute_without_autotune()
        self.kept_meters = tf.Variable(tf.zeros([0, 0]), shape=[None, None], trainable=False)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
        # The optimizer is where Keras callbacks look for it; fit() itself is not used.
        self.model.compile(optimizer=self.optimizer, loss=self._loss, auto_scale_loss=False)
        self._class_weights = tf.constant(class_weights or [1.0] * classes, tf.float32)
        self._train_block = tf.function(self._make_train_block())
        self._val_block = tf.function(self._make_val_block())
        self._length = LONGEST_BLOCK
        self._gathered_meters = tf.function(self._make_gathered_meters())

    def keep_meters(self) -> None:
        """Puts the training meters into `kept_meters`; every worker must call it."""
        self.kept_meters.assign(self._gathered_meters())

    def _load_meters(self) -> None:
        """Sets the training meters from `kept_meters`; for another number of replicas, from their sum."""
        replicas, kept = self.strategy.num_replicas_in_sync, self.kept_meters.numpy()
        if len(kept) != replicas:
            kept = np.concatenate(
                [kept.sum(0, keepdims=True), np.zeros_like(kept[:1]).repeat(replicas - 1, 0)]
            )
        kept = self._train_meters.of_before(kept)

        @tf.function
        def load() -> None:
            context = tf.distribute.get_replica_context()
            own, sums = tf.constant(kept)[context.replica_id_in_sync_group], self._train_meters.sums
            for each, values in zip(sums, tf.split(own, [math.prod(v.shape) for v in sums]), strict=True):
                each.assign(tf.reshape(values, each.shape))

        self.strategy.run(load)

    def run(
        self,
        data: Data,
        callbacks: Sequence[keras.callbacks.Callback],
        *,
        epochs: int,
        start: tuple[int, int] = (0, 0),
        cut_every: int = 0,
        pause: Callable[[Block], int] = lambda _: LONGEST_BLOCK,
        first_block: int = LONGEST_BLOCK,
        on_begin: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Trains until `epochs` or until a callback sets `model.stop_training`.

        Callbacks get Keras' calls and logs: `on_train_batch_end` once a block, and at the end of an
        epoch loss, accuracy, auc, the same with `val_`, learning_rate, images_per_second (of training)
        and input_wait (the share of training time spent waiting for a batch); with class weights also
        weighted_loss, which training minimises. images_per_second and input_wait are of what this call
        trained: of an epoch that it started in the middle, of the rest; 0 if that is nothing.

        Args:
            data: what to read.
            callbacks: Keras callbacks.
            epochs: at most, counted from the run's start.
            start: epochs done before, validation included, and steps done in the next one, of which
                `kept_meters` must be the meters.
            cut_every: blocks end at multiples of this step too, counted from the run's start; 0: no such.
            pause: called after each block; returns how many steps the next one has at most, which changes
                no result. What it raises ends the training, after the callbacks' `on_train_end`.
            first_block: steps of the first one.
            on_begin: called when the data are open, after the callbacks' own `on_train_begin`, which resets
                them.
            clock: seconds.

        Raises:
            EndedEarly: by `pause`.
        """
        first_epoch, skipped = start
        table = data.table()
        batches = iter(data.train(first_epoch * data.steps_per_epoch + skipped))
        val = iter(data.val())
        calls = keras.callbacks.CallbackList(list(callbacks), model=self.model)
        calls.set_params({"epochs": epochs, "steps": data.steps_per_epoch, "verbose": 0})
        self.model.stop_training = False
        calls.on_train_begin()
        on_begin()
        self._length = first_block
        logs: Logs = {}

        def ended(block: Block) -> None:
            self._length = max(1, min(LONGEST_BLOCK, pause(block)))

        try:
            for epoch in range(first_epoch, epochs):
                if self.model.stop_training:
                    break
                calls.on_epoch_begin(epoch)
                done = skipped if epoch == first_epoch else 0
                logs = self._train_epoch(batches, table, data, (epoch, done, cut_every), calls, ended, clock)
                found = self._evaluate(val, data, epoch, calls, ended, clock)
                logs |= {f"val_{name}": value for name, value in found.items()}
                logs["learning_rate"] = float(self.optimizer.learning_rate.numpy())
                calls.on_epoch_end(epoch, logs)
        except EndedEarly:
            calls.on_train_end(logs)  # TensorBoard's files are closed
            raise
        calls.on_train_end(logs)

    def _train_epoch(
        self,
        batches: Any,
        table: Any,
        data: Data,
        where: tuple[int, int, int],
        calls: Any,
        ended: Callable[[Block], None],
        clock: Callable[[], float],
    ) -> Logs:
        epoch, skipped, cut_every = where
        if skipped:
            self._load_meters()
        else:
            self._train_meters.reset()
        began, waited, done = clock(), 0.0, skipped
        logs = self._train_meters.take() if skipped == data.steps_per_epoch else {}
        while done < data.steps_per_epoch:
            end = block_end(epoch, done, self._length, data.steps_per_epoch, cut_every)
            calls.on_train_batch_begin(done)
            block_began = clock()
            waited += float(self._train_block(batches, tf.constant(end - done), table))
            logs = self._train_meters.take()
            calls.on_train_batch_end(end - 1, logs)
            ended(Block("train", epoch, end, end - done, clock() - block_began, logs["loss"]))
            done = end
        seconds = max(clock() - began, 1e-9)
        images = (data.steps_per_epoch - skipped) * data.global_batch_size
        return logs | {"images_per_second": images / seconds, "input_wait": min(1.0, waited / seconds)}

    def _evaluate(
        self,
        val: Any,
        data: Data,
        epoch: int,
        calls: Any,
        ended: Callable[[Block], None],
        clock: Callable[[], float],
    ) -> Logs:
        self._val_meters.reset()
        calls.on_test_begin()
        done, logs = 0, Logs()
        while done < data.val_steps:
            end, began = min(done + self._length, data.val_steps), clock()
            self._val_block(val, tf.constant(end - done))
            logs = self._val_meters.take()
            ended(Block("val", epoch, end, end - done, clock() - began, logs["loss"]))
            done = end
        calls.on_test_end(logs)
        return logs

    def _train_step(self, batch: dict[str, Any], table: Any) -> None:
        """One step of one replica."""
        batch = look_up(batch, table)
        label, context = batch["label"], tf.distribute.get_replica_context()
        real = batch["weight"]
        weight = real * tf.gather(self._class_weights, label)
        image = self._augment(batch["image"], batch["key"]) if self._augment else batch["image"]
        logits, losses = train_step(self.model, self.optimizer, self._loss, image, label, weight)
        self._train_meters.update(label, logits, losses, real, weight)
        if context.num_replicas_in_sync > 1:
            self._share_statistics(context)

    def _share_statistics(self, context: Any) -> None:
        """Gives all replicas one state of what layers keep by themselves (BatchNormalization): the mean.

        Each would keep that of its own records, and a checkpoint holds but one replica's.
        """
        kept = [each for each in self.model.non_trainable_weights if each.dtype.startswith("float")]
        values = [tf.identity(each) for each in kept]  # copies on the replica's device: a read may name none
        if values:
            means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
            for each, mean in zip(kept, means, strict=True):
                each.assign(mean)

    def _val_step(self, batch: dict[str, Any]) -> None:
        logits = self.model(batch["image"], training=False)
        losses = self._loss(batch["label"], logits)
        self._val_meters.update(batch["label"], logits, losses, batch["weight"])

    def _make_train_block(self) -> Callable[[Any, Any, Any], Any]:
        def block(batches: Any, count: Any, table: Any) -> Any:
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
                self.strategy.run(self._train_step, args=(batch, table))
            return waited

        return block

    def _make_gathered_meters(self) -> Callable[[], Any]:
        def own() -> Any:
            return tf.concat([tf.reshape(sums, [1, -1]) for sums in self._train_meters.sums], 1)

        return lambda: self.strategy.gather(self.strategy.run(own), axis=0)

    def _make_val_block(self) -> Callable[[Any, Any], None]:
        def block(batches: Any, count: Any) -> None:
            for _ in tf.range(count):
                self.strategy.run(self._val_step, args=(next(batches),))

        return block


def block_end(epoch: int, done: int, length: int, steps_per_epoch: int, cut_every: int = 0) -> int:
    """Returns the step, counted from the epoch's start, at which the next block ends.

    Args:
        epoch: epochs before this one.
        done: steps of this one that are done.
        length: steps of the block, at most.
        steps_per_epoch: steps of each.
        cut_every: a block ends at each multiple of this step, counted from the run's start; 0: no such.
    """
    ends = [done + length, steps_per_epoch]
    if cut_every:
        of_run = epoch * steps_per_epoch + done
        ends.append(done + cut_every - of_run % cut_every)
    return min(ends)


def _deterministic_now() -> Any:
    """Returns the seconds since the epoch, float64, read when the graph comes to it."""
    return tf.ensure_shape(tf.numpy_function(time.time, [], tf.float64), [])
