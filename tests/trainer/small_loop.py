"""A loop over a few drawn images, for the tests of the loop and of its steps."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from trainer.loop import Data, Loop
from trainer.models.registry import build_model

SHAPE = (6, 6, 1)


@dataclass(frozen=True)
class Records:
    """Drawn records: image uint8 [N, 6, 6, 1], label int32 [N]."""

    image: np.ndarray
    label: np.ndarray

    def batches(self, size):
        """A dataset of batches of `size`, the last filled up with white images of weight 0."""
        filling = -len(self.label) % size
        return tf.data.Dataset.from_tensor_slices(
            {
                "image": np.concatenate([self.image, np.full((filling, *SHAPE), 255, np.uint8)]),
                "label": np.concatenate([self.label, np.zeros(filling, np.int32)]),
                "weight": np.repeat([1, 0], [len(self.label), filling]).astype(np.float32),
            }
        ).batch(size, drop_remainder=True)


def drawn(records, classes=2, seed=0):
    random = np.random.default_rng(seed)
    label = random.integers(classes, size=records).astype(np.int32)
    image = random.integers(0, 200, (records, *SHAPE)) + 20 * label[:, None, None, None]
    return Records(image.astype(np.uint8), label)


def make_loop(
    classes=2, *, optimizer: Callable = lambda: keras.optimizers.Adam(0.01), dtype="float32", **options
):
    keras.utils.set_random_seed(3)

    def build():
        return build_model("mlp", SHAPE, classes, dtype=dtype), optimizer()

    return Loop(tf.distribute.OneDeviceStrategy("CPU:0"), build, classes, **options)


def data(loop, train, val, size):
    spread = loop.strategy.experimental_distribute_dataset
    steps = -(-len(train.label) // size)
    return Data(
        train=lambda start: spread(train.batches(size).repeat().skip(start)),
        val=lambda: spread(val.batches(size).repeat()),
        steps_per_epoch=steps,
        val_steps=-(-len(val.label) // size),
        global_batch_size=size,
    )


class Recorder(keras.callbacks.Callback):
    """Notes each call with its index and logs; `on_epoch` is done at the start of each epoch."""

    def __init__(self, on_epoch=lambda model, epoch: None):
        super().__init__()
        self.calls, self.epochs, self._on_epoch = [], [], on_epoch

    def _note(self, name, index, logs):
        self.calls.append((name, index, set(logs or ())))

    def on_train_begin(self, logs=None):
        self._note("train_begin", None, logs)

    def on_train_end(self, logs=None):
        self._note("train_end", None, logs)

    def on_epoch_begin(self, epoch, logs=None):
        self._note("epoch_begin", epoch, logs)
        self._on_epoch(self.model, epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._note("epoch_end", epoch, logs)
        self.epochs.append(dict(logs))

    def on_train_batch_begin(self, batch, logs=None):
        self._note("batch_begin", batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self._note("batch_end", batch, logs)

    def on_test_begin(self, logs=None):
        self._note("test_begin", None, logs)

    def on_test_end(self, logs=None):
        self._note("test_end", None, logs)
