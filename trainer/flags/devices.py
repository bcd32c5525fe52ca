"""Devices.

The flags that say on what to train, and in which number format.
"""

from typing import Any

from absl import flags

from tfrecords.errors import InputError
from trainer.config import PRECISIONS, STRATEGIES, TrainConfig

_STRATEGY = flags.DEFINE_enum(
    "strategy",
    TrainConfig.strategy,
    STRATEGIES,
    "How the training is spread. one_device: it runs on one device. mirrored: it runs on all devices of this "
    "machine. multi_worker: it runs on the machines that the variable TF_CONFIG names; launch.local, "
    "launch.slurm and launch.kubernetes set it.",
)
_DEVICES = flags.DEFINE_list(
    "devices",
    [],
    "Indices of the devices to use, as 0,1. Default: the first for --strategy=one_device, else all.",
)
_LOGICAL_CPUS = flags.DEFINE_integer(
    "logical_cpus",
    TrainConfig.logical_cpus,
    "Split the CPU into this number of devices, to try out --strategy=mirrored without GPUs. 0: no split.",
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    TrainConfig.precision,
    PRECISIONS,
    "The number format that layers compute in; weights and loss stay float32. auto: bfloat16 where the "
    "hardware has it, float16 with loss scaling on older GPUs, else float32. float32, bfloat16, float16: "
    "this one.",
)
_THREADS_PER_PROCESS = flags.DEFINE_integer(
    "threads_per_process",
    TrainConfig.threads_per_process,
    "The number of TensorFlow's threads in each process. Another number gives weights that differ in the "
    "last bits, so a run records its number and keeps it. 0: the number of cores that may be used at the "
    "run's first start.",
)


def values() -> dict[str, Any]:
    """Returns what these flags say.

    Raises:
        InputError: a device is not a whole number.
    """
    return {
        "strategy": _STRATEGY.value,
        "devices": whole_numbers("devices", _DEVICES.value),
        "logical_cpus": _LOGICAL_CPUS.value,
        "precision": _PRECISION.value,
        "threads_per_process": _THREADS_PER_PROCESS.value,
    }


def whole_numbers(name: str, values: list[str]) -> tuple[int, ...]:
    """Returns the numbers of a flag that takes a list.

    Raises:
        InputError: one is not a whole number.
    """
    if not all(value.isdecimal() for value in values):
        raise InputError(f"--{name}={','.join(values)}: must be whole numbers, as 0,1")
    return tuple(int(value) for value in values)
