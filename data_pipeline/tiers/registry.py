"""The tiers, by name. A new tier is a module beside this one and a line in `HELD_TIERS`."""

from typing import Final

from data_pipeline.tiers.device import DeviceTier
from data_pipeline.tiers.disk import DiskTier
from data_pipeline.tiers.memory import MemoryTier
from data_pipeline.tiers.stream import StreamTier
from data_pipeline.tiers.tier import HeldTier, Tier
from tfrecords.errors import InputError

DISK_TIER: Final = DiskTier()
# `auto` tries them in this order, and takes the stream if none has room.
HELD_TIERS: Final[tuple[HeldTier, ...]] = (
    DeviceTier(),
    DISK_TIER,
    MemoryTier(),
)
STREAM_TIER: Final = StreamTier()
TIERS: Final[tuple[Tier, ...]] = (*HELD_TIERS, STREAM_TIER)


def tier_named(name: str) -> Tier:
    """Returns the tier that a value of --cache names.

    Raises:
        InputError: no tier has this name.
    """
    for tier in TIERS:
        if tier.name == name:
            return tier
    raise InputError(f"--cache={name}: must be one of {', '.join(tier.name for tier in TIERS)}")
