"""Measures what each stage of the input costs: each pipeline does one thing more than the one before it."""

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
from data_pipeline.tiers.device_tables import look_up
from data_pipeline.tiers.registry import STREAM_TIER, tier_named
from tfrecords.manifest import Manifest

# In the order of the chain: it shuffles undecoded records, then parses and decodes them a batch at a time.
STAGES: Final = ("read", "shuffle", "parse", "decode", "batch", "copy to device")
LIMIT: Final = "memory-copy limit"
_FOREVER = np.iinfo(np.int64).max
_HELD_STAGES: Final = STAGES[-2:]  # all that is left to do for a split that is held
_LIMIT_BYTES: Final = 1 << 30  # at most, of the array from which rows are taken


@dataclass(frozen=True)
class StageCost:
    """Cost of a pipeline that ends with one stage; medians of its repeats.

    Attributes:
        tier: name of the tier; "" for the memory-copy limit.
        stage: the last stage; the pipeline also has all of `STAGES` before it.
        images_per_second: by wall time.
        cpu_us_per_image: CPU microseconds of all threads.
        own_cpu_us_per_image: CPU microseconds more than the stage before. Below 0 by noise, or for the
            stream's "batch": training reads a stream in place, which costs less than the stages before.
        memory_bytes: bytes by which the process grew while the pipeline was there.
        start_seconds: seconds until the first batch was ready.
        repeats: images/s of each repeat.
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
class StagePlan:
    """What is measured, and for how long.

    Attributes:
        directory: folder of the data set.
        manifest: of the data set.
        split: name of the split.
        options: of the pipeline; `cache` is not "auto".
        device: device to which batches are copied, as "/gpu:0".
        seconds: seconds of each repeat.
        repeats: repeats of each pipeline; one more warms up.
    """

    directory: Path
    manifest: Manifest
    split: str
    options: PipelineOptions
    device: str
    seconds: float
    repeats: int


def measure_stages(plan: StagePlan) -> Iterator[StageCost]:
    """Yields the stages of the stream, those of the tier in the options, and the memory-copy limit.

    Raises:
        InputError: a shard is missing, cut or damaged; names it and the record.
    """
    with named_damage(plan.directory, plan.manifest, plan.split):
        for tier, stages in _chains(plan).items():
            yield from _measure_chain(plan, tier, stages)
    yield _measure_limit(plan)


def stage_count(plan: StagePlan) -> int:
    """Returns the number of costs that `measure_stages` yields."""
    return sum(map(len, _chains(plan).values())) + 1


def _chains(plan: StagePlan) -> dict[str, Sequence[str]]:
    """Returns the stages to measure, by tier."""
    held = {} if plan.options.cache == STREAM_TIER.name else {plan.options.cache: _HELD_STAGES}
    return {STREAM_TIER.name: STAGES, **held}


def _measure_chain(plan: StagePlan, tier: str, stages: Sequence[str]) -> Iterator[StageCost]:
    before = 0.0
    for stage in stages:
        row = _measure(plan, tier, stage)
        yield replace(row, own_cpu_us_per_image=row.cpu_us_per_image - before)
        before = row.cpu_us_per_image


def _measure(plan: StagePlan, tier: str, stage: str) -> StageCost:
    images = plan.options.global_batch_size
    gc.collect()  # frees what the pipeline before held
    with PeakMemory() as memory:
        readers: list[BatchReader] = []

        def start() -> int:
            readers.append(_reader(plan, tier, stage))
            readers[0].draw(1)
            return images

        started = timed(start)
        costs = _repeated(readers[0].draw_for, plan)
        readers.clear()
    return _row(tier, stage, costs, memory.grown, started.seconds)


def _reader(plan: StagePlan, tier: str, stage: str) -> BatchReader:
    dataset, images = _dataset(plan, tier, stage), plan.options.global_batch_size
    if stage != "copy to device":
        return BatchReader(dataset, images)
    tables = tier_named(tier).tables(plan.directory, plan.manifest, plan.split, [plan.device])
    if tables is None:
        return BatchReader(dataset, images, plan.device)
    (table,) = tables  # the device has the images already
    return BatchReader(dataset, images, plan.device, lambda batch: look_up(batch, table))


def _measure_limit(plan: StagePlan) -> StageCost:
    shape, batch = plan.manifest.image_shape, plan.options.global_batch_size
    size = int(np.prod(shape))
    records = max(1, min(plan.manifest.split(plan.split).records, _LIMIT_BYTES // size))
    with PeakMemory() as memory:
        costs = _repeated(copy_limit(size, records, batch), plan)
    return _row("", LIMIT, costs, memory.grown, 0.0)


def _repeated(measure: Callable[[float], Cost], plan: StagePlan) -> list[Cost]:
    measure(plan.seconds)  # warms up
    return [measure(plan.seconds) for _ in range(plan.repeats)]


def _row(tier: str, stage: str, costs: Sequence[Cost], grown: int, start_seconds: float) -> StageCost:
    rate, cpu = median_cost(costs)
    repeats = tuple(cost.images_per_second for cost in costs)
    return StageCost(tier, stage, rate, cpu, cpu, grown, start_seconds, repeats)


def _dataset(plan: StagePlan, tier: str, stage: str) -> tf.data.Dataset:
    """Returns endless batches of a pipeline that ends with the stage."""
    options = replace(plan.options, cache=tier)
    where = (plan.directory, plan.manifest, plan.split)
    if stage in _HELD_STAGES:
        return make_dataset(*where, options, training=True)

    def epoch_batches(epoch: Any) -> tf.data.Dataset:
        window = 1 if stage == "read" else options.shuffle_window  # 1: shuffles nothing
        records = portable.epoch_records(
            *where,
            window=window,
            seed=options.seed,
            epoch=epoch,
            parallel_reads=options.parallel_reads,
        )
        # Undecoded records come in batches too, so that drawing costs the same for each stage.
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


def _whole_batches(plan: StagePlan) -> int:
    """Returns the records of an epoch whose last batch is filled up."""
    batch = plan.options.global_batch_size
    return -(-plan.manifest.split(plan.split).records // batch) * batch


def spread(row: StageCost) -> float:
    """Returns the spread of the repeats: (highest - lowest) / median."""
    return (max(row.repeats) - min(row.repeats)) / statistics.median(row.repeats)
