"""What a pipeline may be told, and which part of each global batch a worker makes."""

import re
from dataclasses import dataclass
from typing import Final

from tfrecords.augment import PRESETS
from tfrecords.errors import InputError

CACHES: Final = ("auto", "device", "memory", "disk", "off")
LAST_BATCHES: Final = ("wrap", "drop")
COPIES: Final = ("all", "one", "none")
# They change how fast batches come, never which.
SPEED_ONLY: Final = ("prefetch", "parallel_reads", "threads")
LARGEST_SEED: Final = 2**32 - 1  # Keras's and NumPy's


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
            `data_pipeline.stream.service`); "": none. Streams only.
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
