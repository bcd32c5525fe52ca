"""Mends what a strategy of TensorFlow adds to a dataset, so that its iterators end at once, and safely.

Both mendings replace private names of TensorFlow, tried with TensorFlow 2.21. test_distribution is the first
test to break with a version that has changed them.
"""

from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops


def mend_distribution() -> None:
    """Mends, once in a process, the iterators that strategies make from now on."""
    _without_autotune()
    _with_dataset_kept()


def _without_autotune() -> None:
    """Lets the iterators that a strategy makes for its devices end at once.

    A strategy adds a dataset of its own for each device, which only hands batches over. TensorFlow starts a
    thread that tunes each of them, and an iterator that ends waits for its thread: up to a minute after a
    long epoch. Our own datasets switch the tuning off by an option; those of a strategy take no option.
    """
    real = multi_device_iterator_ops._create_device_dataset
    if getattr(real, "tunes_nothing", False):
        return
    off = tf.data.Options()
    off.autotune.enabled = False

    def create(*args: Any, **kwargs: Any) -> Any:
        return real(*args, **kwargs).with_options(off)

    create.tunes_nothing = True  # type: ignore[attr-defined]  # so it is replaced only once
    multi_device_iterator_ops._create_device_dataset = create


def _with_dataset_kept() -> None:
    """Lets the iterator of a strategy be dropped while it makes a batch.

    TensorFlow frees the iterator's dataset first, and then waits for the thread that makes the batch. That
    thread uses the freed dataset, and the process crashes. (`MultiDeviceIterator` declares the dataset after
    the buffer of that thread, so C++ destroys it before.) Here Python keeps the dataset until the iterator is
    gone.
    """
    real = multi_device_iterator_ops.OwnedMultiDeviceIterator
    if getattr(real, "keeps_dataset", False):
        return

    class OwnedMultiDeviceIterator(real):  # type: ignore[misc, valid-type]  # TensorFlow has no types
        keeps_dataset = True

        def __init__(self, dataset: Any = None, *args: Any, **kwargs: Any) -> None:
            held = None if dataset is None else _WithOptions(dataset)
            super().__init__(held, *args, **kwargs)
            if held is not None:
                # The last attribute: Python drops the attributes of an object in the order of their setting,
                # so what reads the dataset has ended before.
                self._held = held.made

    multi_device_iterator_ops.OwnedMultiDeviceIterator = OwnedMultiDeviceIterator


class _WithOptions:
    """A dataset whose `with_options` remembers what it made: that is what an iterator reads."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.made: Any = None

    def with_options(self, options: tf.data.Options) -> Any:
        self.made = self._dataset.with_options(options)
        return self.made
