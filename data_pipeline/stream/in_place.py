"""The tf.data chain of a stream from local shards: reads windows of records, then cuts batches from them."""

from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.augment import id_hashes, record_keys
from data_pipeline.parse import parse_batch
from data_pipeline.request import FOREVER, Request
from data_pipeline.stream.generated import generated
from data_pipeline.stream.local import LocalShards
from tfrecords.example import FIELDS


def read_in_place(request: Request) -> tf.data.Dataset:
    """Returns the batches of a stream from local shards; the number of a step gives its records."""
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
    windows = -(-shown // shards.window)  # in an epoch
    first_window = first_position // shown * windows + first_position % shown // shards.window

    def own_records(number: int) -> list[Any]:
        """Returns weight, epoch and records of this worker's rows in one window, in their order."""
        epoch, window = divmod(number, windows)
        first = window * shards.window
        position = np.arange(first, min(first + shards.window, shown))
        if number == first_window and request.training:
            position = position[position >= first_position % shown]
        own = position % options.global_batch_size // (rows * worker.replicas) == worker.index
        position = position[own]
        weight = ((position < size) | request.training).astype(np.float32)
        # "wrap": past the end the epoch's first records follow. In an evaluation these rows have weight 0.
        position = position % size if request.training else np.minimum(position, size - 1)
        which = [weight, np.full(len(weight), epoch)]
        if not raw:
            return [*which, shards.serialized(epoch, position)]
        found = shards.parsed(epoch, position, read)
        return [*which, *(found[name] for name in read)]

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

    last_window = FOREVER if request.training else windows
    spec = [tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int64)]
    for name in read if raw else ("serialized",):
        shape = request.manifest.image_shape if name == "image" else ()
        spec.append(tf.TensorSpec([None, *shape], kinds.get(name, tf.string)))
    # Reads one window while it hands out the one before.
    windows_of_pass = generated(
        lambda: map(own_records, range(first_window, last_window)), spec, last_window - first_window
    )
    if raw:  # what is left to do is little: once for the whole window
        made = windows_of_pass.map(finished).rebatch(rows, drop_remainder=True)
    else:
        made = windows_of_pass.rebatch(rows, drop_remainder=True).map(
            finished, num_parallel_calls=tf.data.AUTOTUNE
        )
    return made.prefetch(options.prefetch * worker.replicas)
