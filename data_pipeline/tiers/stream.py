"""The tier `stream`: each epoch reads the shards of the split; `data_pipeline.stream` has the chains."""

from data_pipeline.tiers.tier import STREAM, SplitOnMachine, Tier


class StreamTier(Tier):
    """See `Tier`."""

    name = "stream"
    order = STREAM
    help = (
        "nothing holds the split, and each epoch reads and decodes its shards; auto takes it if no other "
        "tier has room"
    )

    def room(self, split: SplitOnMachine) -> int:
        """Returns the memory that one process has, into which the split does not fit."""
        return split.memory // split.machine.processes
