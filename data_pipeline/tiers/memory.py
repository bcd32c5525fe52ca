"""The tier `memory`: one array in the memory of each process holds the decoded split."""

from pathlib import Path

from data_pipeline.tiers.tier import Columns, HeldTier, SplitOnMachine
from tfrecords.manifest import Manifest


class MemoryTier(HeldTier):
    """See `Tier`; `decoding` fills the array."""

    name = "memory"
    help = "an array in each process holds the decoded split; each start decodes it"
    advice = "the split is decoded once into memory, and records are gathered from it by index"

    def room(self, split: SplitOnMachine) -> int:
        """Returns the part of the memory that one process has."""
        return split.memory // split.machine.processes

    def auto_room(self, split: SplitOnMachine) -> int | None:
        """Returns the same."""
        return self.room(split)

    def load(
        self, directory: Path, manifest: Manifest, split: str, fields: tuple[str, ...], cache_dir: str
    ) -> Columns:
        """See `decoding.load`."""
        del cache_dir
        from data_pipeline.tiers import decoding

        return decoding.load(directory, manifest, split, fields)
