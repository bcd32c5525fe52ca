"""`make_dataset`: shards to batches, one visible chain for each of the two tiers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline import resident, streaming
from data_pipeline.options import PipelineOptions, Tier, Worker, choose_tier
from data_pipeline.order import shuffled, steps_per_epoch
from data_pipeline.parse import parse_batch
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest

BATCH = ("image", "label", "weight")
_FOREVER = np.iinfo(np.int64).max


def tier_of(manifest: Manifest, split: str, options: PipelineOptions) -> Tier:
    """Returns where a split's records come from: memory if they fit, decoded, else a stream."""
    return choose_tier(options, manifest.split(split).records * int(np.prod(manifest.image_shape)))


def epoch_steps(manifest: Manifest, split: str, options: PipelineOptions, *, training: bool) -> int:
    """Returns the steps of an epoch.

    Raises:
        InputError: the split is smaller than one batch that is to be dropped if not full.
    """
    records = manifest.split(split).records
    last = options.last_batch if training else "pad"
    steps = steps_per_epoch(records, options.global_batch_size, last)
    if not steps:
        raise InputError(
            f"--global_batch_size={options.global_batch_size}: split {split!r} has {records} records, so "
            f"--last_batch=drop leaves no step; use --last_batch=wrap or a smaller batch"
        )
    return steps


def make_dataset(
    directory: Path,
    manifest: Manifest,
    split: str,
    options: PipelineOptions,
    *,
    training: bool,
    start_step: int = 0,
    worker: Worker | None = None,
    fields: tuple[str, ...] = BATCH,
) -> tf.data.Dataset:
    """Makes the batches of one worker, one element for each of its replicas and each step.

    Training is endless and shuffled anew each epoch. Evaluation is one pass in the order of the
    shards, its last batch filled up with records of weight 0. The records of global batch s are the
    same for any number of workers and replicas: each takes its rows of it.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        split: name of the split.
        options: see `PipelineOptions`.
        training: train order and last batch, or one padded pass.
        start_step: first step, counted from the start of the run (training only).
        worker: which rows of each global batch; None: all.
        fields: "weight" and names out of `tfrecords.example.FIELDS`.

    Returns:
        a dataset of dicts with static shapes: `image` uint8 [B, H, W, C], `label` int32 [B], `weight`
        float32 [B] (1, or 0 for filling), other fields as stored; B is the batch of one replica.

    Raises:
        InputError: no such split, a damaged shard, or a batch that cannot be cut.
    """
    request = _Request(
        directory,
        manifest,
        split,
        options,
        training,
        start_step,
        epoch_steps(manifest, split, options, training=training),
        worker or Worker(),
        fields,
    )
    in_memory = tier_of(manifest, split, options).name == "memory"
    config = tf.data.Options()
    config.deterministic = True
    # Each worker takes its own rows already.
    config.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return (_resident(request) if in_memory else _streamed(request)).with_options(config)


@dataclass(frozen=True)
class _Request:
    directory: Path
    manifest: Manifest
    split: str
    options: PipelineOptions
    training: bool
    start_step: int
    steps: int
    worker: Worker
    fields: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Records a step of one replica."""
        return self.worker.replica_batch_size(self.options.global_batch_size)


def _resident(request: _Request) -> tf.data.Dataset:
    options, worker, rows, steps = request.options, request.worker, request.rows, request.steps
    tensors = resident.load(request.directory, request.manifest, request.split)
    size = request.manifest.split(request.split).records

    def gather(element: Any) -> dict[str, Any]:
        step, replica = element // worker.replicas, element % worker.replicas
        first = step % steps * options.global_batch_size
        first += (worker.index * worker.replicas + replica) * rows
        position = first + tf.range(rows, dtype=tf.int64)
        if request.training:  # "wrap": positions past the end show the epoch's first records
            index = shuffled(position % size, seed=options.seed, epoch=step // steps, size=size)
            weight = tf.ones([rows])
        else:
            index = tf.minimum(position, size - 1)
            weight = tf.cast(position < size, tf.float32)
        return {
            name: weight if name == "weight" else tf.gather(tensors[name], index) for name in request.fields
        }

    start, end = (request.start_step, _FOREVER) if request.training else (0, steps * worker.replicas)
    return (
        # The dataset holds no data and no buffer of indices: a step's number says all.
        tf.data.Dataset.range(start * worker.replicas, end)
        # One thread gathers as fast as memory gives; more would take cores from the training.
        .map(gather)
        .prefetch(options.prefetch * worker.replicas)
    )


def _streamed(request: _Request) -> tf.data.Dataset:
    options, worker, rows, steps = request.options, request.worker, request.rows, request.steps
    size, whole = request.manifest.split(request.split).records, options.global_batch_size
    where = (request.directory, request.manifest, request.split)

    def epoch_batches(epoch: Any) -> tf.data.Dataset:
        records = streaming.epoch_records(
            *where, window=options.shuffle_window, seed=options.seed, epoch=epoch
        )
        if steps * whole > size:  # "wrap": the same order once more, as far as it is needed
            records = records.repeat().take(steps * whole)
        first_step = tf.where(epoch == request.start_step // steps, request.start_step % steps, 0)
        # Records before the first step are read, but neither parsed nor decoded.
        return records.skip(tf.cast(first_step, tf.int64) * whole).batch(whole, drop_remainder=True)

    def own_rows(serialized: Any) -> tf.data.Dataset:
        """Global batch, string [<= whole], to this worker's replicas' parts, string [rows] each."""
        there = tf.size(serialized)
        filled = tf.concat([serialized, tf.repeat(serialized[:1], whole - there)], 0)
        weight = tf.cast(tf.range(whole) < there, tf.float32)
        own = slice(worker.index * worker.replicas, (worker.index + 1) * worker.replicas)
        parts = [tf.reshape(column, [-1, rows])[own] for column in (filled, weight)]
        return tf.data.Dataset.from_tensor_slices(tuple(parts))

    def parse(serialized: Any, weight: Any) -> dict[str, Any]:
        stored = tuple(name for name in request.fields if name != "weight")
        parsed = {**parse_batch(serialized, request.manifest, stored), "weight": weight}
        return {
            name: tf.ensure_shape(parsed[name], [rows, *parsed[name].shape[1:]]) for name in request.fields
        }

    if request.training:
        epochs = tf.data.Dataset.range(request.start_step // steps, _FOREVER)
        batches = epochs.flat_map(epoch_batches)
    else:
        batches = streaming.ordered_records(*where).batch(whole)
    return (
        batches.flat_map(own_rows)
        # Batch first, then one parse for the whole batch: twice as fast as record by record.
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(options.prefetch * worker.replicas)
    )
