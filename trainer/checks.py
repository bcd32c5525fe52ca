"""What a configuration says, checked; imports no TensorFlow.

A `TrainConfig` calls these functions when it is made. Each takes it, and raises an InputError that names
the flag.
"""

import re
from typing import Any, Final

from tfrecords.errors import InputError
from trainer.evaluation.metric_table import LAST, MONITORS

LEAST_MIXUP: Final = 0.01  # below, a pair is hardly ever mixed
MOST_MIXUP: Final = 100.0  # above, a pair is always the mean of both
MOST_PROFILED: Final = 1000  # steps
PLATEAU: Final = {"plateau_factor": 0.1, "plateau_patience": 10}  # the defaults


def check_devices(config: Any) -> None:
    """Checks the devices that are named."""
    given = f"--devices={','.join(map(str, config.devices))}"
    if len(set(config.devices)) < len(config.devices) or min(config.devices, default=0) < 0:
        raise InputError(f"{given}: must be different indices from 0 on, as 0,1")
    if config.strategy == "one_device" and len(config.devices) > 1:
        raise InputError(f"{given}: --strategy=one_device takes one device; use --strategy=mirrored")
    if config.strategy == "multi_worker" and config.logical_cpus:
        raise InputError(
            f"--logical_cpus={config.logical_cpus}: is for --strategy=mirrored on one machine, not for "
            f"multi_worker; leave it out"
        )


def check_schedule(config: Any) -> None:
    """Checks the schedule and of its parameters."""
    if config.warmup_epochs and config.schedule != "cosine":
        raise InputError(f"--warmup_epochs={config.warmup_epochs}: needs --schedule=cosine")
    if config.warmup_epochs >= config.epochs:
        raise InputError(
            f"--warmup_epochs={config.warmup_epochs}: must be less than --epochs={config.epochs}"
        )
    if not 0 < config.plateau_factor < 1:
        raise InputError(f"--plateau_factor={config.plateau_factor}: must be more than 0 and less than 1")
    if config.plateau_patience < 1:
        raise InputError(f"--plateau_patience={config.plateau_patience}: must be 1 or more")
    if config.schedule == "plateau" and config.monitor == LAST:
        raise InputError(
            f"--monitor={LAST}: --schedule=plateau needs a metric, as --monitor={MONITORS[0]}; or use "
            f"another --schedule"
        )
    for name in ("plateau_factor", "plateau_patience"):
        if config.schedule != "plateau" and (value := getattr(config, name)) != PLATEAU[name]:
            raise InputError(f"--{name}={value}: needs --schedule=plateau")


def check_loss(config: Any) -> None:
    """Checks the targets of the loss."""
    if not 0 <= config.label_smoothing < 1:
        raise InputError(f"--label_smoothing={config.label_smoothing}: must be from 0 to less than 1")
    if not (config.mixup == 0 or LEAST_MIXUP <= config.mixup <= MOST_MIXUP):
        raise InputError(
            f"--mixup={config.mixup:g}: must be 0, which is off, or from {LEAST_MIXUP} to {MOST_MIXUP:g}"
        )
    if config.mixup and config.pipeline.global_batch_size % 2:
        raise InputError(
            f"--mixup={config.mixup:g}: mixes pairs of records, so --global_batch_size="
            f"{config.pipeline.global_batch_size} must be even; for example "
            f"{config.pipeline.global_batch_size + 1}"
        )


def check_profile_steps(config: Any) -> None:
    """Checks the steps to profile."""
    given = f"--profile_steps={','.join(map(str, config.profile_steps))}"
    if not config.profile_steps:
        return
    if len(config.profile_steps) != 2 or not 0 <= config.profile_steps[0] < config.profile_steps[1]:
        raise InputError(f"{given}: must be two steps A,B with 0 <= A < B, as 100,110")
    if config.profile_steps[1] - config.profile_steps[0] > MOST_PROFILED:
        raise InputError(f"{given}: profile {MOST_PROFILED:,} steps at most; the page cannot show more")


def check_sampling(config: Any) -> None:
    """Checks the sampling beside class weights."""
    if config.class_weights and config.pipeline.sampling != "natural":
        raise InputError(
            f"--class_weights: weighs classes by their natural shares, but --sampling="
            f"{config.pipeline.sampling} changes these (with class, rare ones count twice); leave one out"
        )


def check_optimizer(config: Any) -> None:
    """Checks the optimizer, its arguments, the frozen layers and the averages."""
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
