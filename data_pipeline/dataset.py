"""`make_dataset`: shards to batches; it chooses the tier and calls that tier's chain of tf.data.

There is one chain a file: `tiers.gathered` for the tiers memory, disk and device, `stream.in_place` and
`stream.batches` for a stream. A stream is read in place if it can be, else by tf.data; both ways show the
same records in one order.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.copies import records_per_epoch
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.order import steps_per_epoch
from data_pipeline.request import BATCH, Request
from data_pipeline.stream.batches import streamed
from data_pipeline.stream.in_place import read_in_place
from data_pipeline.tiers import disk, memory
from data_pipeline.tiers.choice import Machine, Tier, choose_tier
from data_pipeline.tiers.gathered import gathered
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest


def tier_of(
    manifest: Manifest,
    split: str,
    options: PipelineOptions,
    machine: Machine | None = None,
) -> Tier:
    """Returns where a split's records come from; see `choose_tier`.

    Args:
        manifest: of the data set.
        split: name of the split.
        options: see `PipelineOptions`.
        machine: None: one process, no GPU.

    Raises:
        InputError: no such split.
    """
    return choose_tier(
        options,
        manifest.split(split).records * int(np.prod(manifest.image_shape)),
        machine or Machine(),
        encoded=manifest.encoding != "raw",
        disk_free=disk.room(options.cache_dir, manifest, split),
    )


def epoch_steps(manifest: Manifest, split: str, options: PipelineOptions, *, training: bool) -> int:
    """Returns the steps of an epoch.

    Raises:
        InputError: the split is smaller than one batch that is to be dropped if not full.
    """
    records = records_per_epoch(manifest, split, options.copies if training else "all")
    last = options.last_batch if training else "pad"
    steps = steps_per_epoch(records, options.global_batch_size, last)
    if not steps:
        raise InputError(
            f"--global_batch_size={options.global_batch_size}: split {split!r} has {records} records, so "
            f"--last_batch=drop leaves no step; use --last_batch=wrap or a smaller batch"
        )
    return steps


def make_dataset(
    directory: str | os.PathLike[str],
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

    Training is endless and shuffled anew each epoch; `options.copies` says which records an epoch shows.
    Evaluation is one pass in the order of the shards, its last batch filled up with records of weight 0.
    The records of global batch s are the same for any number of workers and replicas: each takes its rows.

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
        Training from the device tier: `index` int64 [B] and `weight`; `device.look_up` has the rest.
        Training with `options.augment`: also `key` int64 [B], of each record's draw in this epoch.

    Raises:
        InputError: no such split, a damaged shard, or a batch that cannot be cut.
    """
    directory = Path(directory)
    request = Request(
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
    tier = tier_of(manifest, split, options).name
    config = tf.data.Options()
    config.deterministic = True
    if options.threads:
        config.threading.private_threadpool_size = options.threads
    # For them TensorFlow rewrites the dataset's graph, and copies every tensor that it holds: a split in
    # memory would be there twice, one mapped from disk once in each process. What they do is done by hand
    # here. (Deterministic ops make TensorFlow rewrite the graph all the same.)
    config.experimental_optimization.apply_default_optimizations = False
    # Each worker takes its own rows already.
    config.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    if tier == "stream":
        return (read_in_place(request) if request.in_place else streamed(request)).with_options(config)
    # Nothing below is left to tf.data's autotuning, and an iterator that ends would wait for its thread.
    config.autotune.enabled = False
    if tier == "device" and training:
        columns = memory.load(directory, manifest, split, request.columns) if request.columns else {}
        return gathered(
            request, columns, lambda index, weight: {"index": index, "weight": weight}
        ).with_options(config)
    stored = tuple(name for name in dict.fromkeys((*fields, *request.columns)) if name != "weight")
    if tier == "disk":
        tensors = disk.load(directory, manifest, split, stored, options.cache_dir)
    else:
        tensors = memory.load(directory, manifest, split, stored)

    def look_up(index: Any, weight: Any) -> dict[str, Any]:
        return {name: weight if name == "weight" else tf.gather(tensors[name], index) for name in fields}

    return gathered(request, tensors, look_up).with_options(config)
