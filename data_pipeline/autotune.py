"""Switches tf.data's autotuning off in the datasets that a strategy adds."""

from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops


def distribute_without_autotune() -> None:
    """Lets the iterators that a strategy makes for its devices end at once.

    A strategy adds a dataset of its own for each device, which only hands batches over. TensorFlow starts a
    thread that tunes each of them, and an iterator that ends waits for its thread: up to a minute after a
    long epoch. Our own datasets switch the tuning off by an option; those of a strategy take no option, so
    this replaces a private function of TensorFlow. Tried with TensorFlow 2.21. A version without that
    function still works, but its iterators end later.
    """
    real = getattr(multi_device_iterator_ops, "_create_device_dataset", None)
    if real is None or getattr(real, "tunes_nothing", False):
        return
    off = tf.data.Options()
    off.autotune.enabled = False

    def create(*args: Any, **kwargs: Any) -> Any:
        return real(*args, **kwargs).with_options(off)

    create.tunes_nothing = True  # type: ignore[attr-defined]  # so it is replaced only once
    multi_device_iterator_ops._create_device_dataset = create
