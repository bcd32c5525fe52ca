"""Where a split's records come from while training: the tiers, and which of them is taken."""

from dataclasses import dataclass
from typing import Final

from data_pipeline.options import PipelineOptions
from data_pipeline.tiers.free_memory import free_memory

DEVICE_SHARE: Final = 0.5  # of a GPU's free memory, that a split may take: the rest is the model's


@dataclass(frozen=True)
class Tier:
    """Where a split's records come from while training.

    Attributes:
        name: "device", "memory", "disk" or "stream".
        need: bytes of the split, decoded.
        budget: bytes they may take there.
    """

    name: str
    need: int
    budget: int

    @property
    def cache(self) -> str:
        """The value of --cache that gives this tier."""
        return "off" if self.name == "stream" else self.name

    def __str__(self) -> str:
        fit = "fit into" if self.need <= self.budget else "exceed"
        return f"{self.name} ({self.need / 1e6:,.0f} MB decoded {fit} {self.budget / 1e6:,.0f} MB)"


@dataclass(frozen=True)
class Machine:
    """What a machine has for a split besides its memory.

    Attributes:
        processes: how many of them read the split.
        device_free: bytes free on each device that trains, the least of them.
        gpu: whether these are GPUs.
    """

    processes: int = 1
    device_free: int = 0
    gpu: bool = False


def choose_tier(
    options: PipelineOptions,
    need: int,
    machine: Machine,
    *,
    encoded: bool = False,
    disk_free: int = 0,
) -> Tier:
    """Returns where a split of `need` decoded bytes is to come from.

    "auto" takes the first that holds it: the devices, if they are GPUs and half of what is free there
    is enough (the rest is the model's); a file on disk, if it saves something (decoding at each start,
    or a copy in memory for each process of a machine) and its pages fit into the budget; memory; else
    the stream.

    Args:
        options: see `PipelineOptions`.
        need: bytes of the split, decoded.
        machine: see `Machine`.
        encoded: whether the shards hold PNG or JPEG.
        disk_free: bytes that the split may take on disk, at least `need` if it is there already.
    """
    budget = options.ram_budget or free_memory() // 2
    name = "off" if options.streams_only else options.cache
    limits = {
        "device": int(machine.device_free * (DEVICE_SHARE if name == "auto" else 1)),
        "disk": min(budget, disk_free) if name == "auto" else disk_free,
        "memory": budget // machine.processes,
        "off": budget // machine.processes,
    }
    if name == "auto":
        tried = ["device"] * machine.gpu + ["disk"] * (encoded or machine.processes > 1) + ["memory"]
        name = next((tier for tier in tried if need <= limits[tier]), "off")
    return Tier("stream" if name == "off" else name, need, limits[name])
