"""One training step of one replica: loss, gradient, update of the weights.

The gradients are summed over the replicas here, once, and the optimizer takes the sums as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def train_step(
    model: Any,
    optimizer: Any,
    loss: Callable[[Any, Any], Any],
    image: Any,
    label: Any,
    weight: Any,
    *,
    jit_compile: bool = False,
) -> tuple[Any, Any]:
    """Updates the weights of a model once; to be called in a replica of a `tf.distribute` strategy.

    What is minimised is the mean of the records' losses over the global batch, each times its weight.

    Args:
        model: from image to float32 logits [B, classes].
        optimizer: given to `expect_summed_gradients` before.
        loss: (label, logits) -> float32 [B].
        image: uint8 [B, H, W, C].
        label: what `loss` takes, int32 [B] or float32 [B, classes].
        weight: float32 [B].
        jit_compile: whether XLA compiles loss and gradient. The sums over the replicas and the update stay
            outside: XLA cannot compile the collectives of `tf.distribute`.

    Returns:
        logits float32 [B, classes] and losses float32 [B], before the update.
    """
    context = tf.distribute.get_replica_context()
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(weight))
    variables = model.trainable_variables

    def gradients_of(image: Any, label: Any, weight: Any, total: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape() as tape:
            logits = model(image, training=True)
            losses = loss(label, logits)
            # The sum of this share over all replicas is the mean over the global batch.
            share = optimizer.scale_loss(tf.reduce_sum(losses * weight) / total)
        return tape.gradient(share, variables), logits, losses

    compute = tf.function(gradients_of, jit_compile=True, autograph=False) if jit_compile else gradients_of
    gradients, logits, losses = compute(image, label, weight, total)
    optimizer.apply(_summed(gradients, context), variables)
    return logits, losses


def expect_summed_gradients(optimizer: Any) -> None:
    """Makes an optimizer take gradients that are already summed over the replicas.

    Keras checks, clips and scales gradients on each replica before it sums them. An overflow on one replica
    then makes all weights NaN, or makes two workers wait for each other for ever. This replaces a private
    method, tried with Keras 3.15.1; `test_gradients_are_summed_once` is the first test to break.
    """
    innermost = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(innermost, "_all_reduce_sum_gradients"):
        raise RuntimeError(f"keras {keras.__version__}: its optimizers sum gradients in another way")
    innermost._all_reduce_sum_gradients = list


def _summed(gradients: Sequence[Any], context: Any) -> list[Any]:
    """Returns the gradients summed over all replicas; None stays None."""
    sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, [g for g in gradients if g is not None]))
    return [None if gradient is None else next(sums) for gradient in gradients]
