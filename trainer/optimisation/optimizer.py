"""The optimizer with its learning rate, as a configuration has it."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import keras

from tfrecords.errors import InputError
from trainer.config import TrainConfig


def make_optimizer(config: TrainConfig, rate: Any, policy: str, variables: Sequence[Any] = ()) -> Any:
    """Returns the optimizer, with loss scaling where float16 needs it.

    Keras clips what `apply` is given. The loop gives it the sums over the replicas, so the norm that is
    limited is that of the whole step.

    Args:
        config: of the run.
        rate: see `learning_rate`.
        policy: Keras dtype policy of the model.
        variables: the model's trainable variables; those with fewer than two axes do not decay.

    Raises:
        InputError: the optimizer does not take one of its arguments.
    """
    given: dict[str, Any] = dict(config.optimizer_args)
    if config.weight_decay:
        given["weight_decay"] = config.weight_decay
    if config.clip_norm:
        given["global_clipnorm"] = config.clip_norm
    kind = type(keras.optimizers.get(config.optimizer))
    try:
        optimizer: Any = kind(learning_rate=rate, **given)
    except (TypeError, ValueError) as error:
        known = set(signature(kind).parameters) - {"self", "name", "kwargs", "learning_rate"}
        text = ",".join(f"{name}={value}" for name, value in config.optimizer_args)
        raise InputError(
            f"--optimizer_args={text}: {config.optimizer} does not take them ({str(error).splitlines()[0]}); "
            f"it has {', '.join(sorted(known))}"
        ) from None
    optimizer.exclude_from_weight_decay(var_list=[each for each in variables if len(each.shape) < 2])
    return keras.optimizers.LossScaleOptimizer(optimizer) if policy == "mixed_float16" else optimizer


def learning_rate(config: TrainConfig, steps_per_epoch: int) -> Any:
    """Returns the rate, or its schedule by the optimizer's step, which a checkpoint holds."""
    if config.schedule in ("constant", "plateau"):
        return config.learning_rate
    warmup = config.warmup_epochs * steps_per_epoch
    steps = config.epochs * steps_per_epoch - warmup
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=config.learning_rate, warmup_steps=warmup
    )


def resumed_rate(config: TrainConfig, stored: float) -> float:
    """Returns the rate with which a run goes on that has no schedule by steps.

    Args:
        config: of this start; after a loss that was not finite its rate is lower than before.
        stored: the rate in the checkpoint, which a plateau may have lowered.
    """
    return min(config.learning_rate, stored) if config.schedule == "plateau" else config.learning_rate
