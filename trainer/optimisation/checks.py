"""What a configuration says of the optimizer, checked; imports no TensorFlow."""

import re
from typing import Any

from tfrecords.errors import InputError


def check_optimizer(config: Any) -> None:
    """Refuses values of the optimizer that cannot be meant.

    Args:
        config: a `TrainConfig`, which calls this when it is made.

    Raises:
        InputError: names the flag.
    """
    if not 0 <= config.ema < 1:
        raise InputError(f"--ema={config.ema:g}: must be from 0 to less than 1, as 0.999")
    try:
        re.compile(config.freeze)
    except re.error as error:
        raise InputError(f"--freeze={config.freeze}: is no regular expression: {error}") from None
    for name, needed in (("unfreeze_epoch", "freeze"), ("backbone_learning_rate", "unfreeze_epoch")):
        if getattr(config, name) and not getattr(config, needed):
            raise InputError(f"--{name}={getattr(config, name):g}: needs --{needed}")
    flags = {"learning_rate": "learning_rate", "weight_decay": "weight_decay"}
    flags |= {"clipnorm": "clip_norm", "global_clipnorm": "clip_norm"}
    flags |= {"gradient_accumulation_steps": "accumulate"}
    flags |= dict.fromkeys(("use_ema", "ema_momentum", "ema_overwrite_frequency"), "ema")
    for name, value in config.optimizer_args:
        if name in flags:
            raise InputError(f"--optimizer_args={name}={value}: is the flag --{flags[name]}")


def check_rows(config: Any, rows: int) -> None:
    """Refuses a batch that cannot be cut: for mixup into pairs, for --accumulate into equal parts.

    Args:
        config: the `TrainConfig` of the run.
        rows: records of one replica in a step.

    Raises:
        InputError: `rows` is odd, or no multiple of `accumulate`.
    """
    batch = config.pipeline.global_batch_size
    if config.mixup and rows % 2:
        raise InputError(
            f"--global_batch_size={batch}: gives each replica {rows} records; --mixup={config.mixup:g} mixes "
            f"pairs, which need an even number; for example {batch // rows * (rows + 1)}"
        )
    if rows % config.accumulate:
        more = -rows % config.accumulate
        raise InputError(
            f"--accumulate={config.accumulate}: --global_batch_size={batch} gives each replica {rows} "
            f"records, which cannot be cut into so many equal parts; for example "
            f"{batch // rows * (rows + more)}"
        )
