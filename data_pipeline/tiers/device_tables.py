"""Holds a split in the memory of each device that trains; each step gathers its records there by index.

Each device holds all of the split, not a share of it. A shuffled global batch takes its rows from anywhere in
the split, and the number of replicas decides which rows a replica gets. With shares, each step would have to
move images between devices, or another number of replicas would get other global batches.

It was tested on logical CPU devices; it has not yet run on a GPU.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from data_pipeline.tiers import decoding
from data_pipeline.tiers.free_memory import free_memory
from data_pipeline.tiers.tier import Columns, Machine
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest

FIELDS: Final = ("image", "label")  # a train step needs these


def load(directory: Path, manifest: Manifest, split: str, devices: Sequence[str]) -> list[Columns]:
    """Reads a split into the memory of each device.

    The host holds one copy until the devices are filled.

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
    host = decoding.load(directory, manifest, split, FIELDS)
    tables = []
    for name in devices:
        try:
            with tf.device(name):
                tables.append({field: tf.identity(tensor) for field, tensor in host.items()})
        except tf.errors.ResourceExhaustedError:  # enough bytes are free, but not in one piece
            need = sum(tensor.nbytes for tensor in host.values())
            raise too_large(split, need, free_on(devices)) from None
    return tables


def look_up(batch: dict[str, Any], table: Columns | None) -> dict[str, Any]:
    """Returns a batch with the fields of its records, gathered on the device that runs this.

    Args:
        batch: of `make_dataset`; has `index` int64 [B] instead of the fields that are in the table.
        table: of this replica; None: the batch is complete already.

    Returns:
        `image` uint8 [B, H, W, C], `label` int32 [B], and the batch's other fields.
    """
    if table is None:
        return batch
    others = {name: value for name, value in batch.items() if name != "index"}
    return {name: tf.gather(values, batch["index"]) for name, values in table.items()} | others


def machine_of(devices: Sequence[str], processes: int) -> Machine:
    """Returns what the machine has for a split, if its train steps run on these devices.

    Args:
        devices: names of this process's devices, as "GPU:0".
        processes: processes of this machine that train, each on devices of its own.
    """
    gpu = all(tf.DeviceSpec.from_string(name).device_type == "GPU" for name in devices)
    return Machine(processes, free_on(devices) // (1 if gpu else processes), gpu)


def free_on(devices: Sequence[str]) -> int:
    """Returns the free bytes of the device that has the least; CPUs share the memory of the machine."""
    return min(_free(name, len(devices)) for name in devices)


def _free(name: str, sharing: int) -> int:
    device = tf.DeviceSpec.from_string(name)
    if device.device_type != "GPU":
        return free_memory() // sharing
    from tensorflow.python.client import device_lib  # only this module knows a device's limit

    own = f"/device:GPU:{device.device_index}"
    limits = {found.name: found.memory_limit for found in device_lib.list_local_devices()}
    used = tf.config.experimental.get_memory_info(f"GPU:{device.device_index}")["current"]
    return max(0, limits[own] - used)


def too_large(split: str, need: int, free: int) -> InputError:
    """Returns the error for a split of `need` decoded bytes where each device has only `free` bytes."""
    return InputError(
        f"--cache=device: split {split!r} has {need / 1e6:,.1f} MB decoded, and each device must hold all of "
        f"it; {free / 1e6:,.1f} MB are free there: use --cache=memory or --cache=auto"
    )
