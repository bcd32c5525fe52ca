"""What each stage of the input costs: pipelines that each do one thing more than the one before."""

import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset
from data_pipeline.measuring import BatchReader, Cost, PeakMemory, copy_limit, median_cost, timed
from data_pipeline.options import PipelineOptions
from data_pipeline.parse import parse_batch, parse_stored
from data_pipeline.request import BATCH
from data_pipeline.stream import portable
from data_pipeline.tiers import device
from tfrecords.manifest import Manifest

# In the order of the chain: records are shuffled undecoded, then parsed and decoded a batch at a time.
STAGES: Final = ("read", "shuffle", "parse", "decode", "batch", "copy to device")
LIMIT: Final = "memory-copy limit"
_FOREVER = np.iinfo(np.int64).max
_LIMIT_BYTES: Final = 1 << 30  # of the array that rows are taken from, at most


@dataclass(frozen=True)
class Row:
    """One pipeline's cost, in medians of its repeats.

    Attributes:
        tier: "stream", another tier's name, or "" for the limit.
        stage: the last thing it does; the others of `STAGES` before it are done too.
        images_per_second: by wall time.
        cpu_us_per_image: of all threads.
        own_cpu_us_per_image: more than the stage before; below 0 by noise, or for the stream's "batch":
            training reads a stream in place, for less than the chain of the stages before.
        memory_bytes: by which the process grew, from making the pipeline to its end.
        start_seconds: until the first batch is there.
        repeats: each repeat's images/s.
    """

    tier: str
    stage: str
    images_per_second: float
    cpu_us_per_image: float
    own_cpu_us_per_image: float
    memory_bytes: int
    start_seconds: float
    repeats: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self) | {"repeats": list(self.repeats)}


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long.

    Attributes:
        directory: of the data set.
        manifest: of it.
        split: whose records.
        options: of the pipeline; `cache` is not "auto".
        device: that batches are copied to, as "/gpu:0".
        seconds: of each repeat.
        repeats: of each pipeline, after one that warms up.
    """

    directory: Path
    manifest: Manifest
    split: str
    options: PipelineOptions
    device: str
    seconds: float
    repeats: int


def measure_stages(plan: Plan) -> Iterator[Row]:
    """Yields the rows of the stream, of the tier that the options choose, and of the limit.

    Raises:
        InputError: a shard is missing, cut or damaged; names it and the record.
    """
    tier = _tier(plan)
    with named_damage(plan.directory, plan.manifest, plan.split):
        yield from _measure_chain(plan, "stream", STAGES)
        if tier != "stream":
            yield from _measure_chain(plan, tier, STAGES[-2:])
    yield _measure_limit(plan)


def row_count(plan: Plan) -> int:
    """Returns how many rows `measure_stages` yields."""
    return len(STAGES) + (_tier(plan) != "stream") * 2 + 1


def _tier(plan: Plan) -> str:
    return "stream" if plan.options.cache == "off" else plan.options.cache


def _measure_chain(plan: Plan, tier: str, stages: Sequence[str]) -> Iterator[Row]:
    before = 0.0
    for stage in stages:
        row = _measure(plan, tier, stage)
        yield replace(row, own_cpu_us_per_image=row.cpu_us_per_image - before)
        before = row.cpu_us_per_image


def _measure(plan: Plan, tier: str, stage: str) -> Row:
    images = plan.options.global_batch_size
    gc.collect()  # what the pipeline before held
    with PeakMemory() as memory:
        drawers: list[BatchReader] = []

        def start() -> int:
            dataset = _dataset(plan, tier, stage)
            if stage != "copy to device":
                drawers.append(BatchReader(dataset, images))
            elif tier == "device":  # it has the images already
                (table,) = device.load(plan.directory, plan.manifest, plan.split, [plan.device])
                drawers.append(
                    BatchReader(dataset, images, plan.device, lambda batch: device.look_up(batch, table))
                )
            else:
                drawers.append(BatchReader(dataset, images, plan.device))
            drawers[0].draw(1)
            return images

        started = timed(start)
        costs = _repeated(drawers[0].draw_for, plan)
        drawers.clear()
    return _row(tier, stage, costs, memory.grown, started.seconds)


def _measure_limit(plan: Plan) -> Row:
    shape, batch = plan.manifest.image_shape, plan.options.global_batch_size
    size = int(np.prod(shape))
    records = max(1, min(plan.manifest.split(plan.split).records, _LIMIT_BYTES // size))
    with PeakMemory() as memory:
        costs = _repeated(copy_limit(size, records, batch), plan)
    return _row("", LIMIT, costs, memory.grown, 0.0)


def _repeated(measure: Callable[[float], Cost], plan: Plan) -> list[Cost]:
    measure(plan.seconds)  # warms up
    return [measure(plan.seconds) for _ in range(plan.repeats)]


def _row(tier: str, stage: str, costs: Sequence[Cost], grown: int, start_seconds: float) -> Row:
    rate, cpu = median_cost(costs)
    repeats = tuple(cost.images_per_second for cost in costs)
    return Row(tier, stage, rate, cpu, cpu, grown, start_seconds, repeats)


def _dataset(plan: Plan, tier: str, stage: str) -> tf.data.Dataset:
    """Returns endless batches, made up to the stage."""
    options = replace(plan.options, cache="off" if tier == "stream" else tier)
    where = (plan.directory, plan.manifest, plan.split)
    if stage in STAGES[-2:]:
        return make_dataset(*where, options, training=True)

    def epoch_batches(epoch: Any) -> tf.data.Dataset:
        window = 1 if stage == "read" else options.shuffle_window  # 1: each record at once
        records = portable.epoch_records(
            *where,
            window=window,
            seed=options.seed,
            epoch=epoch,
            parallel_reads=options.parallel_reads,
        )
        # Also records alone are drawn a batch at a time, so that drawing costs the same for each stage.
        return (
            records.repeat().take(_whole_batches(plan)).batch(options.global_batch_size, drop_remainder=True)
        )

    batches = tf.data.Dataset.range(_FOREVER).flat_map(epoch_batches)
    fields = tuple(name for name in BATCH if name != "weight")
    if stage == "parse":
        batches = batches.map(
            lambda serialized: parse_stored(serialized, fields), num_parallel_calls=tf.data.AUTOTUNE
        )
    elif stage == "decode":
        batches = batches.map(
            lambda serialized: parse_batch(serialized, plan.manifest, fields),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return batches.prefetch(options.prefetch)


def _whole_batches(plan: Plan) -> int:
    """Returns an epoch's records, the last batch filled up."""
    batch = plan.options.global_batch_size
    return -(-plan.manifest.split(plan.split).records // batch) * batch


def spread(row: Row) -> float:
    """Returns how far apart the repeats are: (highest - lowest) / median."""
    return (max(row.repeats) - min(row.repeats)) / statistics.median(row.repeats)
