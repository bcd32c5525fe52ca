"""The random state of a model's layers: found for checkpoints, and made another one on each replica."""

from functools import partial
from typing import Any, Final

import keras
import tensorflow as tf

_FAR: Final = 0x9E3779B9  # 2**32 over the golden ratio: replicas' seeds lie far from each other


def seed_generators(model: keras.Model) -> list[keras.random.SeedGenerator]:
    """Returns the seed generators of a model's random layers (Dropout), nested ones too."""
    layers = model._flatten_layers()  # the one way to nested layers
    return [layer.seed_generator for layer in layers if hasattr(layer, "seed_generator")]


def decorrelate_replicas(model: keras.Model) -> None:
    """Lets each replica of a step draw its own random numbers, as Dropout masks.

    Keras' seed generators hold the same state on all replicas, so that all would draw the same mask.
    The state stays the same, and so a checkpoint holds it once; what is drawn from it moves by the
    replica's number. Replica 0, so a single device, draws what Keras draws.
    """
    for generator in seed_generators(model):
        generator.next = partial(_next_of_replica, generator.next)


def _next_of_replica(keras_next: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns the next seed, uint32 [2]: a number of the layer's, and a count."""
    seed, context = keras_next(*args, **kwargs), tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed
    far = tf.cast(context.replica_id_in_sync_group, seed.dtype) * tf.constant(_FAR, seed.dtype)
    return seed + tf.stack([far, tf.zeros_like(far)])
