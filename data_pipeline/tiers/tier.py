"""The interface of a tier: where a split's records come from while training. Each value of --cache is a tier.

This module and those of the tiers import no TensorFlow: flags and run directories are read without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from tfrecords.manifest import Manifest

HELD: Final = "held"  # the order of a split that is held: each record may come at any position
STREAM: Final = "stream"  # the order of a stream: shards side by side, shuffled window by window

Columns = dict[str, Any]  # a tensor for each field, [N, ...]


@dataclass(frozen=True)
class Machine:
    """What the machine has besides its memory.

    Attributes:
        processes: processes of this machine that read the split.
        device_free: free bytes on the device with the least, of the devices that train.
        gpu: whether these devices are GPUs.
    """

    processes: int = 1
    device_free: int = 0
    gpu: bool = False


@dataclass(frozen=True)
class SplitOnMachine:
    """One split on one machine: the choice of a tier follows from it.

    Attributes:
        manifest: of the data set.
        split: name of the split.
        machine: see `Machine`.
        memory: bytes of memory that the split may take, for all processes of the machine together.
        cache_dir: see `PipelineOptions`.
    """

    manifest: Manifest
    split: str
    machine: Machine
    memory: int
    cache_dir: str = ""

    @property
    def need(self) -> int:
        """Bytes of the split, decoded."""
        return self.manifest.split(self.split).records * int(np.prod(self.manifest.image_shape))

    @property
    def encoded(self) -> bool:
        """Whether the shards hold PNG or JPEG, which must be decoded."""
        return self.manifest.encoding != "raw"


class Tier(ABC):
    """One tier.

    Attributes:
        name: the value of --cache.
        order: `HELD` or `STREAM`. Tiers of one order show the same records in the same order, so a run may
            change from one to the other.
        help: what the tier does and when `auto` takes it: its clause in the help of --cache.
        on_device: whether the train step looks the records up, in `tables`; the host sends their indices.
    """

    name: ClassVar[str]
    order: ClassVar[str]
    help: ClassVar[str]
    on_device: ClassVar[bool] = False

    @abstractmethod
    def room(self, split: SplitOnMachine) -> int:
        """Returns the bytes that the split may take there, if --cache names this tier."""

    def require_room(self, split: str, need: int, machine: Machine) -> None:
        """Raises InputError if the tier cannot work without room for all of the split.

        Args:
            split: name of the split.
            need: its bytes, decoded.
            machine: where it is to be held.
        """
        del split, need, machine

    def location(self, cache_dir: str) -> str:
        """Returns the folder in which the tier keeps files; "" if it keeps none.

        Args:
            cache_dir: see `PipelineOptions`.
        """
        del cache_dir
        return ""

    def tables(
        self, directory: Path, manifest: Manifest, split: str, devices: Sequence[str]
    ) -> list[Columns] | None:
        """Returns the split in the memory of each device; None unless the tier is `on_device`.

        Args:
            directory: folder of the data set.
            manifest: of the data set.
            split: name of the split.
            devices: their names, as "GPU:0".

        Raises:
            InputError: a shard is missing, cut or damaged, or a device has too little memory.
        """
        del directory, manifest, split, devices
        return None


class HeldTier(Tier):
    """A tier that holds the split decoded and looks its records up by index.

    Attributes:
        advice: what the tier saves a training that waits for its input, as the benchmark says it.
    """

    order = HELD
    advice: ClassVar[str]

    @abstractmethod
    def auto_room(self, split: SplitOnMachine) -> int | None:
        """Returns the bytes that the split may take there for `auto` to choose this tier.

        None: `auto` passes the tier over, for it saves nothing here.
        """

    @abstractmethod
    def load(
        self, directory: Path, manifest: Manifest, split: str, fields: tuple[str, ...], cache_dir: str
    ) -> Columns:
        """Returns fields of all records on the host, in the order of the shards.

        Args:
            directory: folder of the data set.
            manifest: of the data set.
            split: name of the split.
            fields: names out of `tfrecords.example.FIELDS`.
            cache_dir: see `PipelineOptions`.

        Returns:
            what `decoding.load` returns.

        Raises:
            InputError: a shard is missing, cut or damaged.
        """

    def look_up(self, columns: Columns, index: Any) -> Columns:
        """Returns rows of what `load` returned.

        Args:
            columns: tensors [N, ...].
            index: int64 [B].
        """
        import tensorflow as tf

        return {name: tf.gather(values, index) for name, values in columns.items()}
