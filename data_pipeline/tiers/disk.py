"""The tier `disk`: a file that the processes of a machine share holds the decoded split."""

from pathlib import Path

from data_pipeline.tiers.tier import Columns, HeldTier, SplitOnMachine
from tfrecords.manifest import Manifest


class DiskTier(HeldTier):
    """See `Tier`; `decoded_file` makes, checks and maps the file."""

    name = "disk"
    help = (
        "a file holds the decoded split; the first start writes it, and all processes of the machine share "
        "it; auto takes it for PNG and JPEG, or if several processes train on the machine"
    )
    advice = "the split is decoded once into a file, and records are gathered from it by index"

    def room(self, split: SplitOnMachine) -> int:
        """Returns what is free on disk, and what the file takes if it is there already."""
        from data_pipeline.tiers import decoded_file

        return decoded_file.room(split.cache_dir, split.manifest, split.split)

    def auto_room(self, split: SplitOnMachine) -> int | None:
        """Returns the room on disk, but no more than the memory: the file's pages must stay there.

        The file must save something: decoding at each start, or a copy in the memory of each process.
        """
        if not split.encoded and split.machine.processes == 1:
            return None
        return min(split.memory, self.room(split))

    def load(
        self, directory: Path, manifest: Manifest, split: str, fields: tuple[str, ...], cache_dir: str
    ) -> Columns:
        """See `decoded_file.load`."""
        from data_pipeline.tiers import decoded_file

        return decoded_file.load(directory, manifest, split, fields, cache_dir)

    def location(self, cache_dir: str) -> str:
        """Returns the folder of the decoded files."""
        from data_pipeline.tiers import decoded_file

        return str(decoded_file.folder_of(cache_dir))
