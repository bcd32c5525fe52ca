"""Keeps tf.data's autotuning out of where it has nothing to tune."""

from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops


def distribute_without_autotune() -> None:
    """Lets the iterators that a strategy makes for its devices end at once.

    A strategy puts a dataset of its own behind each device, which only hands batches over. TensorFlow starts
    a thread to tune each of them, and an iterator that ends waits for its thread: up to a minute after a long
    epoch. Our own datasets say by an option whether they are to be tuned; theirs take none, so a private
    function is replaced. Tried with TensorFlow 2.21; where it is not there, ends take longer.
    """
    real = getattr(multi_device_iterator_ops, "_create_device_dataset", None)
    if real is None or getattr(real, "tunes_nothing", False):
        return
    off = tf.data.Options()
    off.autotune.enabled = False

    def create(*args: Any, **kwargs: Any) -> Any:
        return real(*args, **kwargs).with_options(off)

    create.tunes_nothing = True  # type: ignore[attr-defined]  # replaced once only
    multi_device_iterator_ops._create_device_dataset = create
