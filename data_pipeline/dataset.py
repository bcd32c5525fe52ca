"""`make_dataset`: shards to batches. It chooses the tier and calls the tf.data chain of that tier.

Each chain has a file. `tiers.gathered` is the chain of all tiers that hold the split. `stream.in_place` and
`stream.batches` are the two chains of a stream: the first reads local shards itself, the second reads by
tf.data whatever the first cannot; both show the same records in the same order. `supervised` follows a chain
if a Keras model's own `fit` reads the batches.
"""

import os
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_pipeline.copies import records_per_epoch
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.order import steps_per_epoch
from data_pipeline.request import BATCH, Request
from data_pipeline.stream.batches import streamed
from data_pipeline.stream.in_place import read_in_place
from data_pipeline.supervised import FIELDS as SUPERVISED
from data_pipeline.supervised import elements, supervised
from data_pipeline.tiers.choice import ChosenTier, choose_tier
from data_pipeline.tiers.free_memory import free_memory
from data_pipeline.tiers.gathered import gathered
from data_pipeline.tiers.registry import STREAM_TIER
from data_pipeline.tiers.tier import HELD, HeldTier, Machine, SplitOnMachine, Tier
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest


def tier_of(
    manifest: Manifest,
    split: str,
    options: PipelineOptions,
    machine: Machine | None = None,
    *,
    training: bool = False,
) -> ChosenTier:
    """Returns the tier of a split; see `choose_tier`.

    Args:
        manifest: of the data set.
        split: name of the split.
        options: see `PipelineOptions`.
        machine: None: one process, no GPU.
        training: whether the split is trained on: then `options.sampling` may need a tier that holds it.

    Raises:
        InputError: the data set has no such split, or no tier has room to hold it.
    """
    cache = STREAM_TIER.name if options.streams_only else options.cache
    memory = options.ram_budget or free_memory() // 2
    return choose_tier(
        cache,
        SplitOnMachine(manifest, split, machine or Machine(), memory, options.cache_dir),
        held=training and options.sampling != "natural",
    )


def epoch_steps(manifest: Manifest, split: str, options: PipelineOptions, *, training: bool) -> int:
    """Returns the number of steps in an epoch.

    Raises:
        InputError: the split is smaller than a batch, and --last_batch=drop leaves no step.
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
    fields: tuple[str, ...] | None = None,
    as_supervised: bool = False,
) -> tf.data.Dataset:
    """Makes the batches of one worker: at each step one element for each of its replicas.

    Training is endless and shuffled anew in each epoch; `options.copies` and `options.sampling` say which
    records an epoch shows and how often, and `epoch_steps` how many steps it takes. An evaluation is one pass
    in the order of the shards; records of weight 0 fill its last batch. `cardinality()` is infinite, or the
    number of batches in the pass.
    Global batch s has the same records for any number of workers and replicas; each replica gets its rows.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        split: name of the split.
        options: see `PipelineOptions`.
        training: train order and last batch, or one padded pass.
        start_step: first step, counted from the start of the run (training only).
        worker: the worker, whose rows of each global batch the dataset has; None: all rows. The dataset of a
            worker has no cardinality, because strategies would misread it.
        fields: "weight" and names out of `tfrecords.example.FIELDS`; None: image, label and weight.
        as_supervised: tuples instead of dicts, for `fit` and `evaluate` of a Keras model; `fields` None is
            image and label then. If the weight is not among them, the filling of the last batch is cut off,
            so that metrics without weights count right. With `options.augment` the images are augmented.

    Returns:
        a dataset of dicts with static shapes: `image` uint8 [B, H, W, C], `label` int32 [B], `weight`
        float32 [B] (1, or 0 for filling), other fields as stored; B is the batch of one replica.
        For training from a tier that is `on_device`: `index` int64 [B] and `weight`;
            `device_tables.look_up` gives the rest.
        For training with `options.keyed`: also `key` int64 [B], from which a record's augmentation is drawn.

    Raises:
        InputError: there is no such split, a shard is damaged, the replicas cannot share a global batch
            equally, the file of `options.sampling` cannot be used, or `as_supervised` is asked of a tier
            that is `on_device`.
    """
    directory = Path(directory)
    if fields is None:
        fields = SUPERVISED if as_supervised else BATCH
    cut = as_supervised and not training and "weight" not in fields
    request = Request(
        directory,
        manifest,
        split,
        options,
        training,
        start_step,
        epoch_steps(manifest, split, options, training=training),
        worker or Worker(),
        (*fields, "weight") if cut else fields,
    )
    tier = tier_of(manifest, split, options, training=training).tier
    if as_supervised and training and tier.on_device:
        raise InputError(
            f"--cache={tier.name}: as_supervised needs the images on the host, but this tier holds them on "
            f"the devices; use --cache=memory"
        )
    config = tf.data.Options()
    config.deterministic = True
    if options.threads:
        config.threading.private_threadpool_size = options.threads
    # To optimise, TensorFlow rewrites the dataset's graph and copies every tensor in it: a split in memory
    # would be there twice, a mapped file once more in each process. The chains do by hand what these
    # optimisations would do. (With deterministic ops TensorFlow rewrites the graph all the same.)
    config.experimental_optimization.apply_default_optimizations = False
    # Each worker takes its own rows already.
    config.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    if tier.order == HELD:
        # This chain has nothing to autotune, and an iterator that ends would wait for the autotuning thread.
        config.autotune.enabled = False
    dataset = _batches(request, tier)
    if as_supervised:
        dataset = supervised(dataset, request, fields)
    if worker is None:
        count = tf.data.INFINITE_CARDINALITY if training else elements(request)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset.with_options(config)


def _batches(request: Request, tier: Tier) -> tf.data.Dataset:
    """Returns the batches as dicts, by the chain of the tier."""
    if not isinstance(tier, HeldTier):
        return read_in_place(request) if request.in_place else streamed(request)
    in_step = tier.on_device and request.training  # the train step looks the records up
    fields = () if in_step else tuple(name for name in request.fields if name != "weight")
    loaded = tuple(dict.fromkeys((*fields, *request.columns)))
    where = (request.directory, request.manifest, request.split)
    columns = tier.load(*where, loaded, request.options.cache_dir) if loaded else {}
    shown = {name: columns[name] for name in fields}

    def look_up(index: Any, weight: Any) -> dict[str, Any]:
        if in_step:
            return {"index": index, "weight": weight}
        found = {**tier.look_up(shown, index), "weight": weight}
        return {name: found[name] for name in request.fields}

    return gathered(request, columns, look_up)
