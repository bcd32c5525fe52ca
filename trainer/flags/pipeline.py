"""Input.

The flags that say how records become batches.
"""

from collections.abc import Mapping
from typing import Any, Final

from absl import flags

from data_pipeline.options import CACHE_FLAG, CACHE_HELP, COPIES, LAST_BATCHES, PipelineOptions
from data_pipeline.tiers.registry import STREAM_TIER
from tfrecords.augment import PRESETS

_CACHE = flags.DEFINE_enum(
    "cache",
    PipelineOptions.cache,
    CACHE_FLAG,
    f"{CACHE_HELP} Room in memory is --ram_budget_mb. A run keeps the tier that auto chose at its first "
    "start.",
)
_RAM_BUDGET_MB = flags.DEFINE_integer(
    "ram_budget_mb",
    0,
    "The memory that a split may take, in MB. 0: half of what machine and cgroup have free.",
)
_PREFETCH = flags.DEFINE_integer(
    "prefetch", PipelineOptions.prefetch, "The number of batches that are made ahead for each replica."
)
_PARALLEL_READS = flags.DEFINE_integer(
    "parallel_reads",
    PipelineOptions.parallel_reads,
    "The number of shards that a stream reads at the same time. It does not change the order of records. 0: "
    "two; for a stream that tf.data makes, as many as tf.data decides.",
)
_THREADS = flags.DEFINE_integer(
    "threads",
    PipelineOptions.threads,
    "The number of threads that the input has for itself. 0: it shares TensorFlow's threads.",
)
_LAST_BATCH = flags.DEFINE_enum(
    "last_batch",
    PipelineOptions.last_batch,
    list(LAST_BATCHES),
    "What becomes of the last batch of a train epoch if it is not full. wrap: it is filled with the first "
    "records of the epoch. drop: its records are left out of the epoch.",
)
_COPIES = flags.DEFINE_enum(
    "copies",
    PipelineOptions.copies,
    list(COPIES),
    "Which variants of an image a train epoch shows; the variants are the original and the copies that "
    "tfrecords.convert made. all: all of them. one: one, drawn anew each epoch. none: the original alone.",
)
_SAMPLING = flags.DEFINE_string(
    "sampling",
    PipelineOptions.sampling,
    "How often a train epoch shows each record; its number of records stays the same. natural: all of them "
    "once. class: so that each class has the same share. group: so that each group (a patient, for example) "
    "has the same share. FILE.csv: in proportion to the weights in a file with the columns id and weight, "
    "which has a line for each image of the train split. It needs a tier that holds the split.",
)
_AUGMENT = flags.DEFINE_enum(
    "augment",
    PipelineOptions.augment,
    list(PRESETS),
    "How strongly train images are changed anew each epoch, on the device that trains: by flips, turns, "
    "zooms, shifts and tones. The strengths are those of tfrecords.convert --augment; none: not at all.",
)
_DATA_SERVICE = flags.DEFINE_string(
    "data_service",
    PipelineOptions.data_service,
    "The address grpc://HOST:PORT of a dispatcher (data_pipeline.serve) whose workers parse and decode the "
    "training batches: the same batches in the same order. The workers must see the shards under the same "
    "path. Use it in a private network only. Default: none.",
)
# Taken from the data set's pipeline.json, if it has one, unless the flag is given.
_TUNED: Final = {
    "cache": _CACHE,
    "prefetch": _PREFETCH,
    "parallel_reads": _PARALLEL_READS,
    "threads": _THREADS,
}


def values(settings: Mapping[str, str | int]) -> dict[str, Any]:
    """Returns what these flags say, and which of them pipeline.json has set.

    Args:
        settings: the options that the data set's pipeline.json has.
    """
    tuned = {name: value for name, value in settings.items() if not _TUNED[name].present}
    if _DATA_SERVICE.value:
        tuned.pop("cache", None)  # a data service streams, whatever tier was found best without it
    if _SAMPLING.value != PipelineOptions.sampling and tuned.get("cache") == STREAM_TIER.name:
        tuned.pop("cache")  # found best for epochs that show each record once
    return {
        **{name: tuned.get(name, flag.value) for name, flag in _TUNED.items()},
        "tuned": tuple(tuned),
        "ram_budget": _RAM_BUDGET_MB.value << 20,
        "last_batch": _LAST_BATCH.value,
        "copies": _COPIES.value,
        "sampling": _SAMPLING.value,
        "augment": _AUGMENT.value,
        "data_service": _DATA_SERVICE.value,
    }
