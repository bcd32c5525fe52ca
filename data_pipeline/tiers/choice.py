"""Which tier a split gets: the one that --cache names, or the one that `auto` chooses."""

from dataclasses import dataclass
from typing import Final

from data_pipeline.tiers.registry import DISK_TIER, HELD_TIERS, STREAM_TIER, tier_named
from data_pipeline.tiers.tier import STREAM, SplitOnMachine, Tier
from tfrecords.errors import InputError

AUTO: Final = "auto"


@dataclass(frozen=True)
class ChosenTier:
    """The tier of a split, as a run's config.json keeps it.

    Attributes:
        name: of the tier.
        need: bytes of the split, decoded.
        budget: bytes that it may take there.
    """

    name: str
    need: int
    budget: int

    def __post_init__(self) -> None:
        tier_named(self.name)

    def __str__(self) -> str:
        fit = "fit into" if self.fits else "exceed"
        return f"{self.name} ({self.need / 1e6:,.0f} MB decoded {fit} {self.budget / 1e6:,.0f} MB)"

    @property
    def tier(self) -> Tier:
        """The tier itself."""
        return tier_named(self.name)

    @property
    def fits(self) -> bool:
        """Whether there is room for all of the split."""
        return self.need <= self.budget

    @property
    def streams(self) -> bool:
        """Whether the records come in the order of a stream."""
        return self.tier.order == STREAM


def choose_tier(cache: str, split: SplitOnMachine, *, held: bool = False) -> ChosenTier:
    """Returns the tier that a split gets.

    A tier that is named is taken whether it has room or not. "auto" takes the first of `HELD_TIERS` that has
    room for the split and saves something on this machine; the stream if there is none.

    Args:
        cache: "auto" or the name of a tier.
        split: see `SplitOnMachine`.
        held: whether the split must be held. In place of the stream "auto" then takes the tier "disk", whose
            file need not fit into memory.

    Raises:
        InputError: no tier has this name, or no tier has room to hold the split.
    """
    if cache != AUTO:
        named = tier_named(cache)
        return ChosenTier(named.name, split.need, named.room(split))
    for tier in HELD_TIERS:
        room = tier.auto_room(split)
        if room is not None and split.need <= room:
            return ChosenTier(tier.name, split.need, room)
    if held:
        disk = ChosenTier(DISK_TIER.name, split.need, DISK_TIER.room(split))
        if disk.fits:
            return disk
        raise InputError(
            f"--cache={AUTO}: --sampling needs a tier that holds split {split.split!r}, "
            f"{split.need / 1e6:,.0f} MB decoded; memory has room for {split.memory / 1e6:,.0f} MB and the "
            f"disk for {disk.budget / 1e6:,.0f} MB: name a larger disk with --cache_dir, raise "
            f"--ram_budget_mb, or use --sampling=natural"
        )
    return ChosenTier(STREAM_TIER.name, split.need, STREAM_TIER.room(split))
