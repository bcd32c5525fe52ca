"""Whether XLA compiles loss and gradient of a training step."""

from typing import Any, Final

import keras
import tensorflow as tf

from tfrecords.errors import InputError

# TensorFlow 2.21: "MaxPool gradient ops do not yet have a deterministic XLA implementation", on CPUs too.
_MAX_POOLING: Final = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)


def compiled(choice: str, model: Any, *, replicas: int, deterministic: bool) -> bool:
    """Returns whether --jit_compile means that the model is compiled.

    "auto" decides as the `fit` of Keras 3.15.1 does: on one GPU, if all layers can be compiled and the same
    command need not give the same weights. On a CPU XLA is slower than oneDNN for convolutions.

    Args:
        choice: one of `config.JIT_COMPILE`.
        model: a Keras model.
        replicas: over all workers.
        deterministic: whether op determinism is on.

    Raises:
        InputError: "on", and a layer cannot be compiled, or not with deterministic results.
    """
    if choice == "off":
        return False
    layers = model._flatten_layers()  # private, but the only way to nested layers; Keras 3.15.1
    unable = [layer.name for layer in layers if not layer.supports_jit]
    if choice == "on":
        if unable:
            raise InputError(
                f"--jit_compile=on: XLA cannot compile the layer {unable[0]!r} of this model; use "
                f"--jit_compile=off"
            )
        pooling = [layer.name for layer in layers if isinstance(layer, _MAX_POOLING)]
        if deterministic and pooling:
            raise InputError(
                f"--jit_compile=on: XLA has no deterministic gradient for the max pooling {pooling[0]!r} of "
                f"this model; use --jit_compile=off, or leave --deterministic out"
            )
        return True
    return not unable and replicas == 1 and not deterministic and bool(tf.config.list_logical_devices("GPU"))
