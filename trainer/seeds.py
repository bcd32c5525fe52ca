"""The random state of a model's layers (Dropout): saved in checkpoints, and different on each replica."""

from functools import partial
from typing import Any, Final

import keras
import tensorflow as tf

_FAR: Final = 0x9E3779B9  # 2**32 / golden ratio: the seeds of replicas are far apart


def seed_generators(model: keras.Model) -> list[keras.random.SeedGenerator]:
    """Returns the seed generators of a model's random layers (Dropout), nested ones too."""
    layers = model._flatten_layers()  # private, but the only way to nested layers; Keras 3.15.1
    return [layer.seed_generator for layer in layers if hasattr(layer, "seed_generator")]


def decorrelate_replicas(model: keras.Model) -> None:
    """Makes each replica draw its own random numbers, for example Dropout masks.

    Keras' seed generators have the same state on all replicas, so all replicas would draw the same mask. Here
    the state stays the same, so that a checkpoint holds it once, and the seed drawn from it is shifted by the
    replica's number. Replica 0, and so a single device, draws what Keras draws.
    """
    for generator in seed_generators(model):
        generator.next = partial(_next_of_replica, generator.next)


def _next_of_replica(keras_next: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns the next seed, uint32 [2]: the layer's number, shifted, and a count."""
    seed, context = keras_next(*args, **kwargs), tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed
    far = tf.cast(context.replica_id_in_sync_group, seed.dtype) * tf.constant(_FAR, seed.dtype)
    return seed + tf.stack([far, tf.zeros_like(far)])
