"""The tf.data chain of the tiers that hold a split: it looks the records of each batch up by index.

It has two stages: the number of a step gives the indices and weights of its records; then the tier looks the
records up. The tiers differ only in the second stage, so they all have one order. With --sampling a stage
comes before them: the number of an epoch gives what the epoch draws.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.augment import id_hashes, record_keys
from data_pipeline.copies import Choice, records_per_epoch
from data_pipeline.order import shuffled
from data_pipeline.request import FOREVER, Request
from data_pipeline.sampling.draws import drawn
from data_pipeline.sampling.shares import shares_of

_AT_ONCE = 8 << 20  # bytes gathered by one call
_MOST_AT_ONCE = 32  # batches
_GATHERING = 2  # threads, as fast as memory gives; more would take cores from the training


def gathered(
    request: Request, columns: dict[str, Any], look_up: Callable[[Any, Any], dict[str, Any]]
) -> tf.data.Dataset:
    """Returns the batches of a split that is held.

    Args:
        request: of the dataset.
        columns: fields of all records, [N]; at least `request.columns`.
        look_up: takes index int64 [B] in the order of the split and weight float32 [B]; returns the fields of
            these records, [B, ...].
    """
    options, worker, rows, steps = request.options, request.worker, request.rows, request.steps
    size, seed = records_per_epoch(request.manifest, request.split, request.copies), options.seed
    choice = None
    if request.copies != "all":
        choice = Choice.of(columns, request.manifest, request.split, request.copies)
    hashes = id_hashes(columns["id"]) if request.keyed else None

    shares = None
    if request.sampled:
        units = choice.originals if choice else None
        shares = shares_of(options.sampling, columns, request.split, units)

    def records_of(element: Any, unit: Any = None, repeat: Any = None) -> dict[str, Any]:
        """Returns the records of some batches, int64 [E], one batch after another.

        With shares `unit` and `repeat`, int64 [size], are what their epoch draws.
        """
        step, replica = element // worker.replicas, element % worker.replicas
        first = step % steps * options.global_batch_size
        first += (worker.index * worker.replicas + replica) * rows
        position = tf.reshape(first[:, None] + tf.range(rows, dtype=tf.int64), [-1])
        epoch = tf.repeat(step // steps, rows)
        if not request.training:
            return look_up(tf.minimum(position, size - 1), tf.cast(position < size, tf.float32))
        position %= size  # "wrap": past the end the epoch's first records follow
        if shares:
            draw = shuffled(position, seed=seed, epoch=epoch, size=size)
            index, repeat = tf.gather(unit, draw), tf.gather(repeat, draw)
            if choice:
                index = choice.records_of(index, seed=seed, epoch=epoch, repeat=repeat)
        elif choice:
            index = choice.records_at(position, seed=seed, epoch=epoch)
        else:
            index = shuffled(position, seed=seed, epoch=epoch, size=size)
        found = look_up(index, tf.ones_like(position, tf.float32))
        if request.keyed:
            of_these = tf.gather(hashes, index), tf.gather(columns["copy"], index)
            found["key"] = record_keys(*of_these, seed=seed, epoch=epoch, repeat=repeat)
        return found

    start, end = (request.start_step, FOREVER) if request.training else (0, steps * worker.replicas)
    # One call makes several small batches, and cutting them apart copies nothing: a call costs as much as
    # copying a dozen images.
    at_once = max(1, min(_AT_ONCE // (rows * int(np.prod(request.manifest.image_shape))), _MOST_AT_ONCE))
    ahead = -(-options.prefetch * worker.replicas // at_once)

    def batches(first: Any, end: Any, *of_epoch: Any) -> tf.data.Dataset:
        """Returns the batches from `first` to `end` - 1, a step's side by side; some in each element."""
        return (
            tf.data.Dataset.range(first, end)
            .batch(at_once)
            .map(lambda element: records_of(element, *of_epoch), num_parallel_calls=_GATHERING)
        )

    def batches_of_epoch(epoch: Any, unit: Any, repeat: Any) -> tf.data.Dataset:
        first, last = tf.maximum(epoch * steps, request.start_step), (epoch + 1) * steps
        return batches(first * worker.replicas, last * worker.replicas, unit, repeat)

    if shares:
        dataset = (
            tf.data.Dataset.range(request.start_step // steps, FOREVER)
            .map(lambda epoch: (epoch, *drawn(shares, size=size, seed=seed, epoch=epoch)))
            .prefetch(1)  # the next epoch is drawn while this one is shown
            .flat_map(batches_of_epoch)
        )
    else:
        # The dataset holds no data and no buffer of indices: all follows from the number of the step.
        dataset = batches(start * worker.replicas, end)
    return dataset.prefetch(max(ahead, 2) if at_once > 1 else ahead).rebatch(rows, drop_remainder=True)
