"""The tier `device`: the memory of each device that trains holds the split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from data_pipeline.tiers.tier import Columns, HeldTier, Machine, SplitOnMachine
from tfrecords.manifest import Manifest

_AUTO_SHARE: Final = 0.5  # of a GPU's free memory that `auto` gives to the split: the rest is the model's


class DeviceTier(HeldTier):
    """See `Tier`; the host itself holds only the fields from which order and augmentation follow."""

    name = "device"
    on_device = True
    help = (
        "each device that trains holds the decoded split in its memory, and each step gathers its records "
        "there; auto takes it on GPUs if the split fits into half of their free memory"
    )
    advice = "the split lies in the GPU's memory, and the host sends only the indices of its records"

    def room(self, split: SplitOnMachine) -> int:
        """Returns what is free on each device."""
        return split.machine.device_free

    def auto_room(self, split: SplitOnMachine) -> int | None:
        """Returns half of what is free on each GPU."""
        return int(split.machine.device_free * _AUTO_SHARE) if split.machine.gpu else None

    def require_room(self, split: str, need: int, machine: Machine) -> None:
        """Refuses a split that is larger than what is free on each device."""
        if need > machine.device_free:
            from data_pipeline.tiers.device_tables import too_large

            raise too_large(split, need, machine.device_free)

    def load(
        self, directory: Path, manifest: Manifest, split: str, fields: tuple[str, ...], cache_dir: str
    ) -> Columns:
        """Returns what the tier `memory` returns: an evaluation gathers on the host."""
        del cache_dir
        from data_pipeline.tiers import decoding

        return decoding.load(directory, manifest, split, fields)

    def tables(
        self, directory: Path, manifest: Manifest, split: str, devices: Sequence[str]
    ) -> list[Columns]:
        """See `device_tables.load`."""
        from data_pipeline.tiers import device_tables

        return device_tables.load(directory, manifest, split, devices)
