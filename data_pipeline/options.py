"""The options of the input pipeline, and the part of each global batch that a worker makes."""

import re
from dataclasses import dataclass
from typing import Final

from data_pipeline.sampling.weights_file import ENDING
from data_pipeline.tiers.choice import AUTO
from data_pipeline.tiers.registry import STREAM_TIER, TIERS
from tfrecords.augment import PRESETS
from tfrecords.errors import InputError

CACHES: Final = (AUTO, *(tier.name for tier in TIERS))
FORMER_CACHES: Final = {"off": STREAM_TIER.name}  # flags and files of earlier versions have these words
CACHE_FLAG: Final = (*CACHES, *FORMER_CACHES)  # what the flag takes
CACHE_HELP: Final = " ".join(
    [
        "The tier from which the records of a split come.",
        *(f"{tier.name}: {tier.help}." for tier in TIERS),
        f"{AUTO}: the first of these tiers that has room.",
        *(f"{former}: former name of {name}." for former, name in FORMER_CACHES.items()),
    ]
)
LAST_BATCHES: Final = ("wrap", "drop")
COPIES: Final = ("all", "one", "none")
SAMPLINGS: Final = ("natural", "class", "group")  # or the path of a file
# These change how fast batches come, never which records are in them.
SPEED_ONLY: Final = ("prefetch", "parallel_reads", "threads")
LARGEST_SEED: Final = 2**32 - 1  # Keras's and NumPy's


@dataclass(frozen=True)
class PipelineOptions:
    """How shards become batches.

    Attributes:
        global_batch_size: records in a step, over all replicas of all workers.
        cache: name of the tier (see `data_pipeline.tiers.registry`), or "auto" (see `choose_tier`). "off",
            the former name of "stream", becomes "stream".
        cache_dir: folder in which the tier "disk" keeps its files; "": the user's cache folder.
        ram_budget: bytes that a split may take in memory; 0: half of the memory that is free now.
        last_batch: what happens to the last batch of a train epoch if it is not full: "wrap" fills it with
            the epoch's first records, "drop" leaves it out.
        copies: variants of each image, the original and its baked-in copies, that a train epoch shows: "all";
            "one", drawn anew in each epoch; "none", which is only the original.
        sampling: how often a train epoch, of the same number of records, shows each of them: "natural", all
            once; "class" or "group", so that each class or group has the same share of the records; or the
            path of a CSV file with a weight for each image. See `data_pipeline.sampling`. Not for a stream.
        augment: preset in `tfrecords.augment.PRESETS` by which each epoch changes its records anew; training
            batches then have a `key`, for `data_pipeline.augment.augmenter`.
        keys: whether training batches have a `key` even without `augment`, for other draws of a train step.
        shuffle_window: bytes of undecoded records that a stream shuffles together. The stream holds two such
            windows, and for a moment three.
        prefetch: least number of batches that are made ahead for each replica.
        parallel_reads: shards that a stream reads at the same time; 0: two, or as many as TensorFlow decides.
        threads: threads that the pipeline has for itself; 0: it shares those of TensorFlow.
        seed: seed of the order.
        shards_at: URL of a folder from which TensorFlow's file systems read the shards; "": the folder of the
            data set. For a stream only.
        data_service: grpc://HOST:PORT of a tf.data service that makes the training batches (see
            `data_pipeline.stream.service`); "": none. For a stream only.
    """

    global_batch_size: int = 32
    cache: str = "auto"
    cache_dir: str = ""
    ram_budget: int = 0
    last_batch: str = "wrap"
    copies: str = "all"
    sampling: str = "natural"
    augment: str = "none"
    keys: bool = False
    shuffle_window: int = 64 << 20
    prefetch: int = 4
    parallel_reads: int = 0
    threads: int = 0
    seed: int = 0
    shards_at: str = ""
    data_service: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", FORMER_CACHES.get(self.cache, self.cache))
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
        if self.streams_only and self.cache not in (AUTO, STREAM_TIER.name):
            raise InputError(
                f"--cache={self.cache}: --data_service and --remote=direct need --cache={STREAM_TIER.name}; "
                f"leave --cache out, or choose a new --run_dir if this run began with another tier"
            )
        self._check_sampling()

    def _check_sampling(self) -> None:
        if self.sampling in SAMPLINGS:
            if self.sampling == "natural":
                return
        elif not self.sampling.endswith(ENDING):
            raise InputError(
                f"--sampling={self.sampling}: must be {', '.join(SAMPLINGS)}, or a file that ends in {ENDING}"
            )
        if self.streams_only or self.cache == STREAM_TIER.name:
            why = f"--cache={STREAM_TIER.name}"
            if self.streams_only:
                why = "--data_service" if self.data_service else "--remote=direct"
            raise InputError(
                f"--sampling={self.sampling}: {why} reads the shards in order, so it shows each record once; "
                f"use --cache=memory or --cache=disk, without --data_service and --remote=direct"
            )

    @property
    def weights_file(self) -> str:
        """The path of the file with a weight for each image; "" without one."""
        return "" if self.sampling in SAMPLINGS else self.sampling

    @property
    def keyed(self) -> bool:
        """Whether training batches have the key of each record, from which a train step draws."""
        return self.keys or self.augment != "none"

    @property
    def streams_only(self) -> bool:
        """Whether the options leave no tier but the stream."""
        return bool(self.shards_at or self.data_service)


@dataclass(frozen=True)
class Worker:
    """One input pipeline: worker `index` of `count`, which feeds `replicas` replicas."""

    index: int = 0
    count: int = 1
    replicas: int = 1

    def replica_batch_size(self, global_batch_size: int) -> int:
        """Returns the records of one replica in a step.

        Raises:
            InputError: the global batch cannot be divided equally among the replicas.
        """
        total = self.count * self.replicas
        if global_batch_size % total:
            near = max(1, round(global_batch_size / total)) * total
            raise InputError(
                f"--global_batch_size={global_batch_size}: must be a multiple of the {total} replicas, "
                f"so that each gets an equal part; for example {near}"
            )
        return global_batch_size // total
