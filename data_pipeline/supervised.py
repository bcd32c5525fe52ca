"""Batches as tuples, as `fit` and `evaluate` of a Keras model take them: the end of any chain of tf.data."""

from typing import Any, Final

import tensorflow as tf

from data_pipeline.augment import augmenter
from data_pipeline.request import Request

FIELDS: Final = ("image", "label")
_AUGMENTING: Final = 2  # batches at the same time; each takes all cores it finds


def supervised(dataset: tf.data.Dataset, request: Request, fields: tuple[str, ...]) -> tf.data.Dataset:
    """Returns tuples of some fields of a dataset of dicts.

    Keras leaves weights out of account in metrics and divides a loss by all rows, those of weight 0 too. So
    where an evaluation has no weights among its fields, its last batch has only the records that are left:
    uint8 [n, H, W, C] and int32 [n], n unknown until it is read.

    Args:
        dataset: of `request`, whose fields have the weight too where the filling is to be cut off.
        request: of the dataset.
        fields: of the tuples.
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
        count = tf.cast(tf.reduce_sum(batch["weight"]), tf.int32)  # the filling comes last
        return tuple(batch[name][:count] for name in fields)

    return dataset.take(_with_records(request)).map(without_filling)


def elements(request: Request) -> int:
    """Returns how many batches an evaluation has."""
    return request.steps * request.worker.replicas


def _filling(request: Request) -> int:
    """Returns how many rows of the last global batch of an evaluation are filling."""
    records = request.manifest.split(request.split).records
    return request.steps * request.options.global_batch_size - records


def _with_records(request: Request) -> int:
    """Returns how many of a worker's batches have records: the last ones may be filling alone."""
    worker, rows = request.worker, request.rows
    first = worker.index * worker.replicas * rows  # of the worker's rows in a global batch
    left = request.options.global_batch_size - _filling(request) - first  # of them, in the last step
    return elements(request) - worker.replicas + min(max(-(-left // rows), 0), worker.replicas)
