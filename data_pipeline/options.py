"""What a pipeline may be told, and which part of each global batch a worker makes."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from tfrecords.augment import PRESETS
from tfrecords.errors import InputError

CACHES: Final = ("auto", "device", "memory", "disk", "off")
LAST_BATCHES: Final = ("wrap", "drop")
COPIES: Final = ("all", "one", "none")
# They change how fast batches come, never which.
SPEED_ONLY: Final = ("prefetch", "parallel_reads", "threads")
LARGEST_SEED: Final = 2**32 - 1  # Keras's and NumPy's

DEVICE_SHARE: Final = 0.5  # of a GPU's free memory, that a split may take: the rest is the model's

_CGROUP: Final = Path("/sys/fs/cgroup")
_LIMITS: Final = (  # limit, use, and in memory.stat what can be given back: of cgroup versions 2 and 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True)
class PipelineOptions:
    """How shards become batches.

    Attributes:
        global_batch_size: records a step, over all replicas of all workers.
        cache: where a split is held decoded: "device" in the memory of each device that trains,
            "memory" in one tensor, "disk" in a file that processes of a machine share; "off" streams
            it from its shards, "auto" chooses (see `choose_tier`).
        cache_dir: folder in which the files of "disk" are kept; "" is the user's cache folder.
        ram_budget: bytes a split may take in memory; 0 takes half of what is free now.
        last_batch: what becomes of a train epoch's last batch when it is not full: "wrap" fills it
            with the epoch's first records, "drop" leaves its records out.
        copies: which variants of an image, the original and its baked-in copies, a train epoch shows:
            "all", "one" drawn anew each epoch, or "none" but the original.
        augment: name of the `tfrecords.augment.PRESETS` by which records are changed anew each epoch;
            training batches then have a `key`, for `data_pipeline.augment.augmenter`.
        shuffle_window: bytes of undecoded records that a stream shuffles among themselves. It holds two such
            windows, three for a moment.
        prefetch: batches made ahead for each replica, at least.
        parallel_reads: shards that a stream reads at the same time; 0: two, or as many as TensorFlow decides.
        threads: of a pool that the pipeline has for itself; 0: it shares TensorFlow's.
        seed: of the order.
        shards_at: URL of a folder from which TensorFlow's file systems read the shards; "": the data
            set's own. Streams only.
        data_service: grpc://HOST:PORT of a tf.data service that makes the training batches (see
            `data_pipeline.service`); "": none. Streams only.
    """

    global_batch_size: int = 32
    cache: str = "auto"
    cache_dir: str = ""
    ram_budget: int = 0
    last_batch: str = "wrap"
    copies: str = "all"
    augment: str = "none"
    shuffle_window: int = 64 << 20
    prefetch: int = 4
    parallel_reads: int = 0
    threads: int = 0
    seed: int = 0
    shards_at: str = ""
    data_service: str = ""

    def __post_init__(self) -> None:
        if self.global_batch_size < 1:
            raise InputError(f"--global_batch_size={self.global_batch_size}: must be 1 or more")
        choices = {"cache": CACHES, "last_batch": LAST_BATCHES, "copies": COPIES, "augment": tuple(PRESETS)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"--{name}={getattr(self, name)}: must be one of {', '.join(allowed)}")
        for name in ("ram_budget", "shuffle_window", "seed", *SPEED_ONLY):
            if getattr(self, name) < 0:
                raise InputError(f"--{name}={getattr(self, name)}: must be 0 or more")
        if self.seed > LARGEST_SEED:
            raise InputError(f"--seed={self.seed}: must be from 0 to {LARGEST_SEED}")
        if self.data_service and not re.fullmatch(r"grpc://[^/:]+:\d+", self.data_service):
            raise InputError(f"--data_service={self.data_service}: must be grpc://HOST:PORT")
        if self.streams_only and self.cache not in ("auto", "off"):
            raise InputError(
                f"--cache={self.cache}: --data_service and --remote=direct stream; leave --cache out, or "
                f"choose a new --run_dir if this run began with another tier"
            )

    @property
    def streams_only(self) -> bool:
        """Whether the options leave no other tier."""
        return bool(self.shards_at or self.data_service)


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


def free_memory(
    cgroup: Path = _CGROUP, meminfo: Path = Path("/proc/meminfo"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """Returns the bytes this process may still take: the machine's, or a cgroup's if less.

    A limit holds for all groups below it, so those of every ancestor count, in either version.

    Args:
        cgroup: where cgroups are mounted.
        meminfo: the kernel's account of the machine's memory.
        own: the groups of this process.
    """
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) << 10
    left = [_free_in(group) for group in _memory_groups(cgroup, own)]
    return min([free, *(size for size in left if size is not None)])


def _memory_groups(cgroup: Path, own: Path) -> list[Path]:
    """Returns the folders of this process's memory groups and of all their ancestors.

    In a container the path may be that of the host, of which only the mounted root is there.
    """
    groups = own.read_text().splitlines() if own.exists() else []
    folders = {cgroup, cgroup / "memory"}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2; "unified" where version 1 is mounted beside it
            roots = [cgroup, cgroup / "unified"]
        elif "memory" in controllers.split(","):
            roots = [cgroup / "memory"]
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        folders |= {root / part for root in roots for part in (inner, *inner.parents)}
    return sorted(folders)


def _free_in(group: Path) -> int | None:
    """Returns the bytes left below the limit of a memory group, None where it has none."""
    for limit_name, used_name, cached in _LIMITS:
        try:
            limit = (group / limit_name).read_text().strip()
            used = int((group / used_name).read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except OSError:  # of the other version, the root group, or no group of ours
            continue
        if limit != "max":
            # Cached pages of files read earlier are given back on demand, as MemAvailable assumes too.
            return max(0, int(limit) - used + int(stat[cached]))
    return None
