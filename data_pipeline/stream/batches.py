"""The tf.data chain of a stream that TensorFlow reads: for URLs, a data service and --copies=one or none."""

from typing import Any

import tensorflow as tf

from data_pipeline.augment import id_hashes, record_keys
from data_pipeline.copies import records_per_epoch
from data_pipeline.parse import parse_batch
from data_pipeline.request import FOREVER, Request
from data_pipeline.stream import portable
from data_pipeline.stream.service import parsed_elsewhere


def streamed(request: Request) -> tf.data.Dataset:
    """Returns the batches of a stream that TensorFlow reads from a folder or a URL."""
    options, worker, rows, steps = request.options, request.worker, request.rows, request.steps
    size = records_per_epoch(request.manifest, request.split, request.copies)
    whole, seed = options.global_batch_size, options.seed
    where = (options.shards_at or request.directory, request.manifest, request.split)
    stored = tuple(name for name in request.fields if name != "weight")
    names = (*request.fields, *(["key"] * request.keyed))

    def epoch_batches(epoch: Any) -> tf.data.Dataset:
        records = portable.epoch_records(
            *where,
            window=options.shuffle_window,
            copies=request.copies,
            seed=seed,
            epoch=epoch,
            parallel_reads=options.parallel_reads,
        )
        if steps * whole > size:  # "wrap": the same order again, as far as needed
            records = records.repeat().take(steps * whole)
        first_step = tf.where(epoch == request.start_step // steps, request.start_step % steps, 0)
        # Records before the first step are read, but not parsed and not decoded.
        batches = records.skip(tf.cast(first_step, tf.int64) * whole).batch(whole, drop_remainder=True)
        return batches.map(lambda serialized: (serialized, epoch))

    def own_parts(serialized: Any, epoch: Any) -> tuple[Any, Any, Any]:
        """Cuts a global batch, string [<= whole], into this worker's parts, string [replicas, rows]."""
        weight = tf.ones([whole])
        if not request.training:  # a training batch is full already, and this would copy it
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
        portable.open_file_systems()
    if request.training:
        epochs = tf.data.Dataset.range(request.start_step // steps, FOREVER)
        batches = epochs.flat_map(epoch_batches)
        if options.data_service:
            made = parsed_elsewhere(batches.flat_map(own_rows), parse, options.data_service)
            return made.prefetch(options.prefetch * worker.replicas)
    else:
        none = tf.constant(0, tf.int64)
        batches = portable.ordered_records(*where).batch(whole).map(lambda serialized: (serialized, none))
    # Batch first, then parse the whole batch at once: twice as fast as record by record.
    if worker.replicas == 1:
        parsed = batches.map(  # an element for each part would copy the records
            lambda serialized, epoch: parse(*(part[0] for part in own_parts(serialized, epoch))),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    else:
        parsed = batches.flat_map(own_rows).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return parsed.prefetch(options.prefetch * worker.replicas)
