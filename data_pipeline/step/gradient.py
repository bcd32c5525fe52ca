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
    parts: int = 1,
    slow: tuple[Sequence[Any], float] = ((), 1.0),
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
        parts: into which the batch is cut; they are computed one after the other, so that only one of them
            takes memory. B must be a multiple of it.
        slow: variables that move by a share of what the optimizer moves them, and the share. That is the
            same as a learning rate of its own, for updates that are proportional to the rate.

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
    if parts == 1:
        gradients, logits, losses = compute(image, label, weight, total)
    else:
        gradients, logits, losses = _in_parts(compute, (image, label, weight), total, parts)
    before = [tf.identity(each.value) for each in slow[0]]
    optimizer.apply(_summed(gradients, context), variables)
    if before:
        context.merge_call(_move_back, args=([each.value for each in slow[0]], before, slow[1]))
    return logits, losses


def _move_back(strategy: Any, variables: Sequence[Any], before: Sequence[Any], share: float) -> None:
    """Sets variables to before + share * (now - before), on each replica."""

    def update(variable: Any, before: Any) -> None:
        variable.assign(before + share * (variable - before))

    for variable, value in zip(variables, before, strict=True):
        strategy.extended.update(variable, update, args=(value,))


def _in_parts(
    compute: Callable[..., tuple[Any, Any, Any]], batch: Sequence[Any], total: Any, parts: int
) -> tuple[list[Any], Any, Any]:
    """Returns the sums of the parts' gradients, and the logits and losses of all records in their order."""
    cut = [tf.reshape(each, [parts, each.shape[0] // parts, *each.shape[1:]]) for each in batch]
    gradients, *first = compute(*(each[0] for each in cut), total)
    there = [place for place, gradient in enumerate(gradients) if gradient is not None]
    sums = [tf.convert_to_tensor(gradients[place]) for place in there]
    columns = [tf.TensorArray(each.dtype, parts, element_shape=each.shape).write(0, each) for each in first]

    def add(part: Any, sums: list[Any], columns: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        more, *found = compute(*(each[part] for each in cut), total)
        sums = [one + more[place] for one, place in zip(sums, there, strict=True)]
        columns = [column.write(part, each) for column, each in zip(columns, found, strict=True)]
        return part + 1, sums, columns

    _, sums, columns = tf.while_loop(
        lambda part, *_: part < parts, add, (1, sums, columns), parallel_iterations=1
    )
    for place, one in zip(there, sums, strict=True):
        gradients[place] = one
    return gradients, columns[0].concat(), columns[1].concat()


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
