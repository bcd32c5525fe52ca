"""Turns the batches of any chain into tuples, as `fit` and `evaluate` of a Keras model take them."""

from typing import Any, Final

import tensorflow as tf

from data_pipeline.augment import augmenter
from data_pipeline.request import Request

FIELDS: Final = ("image", "label")
_AUGMENTING: Final = 2  # batches augmented at the same time; each uses all free cores


def supervised(dataset: tf.data.Dataset, request: Request, fields: tuple[str, ...]) -> tf.data.Dataset:
    """Returns tuples of some fields of a dataset of dicts.

    Keras's metrics ignore weights, and its losses divide by all rows, also those of weight 0. So if the
    weight is not among the fields of an evaluation, its last batch has only the records that are left:
    uint8 [n, H, W, C] and int32 [n]; n is unknown until the batch is read.

    Args:
        dataset: made for `request`; has the weight too if the filling must be cut off.
        request: the arguments of `make_dataset`.
        fields: fields of the tuples.
    """
    if request.keyed:
        augment = augmenter(request.options.augment)

        def augmented(batch: dict[str, Any]) -> tuple[Any, ...]:
            images = {"image": augment(batch["image"], batch["key"])} if augment and "image" in batch else {}
            return tuple({**batch, **images}[name] for name in fields)

        ahead = request.options.prefetch * request.worker.replicas
        return dataset.map(augmented, num_parallel_calls=_AUGMENTING).prefetch(ahead)
    if request.fields == fields or not _filling(request):
        return dataset.map(lambda batch: tuple(batch[name] for name in fields))

    def without_filling(batch: dict[str, Any]) -> tuple[Any, ...]:
        count = tf.cast(tf.reduce_sum(batch["weight"]), tf.int32)  # the filling is at the end
        return tuple(batch[name][:count] for name in fields)

    return dataset.take(_with_records(request)).map(without_filling)


def elements(request: Request) -> int:
    """Returns the number of batches in an evaluation."""
    return request.steps * request.worker.replicas


def _filling(request: Request) -> int:
    """Returns the number of filling rows in the last global batch of an evaluation."""
    records = request.manifest.split(request.split).records
    return request.steps * request.options.global_batch_size - records


def _with_records(request: Request) -> int:
    """Returns how many of a worker's batches have records; the last ones may have only filling."""
    worker, rows = request.worker, request.rows
    first = worker.index * worker.replicas * rows  # first of the worker's rows in a global batch
    # Records in the last step, from that row on.
    left = request.options.global_batch_size - _filling(request) - first
    return elements(request) - worker.replicas + min(max(-(-left // rows), 0), worker.replicas)
