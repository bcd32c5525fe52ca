"""The device tier: a split in the memory of each device that trains, gathered there by index.

Each device has all of the split, not its share. A shuffled global batch takes its rows from anywhere,
and which of them a replica gets depends on how many there are; from shares, each step would either
move images between devices or show other global batches for another number of replicas.

Tested on logical CPU devices; not yet run on a GPU.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from data_pipeline.tiers import memory
from data_pipeline.tiers.choice import Machine
from data_pipeline.tiers.free_memory import free_memory
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest

FIELDS: Final = ("image", "label")  # that a train step needs

Table = dict[str, Any]


def load(directory: Path, manifest: Manifest, split: str, devices: Sequence[str]) -> list[Table]:
    """Reads a split into the memory of each device.

    The host holds one copy while the devices are filled.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        split: name of the split.
        devices: their names, as "GPU:0".

    Returns:
        for each device `image` uint8 [N, H, W, C] and `label` int32 [N], in the order of the shards.

    Raises:
        InputError: a shard is missing, cut or damaged, or a device has too little memory.
    """
    host = memory.load(directory, manifest, split, FIELDS)
    tables = []
    for name in devices:
        try:
            with tf.device(name):
                tables.append({field: tf.identity(tensor) for field, tensor in host.items()})
        except tf.errors.ResourceExhaustedError:  # what is free in pieces is not free in one
            need = sum(tensor.nbytes for tensor in host.values())
            raise _too_large(split, need, free_on(devices)) from None
    return tables


def look_up(batch: dict[str, Any], table: Table | None) -> dict[str, Any]:
    """Returns a batch with its records in it, gathered on the device that this runs on.

    Args:
        batch: of `make_dataset`; `index` int64 [B] in place of a record's fields if they are in a table.
        table: of this replica, or None if the batch is complete.

    Returns:
        `image` uint8 [B, H, W, C], `label` int32 [B], and the batch's other fields.
    """
    if table is None:
        return batch
    others = {name: value for name, value in batch.items() if name != "index"}
    return {name: tf.gather(values, batch["index"]) for name, values in table.items()} | others


def require_room(split: str, need: int, free: int) -> None:
    """Raises InputError unless a split of `need` decoded bytes fits into those free on each device."""
    if need > free:
        raise _too_large(split, need, free)


def machine_of(devices: Sequence[str], processes: int) -> Machine:
    """Returns what a machine has for a split whose train steps run on these devices.

    Args:
        devices: their names, as "GPU:0"; those of this process.
        processes: how many of this machine train, each on devices of its own.
    """
    gpu = all(tf.DeviceSpec.from_string(name).device_type == "GPU" for name in devices)
    return Machine(processes, free_on(devices) // (1 if gpu else processes), gpu)


def free_on(devices: Sequence[str]) -> int:
    """Returns the bytes free on each of the devices, the least of them; CPUs share the machine's memory."""
    return min(_free(name, len(devices)) for name in devices)


def _free(name: str, sharing: int) -> int:
    device = tf.DeviceSpec.from_string(name)
    if device.device_type != "GPU":
        return free_memory() // sharing
    from tensorflow.python.client import device_lib  # the one place that knows a device's limit

    own = f"/device:GPU:{device.device_index}"
    limits = {found.name: found.memory_limit for found in device_lib.list_local_devices()}
    used = tf.config.experimental.get_memory_info(f"GPU:{device.device_index}")["current"]
    return max(0, limits[own] - used)


def _too_large(split: str, need: int, free: int) -> InputError:
    return InputError(
        f"--cache=device: split {split!r} has {need / 1e6:,.1f} MB decoded, and each device must hold all of "
        f"it; {free / 1e6:,.1f} MB are free there: use --cache=memory or --cache=auto"
    )
