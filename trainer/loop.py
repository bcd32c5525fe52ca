"""The training loop: blocks of steps inside one `tf.function`, with Keras callbacks between the blocks.

It decides nothing. Callbacks stop, save and log; the dataset says which records come next. Keras' own `fit`
cannot be used: it fails under multi-worker strategies and cannot start in the middle of a run.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data_pipeline.distribution import mend_distribution
from data_pipeline.step.gradient import expect_summed_gradients, train_step
from data_pipeline.step.soft_targets import SoftTargets
from data_pipeline.tiers.device_tables import look_up
from tfrecords.errors import EndedEarly
from trainer.blocks import LONGEST_BLOCK, Block, Cuts, block_end
from trainer.evaluation.epoch_metrics import EpochMetrics, Logs
from trainer.models.normalize import Front, network
from trainer.optimisation.averages import Averages
from trainer.optimisation.backbone import Backbone
from trainer.seeds import decorrelate_replicas


@dataclass(frozen=True)
class Data:
    """What a run reads.

    Attributes:
        train: step since the run's start -> an endless distributed dataset of batches from that step on.
        val: () -> an endless dataset of passes over validation, each padded to full batches.
        steps_per_epoch: training steps of one epoch.
        val_steps: steps of one validation.
        global_batch_size: records of one step, over all replicas.
        table: () -> the train split in the memory of each replica's device, in which a step looks up the
            records of its batch by index; None if batches hold the records themselves.
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
        class_weights: the weight of each class in the loss that training minimises; None: all 1. They
            change no metric: metrics count each record once, in training and in validation.
        deterministic: whether `enable_op_determinism` is on, which forbids `tf.timestamp`.
        augment: (images, keys) -> images, for training; see `data_pipeline.augment`.
        soft_targets: what training minimises the loss against; None: the labels. The training loss is that
            loss; the other metrics of training count each record by its own label.
        front: what training does between mixing and the network of a model that normalizes; None: the model
            does not.
        jit_compile: whether XLA compiles loss and gradient of this model.
        parts: into which the batch of a replica is cut, see `train_step`.
        ema: see `trainer.optimisation.averages`.
        backbone: returns the layers of the model that a callback may freeze, or None.

    Attributes:
        backbone: layers that may be frozen, or None. After a change call `retrace`.
        averages: of the weights, with which validation is done.
        kept_meters: float32 [replicas, n], the training metrics' sums when `keep_meters` was called, for a
            checkpoint within an epoch. Each replica has its own row: their sum would be rounded differently.
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
        soft_targets: SoftTargets | None = None,
        front: Front | None = None,
        jit_compile: Callable[[keras.Model], bool] = lambda _: False,
        parts: int = 1,
        ema: float = 0.0,
        backbone: Callable[[keras.Model], Backbone | None] = lambda _: None,
    ) -> None:
        self.strategy, self._deterministic, self._augment = strategy, deterministic, augment
        self._soft_targets, self._front, self._parts = soft_targets, front, parts
        with strategy.scope():
            self.model, self.optimizer = build()
            self.optimizer.build(self.model.trainable_variables)
            expect_summed_gradients(self.optimizer)
            self._train_meters = EpochMetrics(classes, weighted_loss=class_weights is not None)
            self._val_meters = EpochMetrics(classes)
            self.averages = Averages(self.model, ema)
        self.backbone = backbone(self.model)
        # What layers keep besides weights. A frozen layer's weights are no such thing.
        self._statistics = [each for each in self.model.non_trainable_weights if "float" in each.dtype]
        self._jit_compile = jit_compile(self.model)
        decorrelate_replicas(self.model)
        mend_distribution()
        self.kept_meters = tf.Variable(tf.zeros([0, 0]), shape=[None, None], trainable=False)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
        # The optimizer is where Keras callbacks look for it; fit() itself is not used.
        self.model.compile(optimizer=self.optimizer, loss=self._loss, auto_scale_loss=False)
        self._class_weights = tf.constant(class_weights or [1.0] * classes, tf.float32)
        self.retrace()
        self._val_block = tf.function(self._make_val_block())
        self._length = LONGEST_BLOCK
        self._gathered_meters = tf.function(self._make_gathered_meters())

    def retrace(self) -> None:
        """Lets the next step see which layers are trainable now."""
        self._train_block = tf.function(self._steps)
        self._train_alone = tf.function(self._one_step)

    def keep_meters(self) -> None:
        """Copies the sums of the training metrics into `kept_meters`; every worker must call it."""
        self.kept_meters.assign(self._gathered_meters())

    def _load_meters(self) -> None:
        """Sets the training metrics from `kept_meters`; for another number of replicas, from their sum."""
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
        cuts: Cuts | None = None,
        pause: Callable[[Block], int] = lambda _: LONGEST_BLOCK,
        first_block: int = LONGEST_BLOCK,
        on_begin: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Trains until `epochs` are done or a callback sets `model.stop_training`.

        Callbacks get Keras' calls and logs. `on_train_batch_end` comes once for each block, with the means of
        the epoch so far. The logs of an epoch are those of `metric_table.OF_AN_EPOCH`, the same with `val_`,
        learning_rate, images_per_second (of training) and input_wait (the share of training time spent
        waiting for a batch); with class weights also weighted_loss, which training minimises.
        images_per_second and input_wait count only what this call has trained of the epoch; they are 0 if
        that is nothing.

        Args:
            data: what to read.
            callbacks: Keras callbacks.
            epochs: at most, counted from the run's start.
            start: epochs done before, validation included, and steps done of the next one. `kept_meters`
                must hold the sums of these steps.
            cuts: where blocks end besides; None: nowhere.
            pause: called after each block; returns the most steps of the next block, which change no
                result. An EndedEarly from it ends the training, after the callbacks' `on_train_end`.
            first_block: the most steps of the first block.
            on_begin: called when the data are open, after the callbacks' `on_train_begin`, which resets them.
            clock: returns seconds.

        Raises:
            EndedEarly: `pause` raised it.
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
                logs = self._train_epoch(
                    batches, table, data, (epoch, done, cuts or Cuts()), calls, ended, clock
                )
                found = self._evaluate(val, data, epoch, calls, ended, clock)
                logs |= {f"val_{name}": value for name, value in found.items()}
                logs["learning_rate"] = float(self.optimizer.learning_rate.numpy())
                calls.on_epoch_end(epoch, logs)
        except EndedEarly:
            calls.on_train_end(logs)  # callbacks close their files
            raise
        calls.on_train_end(logs)

    def _train_epoch(
        self,
        batches: Any,
        table: Any,
        data: Data,
        where: tuple[int, int, Cuts],
        calls: Any,
        ended: Callable[[Block], None],
        clock: Callable[[], float],
    ) -> Logs:
        epoch, skipped, cuts = where
        if skipped:
            self._load_meters()
        else:
            self._train_meters.reset()
        began, waited, done = clock(), 0.0, skipped
        logs = self._train_meters.take() if skipped == data.steps_per_epoch else {}
        while done < data.steps_per_epoch:
            end = block_end(epoch, done, self._length, data.steps_per_epoch, cuts)
            calls.on_train_batch_begin(done)
            block_began = clock()
            if cuts.alone(epoch * data.steps_per_epoch + done):
                waited += float(self._train_alone(batches, table))
            else:
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
        target, loss = label, self._loss
        if self._soft_targets:
            image, target = self._soft_targets(batch, image)
            loss, weight = self._soft_targets.loss, real * tf.reduce_sum(target * self._class_weights, 1)
        model = self.model
        if self._front:
            image, model = self._front(model, image, batch), network(model)
        logits, losses = train_step(
            model,
            self.optimizer,
            loss,
            image,
            target,
            weight,
            jit_compile=self._jit_compile,
            parts=self._parts,
            slow=self.backbone.slow if self.backbone else ((), 1.0),
        )
        self._train_meters.update(label, logits, losses, real, weight)
        if context.num_replicas_in_sync > 1:
            self._share_statistics(context)
        self.averages.update(self.optimizer)

    def _share_statistics(self, context: Any) -> None:
        """Sets what layers keep besides weights (BatchNormalization) to its mean over all replicas.

        Otherwise each replica would keep that of its own records, and a checkpoint holds one replica's.
        """
        kept = self._statistics
        values = [tf.identity(each) for each in kept]  # a copy is on the replica's device; a read need not be
        if values:
            means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
            for each, mean in zip(kept, means, strict=True):
                each.assign(mean)

    def _val_step(self, batch: dict[str, Any]) -> None:
        logits = self.averages.logits(batch["image"])
        losses = self._loss(batch["label"], logits)
        self._val_meters.update(batch["label"], logits, losses, batch["weight"])

    def _steps(self, batches: Any, count: Any, table: Any) -> Any:
        """Runs `count` steps; returns the seconds spent waiting for batches, float64."""
        waited = tf.constant(0.0, tf.float64)
        for _ in tf.range(count):
            waited += self._one_step(batches, table)
        return waited

    def _one_step(self, batches: Any, table: Any) -> Any:
        """Runs one step on all replicas; returns the seconds spent waiting for its batch, float64."""
        now = _deterministic_now if self._deterministic else tf.timestamp
        asked = now()
        with tf.control_dependencies([asked]):
            batch = next(batches)
        got = self.strategy.experimental_local_results(batch)
        with tf.control_dependencies(tf.nest.flatten(got)):
            waited = now() - asked
        # The step comes after the clock was read: one thread would else read it within the step.
        with tf.control_dependencies([waited]):
            self.strategy.run(self._train_step, args=(batch, table))
        return waited

    def _make_gathered_meters(self) -> Callable[[], Any]:
        def own() -> Any:
            return tf.concat([tf.reshape(sums, [1, -1]) for sums in self._train_meters.sums], 1)

        return lambda: self.strategy.gather(self.strategy.run(own), axis=0)

    def _make_val_block(self) -> Callable[[Any, Any], None]:
        def block(batches: Any, count: Any) -> None:
            for _ in tf.range(count):
                self.strategy.run(self._val_step, args=(next(batches),))

        return block


def _deterministic_now() -> Any:
    """Returns the time in seconds, float64, read when the graph runs this op."""
    return tf.ensure_shape(tf.numpy_function(time.time, [], tf.float64), [])
