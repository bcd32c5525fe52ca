"""The numbers of a split's originals, read from the shards by several processes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from tfrecords.audit.numbers import Floats, measure
from tfrecords.audit.shortcut import Ints
from tfrecords.example import decode
from tfrecords.manifest import Manifest, Shard
from tfrecords.pool import Count, Pool, nothing
from tfrecords.records import read_records
from tfrecords.stored_image import pixels


@dataclass(frozen=True, eq=False)
class Measured:
    """The originals of a split, in the order of its shards.

    Attributes:
        ids: N record ids.
        groups: N group names.
        labels: int64 [N].
        values: float64 [N, F], see `numbers.measure`.
        sources: int64 [N], rows of sources.csv.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Ints
    values: Floats
    sources: Ints


def originals_of_classes(manifest: Manifest, split: str) -> tuple[int, ...]:
    """Returns how many originals of each class a split has, in the order of the classes."""
    records = manifest.split(split).records_per_class
    return tuple(n // (1 + manifest.copies_of(split, k)) for k, n in enumerate(records))


def measure_split(
    directory: Path,
    manifest: Manifest,
    split: str,
    pool: Pool,
    *,
    most: int = 0,
    most_of_a_class: int = 0,
    progress: Count = nothing,
) -> Measured:
    """Measures each original of a split; copies are passed over.

    Args:
        directory: of the data set.
        manifest: of the data set.
        split: name of the split.
        pool: who measures.
        most: about so many originals at most, chosen by their ids; 0: all.
        most_of_a_class: about so many of each class at most, chosen likewise; 0: all.
        progress: called with the number of records read since its last call.

    Raises:
        InputError: no such split, or a shard is damaged.
    """
    shards = manifest.split(split).shards
    images = manifest.split(split).images
    share = min(1.0, most / images) if most else 1.0
    shares = tuple(
        min(share, most_of_a_class / max(1, count)) if most_of_a_class else share
        for count in originals_of_classes(manifest, split)
    )
    parts = [
        part
        for part in pool.run(partial(_measurer, directory, manifest, shares), shards, progress=progress)
        if part[0]
    ]
    return Measured(
        tuple(name for part in parts for name in part[0]),
        tuple(name for part in parts for name in part[1]),
        np.concatenate([np.array(part[2], np.int64) for part in parts]),
        np.concatenate([part[3] for part in parts]),
        np.concatenate([np.array(part[4], np.int64) for part in parts]),
    )


def _measurer(
    directory: Path, manifest: Manifest, shares: tuple[float, ...]
) -> Callable[[Shard, Count], Any]:
    def task(shard: Shard, count: Count) -> Any:
        ids, groups, labels, values, sources = [], [], [], [], []
        for data in read_records(directory / shard.name):
            record = decode(data)
            count(1)
            if record.copy or crc32(record.id) >= shares[record.label] * 2**32:
                continue
            ids.append(record.id.decode())
            groups.append(record.group.decode())
            labels.append(record.label)
            values.append(measure(pixels(record, manifest)))
            sources.append(record.source)
        return ids, groups, labels, np.array(values, np.float64), sources

    return task
