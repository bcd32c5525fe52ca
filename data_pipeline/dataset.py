"""`make_dataset`: shards to batches, one visible chain for each way in which records are come by.

Gathered (tiers memory, disk, device) is two stages: a step's number gives the indices and weights of
its records, then the tier looks them up. Only the second differs, so these tiers share one order.
A stream is read in place if it can be, else by tf.data; both ways show the same records in one order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline import decoded, resident, streaming
from data_pipeline.augment import id_hashes, record_keys
from data_pipeline.copies import FIELDS as CHOICE_FIELDS
from data_pipeline.copies import Choice, effective, records_per_epoch
from data_pipeline.local import LocalShards
from data_pipeline.options import Machine, PipelineOptions, Tier, Worker, choose_tier
from data_pipeline.order import shuffled, steps_per_epoch
from data_pipeline.parse import parse_batch
from data_pipeline.service import parsed_elsewhere
from tfrecords.errors import InputError
from tfrecords.example import FIELDS
from tfrecords.manifest import Manifest

BATCH = ("image", "label", "weight")
_AT_ONCE = 8 << 20  # bytes gathered by one call
_MOST_AT_ONCE = 32  # batches
_GATHERING = 2  # threads, as fast as memory gives; more would take cores from the training
_FOREVER = np.iinfo(np.int64).max


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
        disk_free=decoded.room(options.cache_dir, manifest, split),
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
        return (_read_in_place(request) if request.in_place else _streamed(request)).with_options(config)
    if tier == "device" and training:
        columns = resident.load(directory, manifest, split, request.columns) if request.columns else {}
        return _gathered(
            request, columns, lambda index, weight: {"index": index, "weight": weight}
        ).with_options(config)
    stored = tuple(name for name in dict.fromkeys((*fields, *request.columns)) if name != "weight")
    if tier == "disk":
        tensors = decoded.load(directory, manifest, split, stored, options.cache_dir)
    else:
        tensors = resident.load(directory, manifest, split, stored)

    def look_up(index: Any, weight: Any) -> dict[str, Any]:
        return {name: weight if name == "weight" else tf.gather(tensors[name], index) for name in fields}

    return _gathered(request, tensors, look_up).with_options(config)


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

    @property
    def copies(self) -> str:
        """Which variants of an image are shown."""
        return effective(self.manifest, self.split, self.options.copies) if self.training else "all"

    @property
    def keyed(self) -> bool:
        """Whether records have the keys of their draws."""
        return self.training and self.options.augment != "none"

    @property
    def in_place(self) -> bool:
        """Whether a stream is read from shards of this machine by this process, all of their records."""
        elsewhere = self.options.shards_at or (self.training and self.options.data_service)
        return not elsewhere and self.copies == "all"

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that choice and keys follow from."""
        names = (CHOICE_FIELDS if self.copies != "all" else ()) + (("id", "copy") if self.keyed else ())
        return tuple(dict.fromkeys(names))


def _gathered(
    request: _Request, columns: dict[str, Any], look_up: Callable[[Any, Any], dict[str, Any]]
) -> tf.data.Dataset:
    """Batches of records that are looked up by (index int64 [N] in the split's order, weight float32 [N]).

    Args:
        request: of the dataset.
        columns: `request.columns` of the split by name, [N].
        look_up: to fields by name.
    """
    options, worker, rows, steps = request.options, request.worker, request.rows, request.steps
    size, seed = records_per_epoch(request.manifest, request.split, request.copies), options.seed
    choice = None
    if request.copies != "all":
        choice = Choice.of(columns, request.manifest, request.split, request.copies)
    hashes = id_hashes(columns["id"]) if request.keyed else None

    def records_of(element: Any) -> dict[str, Any]:
        """Returns the records of some elements, int64 [E], one after another."""
        step, replica = element // worker.replicas, element % worker.replicas
        first = step % steps * options.global_batch_size
        first += (worker.index * worker.replicas + replica) * rows
        position = tf.reshape(first[:, None] + tf.range(rows, dtype=tf.int64), [-1])
        epoch = tf.repeat(step // steps, rows)
        if not request.training:
            return look_up(tf.minimum(position, size - 1), tf.cast(position < size, tf.float32))
        position %= size  # "wrap": positions past the end show the epoch's first records
        if choice:
            index = choice.records_at(position, seed=seed, epoch=epoch)
        else:
            index = shuffled(position, seed=seed, epoch=epoch, size=size)
        found = look_up(index, tf.ones_like(position, tf.float32))
        if request.keyed:
            of_these = tf.gather(hashes, index), tf.gather(columns["copy"], index)
            found["key"] = record_keys(*of_these, seed=seed, epoch=epoch)
        return found

    start, end = (request.start_step, _FOREVER) if request.training else (0, steps * worker.replicas)
    # Small batches are made several at once, and cut apart without being copied: a call costs as much as
    # copying a dozen images.
    at_once = max(1, min(_AT_ONCE // (rows * int(np.prod(request.manifest.image_shape))), _MOST_AT_ONCE))
    ahead = -(-options.prefetch * worker.replicas // at_once)
    return (
        # The dataset holds no data and no buffer of indices: a step's number says all.
        tf.data.Dataset.range(start * worker.replicas, end)
        .batch(at_once)
        .map(records_of, num_parallel_calls=_GATHERING)
        .prefetch(max(ahead, 2) if at_once > 1 else ahead)
        .rebatch(rows, drop_remainder=True)
    )


def _read_in_place(request: _Request) -> tf.data.Dataset:
    """A stream from local shards: a step's number says which records, as it does for `_gathered`."""
    options, worker, rows, steps = request.options, request.worker, request.rows, request.steps
    size = request.manifest.split(request.split).records
    shards = LocalShards(
        request.directory,
        request.manifest,
        request.split,
        window=options.shuffle_window,
        seed=options.seed,
        shuffle=request.training,
        threads=options.parallel_reads,
    )
    names = tuple(name for name in request.fields if name != "weight")
    read = tuple(dict.fromkeys((*names, *(("id", "copy") if request.keyed else ()))))
    raw = request.manifest.encoding == "raw"
    kinds = {name: tf.int64 if kind == "int64" else tf.string for name, kind in FIELDS.items()}
    kinds["image"] = tf.uint8
    shown, first_position = steps * options.global_batch_size, request.start_step * options.global_batch_size
    windows = -(-shown // shards.window)  # of an epoch
    first_window = first_position // shown * windows + first_position % shown // shards.window

    def own_records(number: int) -> list[Any]:
        """Returns weight and records of this worker's rows in a window of the run, in their order."""
        epoch, window = divmod(int(number), windows)
        first = window * shards.window
        position = np.arange(first, min(first + shards.window, shown))
        if number == first_window and request.training:
            position = position[position >= first_position % shown]
        own = position % options.global_batch_size // (rows * worker.replicas) == worker.index
        position = position[own]
        weight = (position < size) | request.training
        # "wrap": positions past the end show the epoch's first records; in an evaluation they count nothing.
        position = position % size if request.training else np.minimum(position, size - 1)
        if not raw:
            return [weight.astype(np.float32), shards.serialized(epoch, position)]
        found = shards.parsed(epoch, position, read)
        return [weight.astype(np.float32), *(found[name] for name in read)]

    def records_of(number: Any) -> tuple[Any, ...]:
        output = [kinds[name] for name in read] if raw else [tf.string]
        # Its result follows from its argument alone: so TensorFlow may call it ahead, also where ops must
        # be deterministic.
        weight, *found = tf.numpy_function(own_records, [number], [tf.float32, *output], stateful=False)
        shapes = [request.manifest.image_shape if name == "image" else () for name in (read if raw else [""])]
        found = [tf.ensure_shape(one, (None, *shape)) for one, shape in zip(found, shapes, strict=True)]
        weight = tf.ensure_shape(weight, (None,))
        return weight, tf.fill(tf.shape(weight), number // windows), *found

    def finished(weight: Any, epoch: Any, *found: Any) -> dict[str, Any]:
        if raw:
            parsed = dict(zip(read, found, strict=True))
            if "label" in parsed:
                parsed["label"] = tf.cast(parsed["label"], tf.int32)
        else:
            parsed = parse_batch(found[0], request.manifest, read)
        made = {name: weight if name == "weight" else parsed[name] for name in request.fields}
        if request.keyed:
            hashes = id_hashes(parsed["id"])
            made["key"] = record_keys(hashes, parsed["copy"], seed=options.seed, epoch=epoch)
        return made

    numbers = tf.data.Dataset.range(first_window, _FOREVER if request.training else windows)
    # One window is read while the one before is handed out.
    read_ahead = numbers.map(records_of, num_parallel_calls=1)
    if raw:  # all that is left is small: at once for the window
        made = read_ahead.map(finished).rebatch(rows, drop_remainder=True)
    else:
        made = read_ahead.rebatch(rows, drop_remainder=True).map(
            finished, num_parallel_calls=tf.data.AUTOTUNE
        )
    return made.prefetch(options.prefetch * worker.replicas)


def _streamed(request: _Request) -> tf.data.Dataset:
    options, worker, rows, steps = request.options, request.worker, request.rows, request.steps
    size = records_per_epoch(request.manifest, request.split, request.copies)
    whole, seed = options.global_batch_size, options.seed
    where = (options.shards_at or request.directory, request.manifest, request.split)
    stored = tuple(name for name in request.fields if name != "weight")
    names = (*request.fields, *(["key"] * request.keyed))

    def epoch_batches(epoch: Any) -> tf.data.Dataset:
        records = streaming.epoch_records(
            *where,
            window=options.shuffle_window,
            copies=request.copies,
            seed=seed,
            epoch=epoch,
            parallel_reads=options.parallel_reads,
        )
        if steps * whole > size:  # "wrap": the same order once more, as far as it is needed
            records = records.repeat().take(steps * whole)
        first_step = tf.where(epoch == request.start_step // steps, request.start_step % steps, 0)
        # Records before the first step are read, but neither parsed nor decoded.
        batches = records.skip(tf.cast(first_step, tf.int64) * whole).batch(whole, drop_remainder=True)
        return batches.map(lambda serialized: (serialized, epoch))

    def own_parts(serialized: Any, epoch: Any) -> tuple[Any, Any, Any]:
        """Global batch, string [<= whole], to this worker's replicas' parts, string [replicas, rows]."""
        weight = tf.ones([whole])
        if not request.training:  # one of training is full, and filling it would copy it
            there = tf.size(serialized)
            serialized = tf.concat([serialized, tf.repeat(serialized[:1], whole - there)], 0)
            weight = tf.cast(tf.range(whole) < there, tf.float32)
        own = slice(worker.index * worker.replicas, (worker.index + 1) * worker.replicas)
        parts = [tf.reshape(column, [-1, rows])[own] for column in (serialized, weight)]
        return (*parts, tf.repeat(epoch, worker.replicas))

    def own_rows(serialized: Any, epoch: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(own_parts(serialized, epoch))

    def parse(serialized: Any, weight: Any, epoch: Any) -> dict[str, Any]:
        keyed = ("id", "copy") if request.keyed else ()
        parsed = {**parse_batch(serialized, request.manifest, (*stored, *keyed)), "weight": weight}
        if request.keyed:
            parsed["key"] = record_keys(id_hashes(parsed["id"]), parsed["copy"], seed=seed, epoch=epoch)
        return {name: tf.ensure_shape(parsed[name], [rows, *parsed[name].shape[1:]]) for name in names}

    if options.shards_at:
        streaming.open_file_systems()
    if request.training:
        epochs = tf.data.Dataset.range(request.start_step // steps, _FOREVER)
        batches = epochs.flat_map(epoch_batches)
        if options.data_service:
            made = parsed_elsewhere(batches.flat_map(own_rows), parse, options.data_service)
            return made.prefetch(options.prefetch * worker.replicas)
    else:
        none = tf.constant(0, tf.int64)
        batches = streaming.ordered_records(*where).batch(whole).map(lambda serialized: (serialized, none))
    # Batch first, then one parse for the whole batch: twice as fast as record by record.
    if worker.replicas == 1:
        parsed = batches.map(  # an element for each part would copy the records
            lambda serialized, epoch: parse(*(part[0] for part in own_parts(serialized, epoch))),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    else:
        parsed = batches.flat_map(own_rows).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return parsed.prefetch(options.prefetch * worker.replicas)
