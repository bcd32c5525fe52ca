"""Adam with its learning rate, as a configuration has it."""

from typing import Any

import keras

from trainer.config import TrainConfig


def make_optimizer(rate: Any, policy: str) -> Any:
    """Returns Adam, with loss scaling where float16 needs it.

    Args:
        rate: see `learning_rate`.
        policy: Keras dtype policy of the model.
    """
    optimizer: Any = keras.optimizers.Adam(rate)
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
