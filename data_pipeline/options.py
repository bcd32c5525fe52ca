"""What a pipeline may be told, and which part of each global batch a worker makes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError

CACHES: Final = ("auto", "memory", "off")
LAST_BATCHES: Final = ("wrap", "drop")
LARGEST_SEED: Final = 2**32 - 1  # Keras's and NumPy's

_CGROUP: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class PipelineOptions:
    """How shards become batches.

    Attributes:
        global_batch_size: records a step, over all replicas of all workers.
        cache: "memory" holds a split decoded in one tensor, "off" streams it from its shards, "auto"
            holds what fits into the budget.
        ram_budget: bytes a split may take in memory; 0 takes half of what is free now.
        last_batch: what becomes of a train epoch's last batch when it is not full: "wrap" fills it
            with the epoch's first records, "drop" leaves its records out.
        shuffle_window: bytes of undecoded records among which a stream is shuffled.
        prefetch: batches made ahead for each replica.
        seed: of the order.
    """

    global_batch_size: int = 32
    cache: str = "auto"
    ram_budget: int = 0
    last_batch: str = "wrap"
    shuffle_window: int = 256 << 20
    prefetch: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.global_batch_size < 1:
            raise InputError(f"--global_batch_size={self.global_batch_size}: must be 1 or more")
        if self.cache not in CACHES:
            raise InputError(f"--cache={self.cache}: must be one of {', '.join(CACHES)}")
        if self.last_batch not in LAST_BATCHES:
            raise InputError(f"--last_batch={self.last_batch}: must be one of {', '.join(LAST_BATCHES)}")
        for name in ("ram_budget", "shuffle_window", "prefetch", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"--{name}={getattr(self, name)}: must be 0 or more")
        if self.seed > LARGEST_SEED:
            raise InputError(f"--seed={self.seed}: must be from 0 to {LARGEST_SEED}")


@dataclass(frozen=True)
class Worker:
    """One input pipeline: worker `index` of `count`, which feeds `replicas` replicas."""

    index: int = 0
    count: int = 1
    replicas: int = 1

    def replica_batch_size(self, global_batch_size: int) -> int:
        """Returns the records a step of one replica.

        Raises:
            InputError: the global batch cannot be cut into equal parts, one for each replica.
        """
        total = self.count * self.replicas
        if global_batch_size % total:
            near = max(1, round(global_batch_size / total)) * total
            raise InputError(
                f"--global_batch_size={global_batch_size}: must be a multiple of the {total} replicas, "
                f"so that each gets an equal part; for example {near}"
            )
        return global_batch_size // total


@dataclass(frozen=True)
class Tier:
    """Where a split's records come from while training: "memory" or "stream"; sizes in bytes."""

    name: str
    need: int
    budget: int

    def __str__(self) -> str:
        fit = "fit into" if self.need <= self.budget else "exceed"
        return f"{self.name} ({self.need / 1e6:,.0f} MB decoded {fit} {self.budget / 1e6:,.0f} MB)"


def choose_tier(options: PipelineOptions, need: int) -> Tier:
    """Returns where a split of `need` decoded bytes is to come from."""
    budget = options.ram_budget or free_memory() // 2
    if options.cache == "auto":
        return Tier("memory" if need <= budget else "stream", need, budget)
    return Tier("memory" if options.cache == "memory" else "stream", need, budget)


def free_memory(cgroup: Path = _CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Returns the bytes this process may still take: the machine's, or its cgroup's if less."""
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) << 10
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except OSError:  # no such limit here: cgroup version 1, the root group, or no cgroups
        return free
    if limit == "max":
        return free
    # Cached pages of files read earlier are given back on demand, as MemAvailable assumes too.
    return min(free, max(0, int(limit) - used + int(stat["inactive_file"])))
