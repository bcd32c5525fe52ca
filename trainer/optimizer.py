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
    if config.schedule == "constant":
        return config.learning_rate
    warmup = config.warmup_epochs * steps_per_epoch
    steps = config.epochs * steps_per_epoch - warmup
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=config.learning_rate, warmup_steps=warmup
    )
