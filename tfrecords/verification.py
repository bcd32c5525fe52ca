"""Every byte of a converted data set accounted for: the manifest, sources.csv, each shard, each record."""

import csv
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.example import Record, decode
from tfrecords.manifest import SOURCES_NAME, Manifest, Shard, file_sha256, is_shard
from tfrecords.records import read_records
from tfrecords.sheet import pixels

_NAMED = 5  # problems of one shard that are named; the rest are counted


@dataclass(frozen=True)
class SourceRow:
    """A row of sources.csv."""

    id: str
    label: int
    split: str
    group: str


@dataclass(frozen=True)
class Checked:
    """What the check of one shard found: problems, and source and copy of each record, int64 [N]."""

    problems: tuple[str, ...]
    sources: npt.NDArray[np.int64]
    copies: npt.NDArray[np.int64]


def verify(
    directory: Path,
    *,
    quick: bool = False,
    workers: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> list[str]:
    """Checks a data set and returns all that is wrong, each with its file and record; [] if nothing.

    Always: the manifest's own hash, sources.csv, no shard missing or extra, each shard's size and
    SHA-256. Unless `quick`: each record's CRCs and fields, its label, id, group and split against
    sources.csv, the image's shape and that it decodes, every original and copy exactly once, copies in
    train only, no group in two splits.

    Args:
        directory: of the data set.
        quick: stop after sizes and hashes.
        workers: processes; 0 takes one for each core that this process may use.
        progress: called with the bytes checked since its last call.

    Raises:
        InputError: no manifest, or one that cannot be read: there is nothing to check against.
    """
    manifest = Manifest.load(directory, check_shards=False)
    shards = [(split, shard) for split, described in manifest.splits.items() for shard in described.shards]
    known = {shard.name for _, shard in shards}
    problems = [
        f"{directory / name}: a shard that the manifest does not know; remove it"
        for name in sorted(path.name for path in directory.iterdir())
        if is_shard(name) and name not in known
    ]
    rows, damage = _source_rows(directory, manifest)
    problems += damage
    check = partial(_check_shard, directory, manifest, rows, quick)
    found: list[Checked] = []
    count = workers or len(os.sched_getaffinity(0))
    for (_, shard), checked in zip(shards, _each(check, shards, count), strict=True):
        problems += checked.problems
        found.append(checked)
        progress(shard.bytes)
    if not quick and not problems:
        problems += _check_whole(directory, manifest, rows, found)
    return problems


def _each(
    check: Callable[[tuple[str, Shard]], Checked], shards: Sequence[tuple[str, Shard]], workers: int
) -> Iterator[Checked]:
    if workers == 1 or len(shards) == 1:
        yield from map(check, shards)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(shards)), context) as pool:
        yield from pool.map(check, shards)


def _source_rows(directory: Path, manifest: Manifest) -> tuple[list[SourceRow], list[str]]:
    path = directory / SOURCES_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        return [], [f"{path}: cannot be read: {error.strerror}; convert again with --overwrite"]
    if hashlib.sha256(data).hexdigest() != manifest.sources_sha256:
        return [], [f"{path}: its SHA-256 is not the manifest's; convert again with --overwrite"]
    labels = {name: label for label, name in enumerate(manifest.class_names)}
    table = csv.DictReader(data.decode().splitlines())
    return [SourceRow(row["id"], labels[row["class"]], row["split"], row["group"]) for row in table], []


def _check_shard(
    directory: Path, manifest: Manifest, rows: list[SourceRow], quick: bool, item: tuple[str, Shard]
) -> Checked:
    split, shard = item
    path = directory / shard.name
    nothing = np.empty(0, np.int64)
    try:
        size = path.stat().st_size
        damaged = size == shard.bytes and file_sha256(path) != shard.sha256
    except OSError as error:
        return Checked((f"{path}: {error.strerror}; restore it or convert again",), nothing, nothing)
    problems = []
    if size != shard.bytes:
        problems.append(f"{path}: has {size} bytes, the manifest says {shard.bytes}")
    if damaged:
        problems.append(f"{path}: its SHA-256 is not the manifest's")
    if quick:
        return Checked(tuple(problems), nothing, nothing)
    sources, copies = [], []
    records = 0
    try:
        for data in read_records(path):
            try:
                record = decode(data)
                wrong = _wrong_in(record, split, manifest, rows)
            except InputError as error:
                wrong = str(error)
            else:
                sources.append(record.source)
                copies.append(record.copy)
            if wrong:
                problems.append(f"{path}: record {records}: {wrong}")
            records += 1
    except InputError as error:  # names file, record and byte; what follows cannot be found
        problems.append(str(error))
    else:
        if records != shard.records:
            problems.append(f"{path}: has {records} records, the manifest says {shard.records}")
    if len(problems) > _NAMED:
        problems[_NAMED:] = [f"{path}: {len(problems) - _NAMED} more problems"]
    return Checked(tuple(problems), np.array(sources, np.int64), np.array(copies, np.int64))


def _wrong_in(record: Record, split: str, manifest: Manifest, rows: list[SourceRow]) -> str:
    """Returns what is wrong with a record, or ""."""
    if not 0 <= record.label < len(manifest.class_names):
        return f"label {record.label}, but there are {len(manifest.class_names)} classes"
    if record.copy > (manifest.copies if split == "train" else 0):
        return f"copy {record.copy}, but {split} has {manifest.copies if split == 'train' else 0}"
    if rows:
        if record.source >= len(rows):
            return f"source {record.source}, but sources.csv has {len(rows)}"
        row = rows[record.source]
        mine = SourceRow(record.id.decode("ascii", "replace"), record.label, split, record.group.decode())
        if mine != row:
            return f"it says {mine}, sources.csv says {row}"
    try:
        pixels(record, manifest)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"its image is no {manifest.encoding} of shape {manifest.image_shape}: {error}"
    return ""


def _check_whole(
    directory: Path, manifest: Manifest, rows: list[SourceRow], found: Sequence[Checked]
) -> list[str]:
    """Checks what no single shard shows: each record exactly once, groups in one split."""
    counts: dict[tuple[int, int], int] = {}
    for checked in found:
        for key in zip(checked.sources.tolist(), checked.copies.tolist(), strict=True):
            counts[key] = counts.get(key, 0) + 1
    problems = []
    for source, row in enumerate(rows):
        for copy in range((manifest.copies if row.split == "train" else 0) + 1):
            there = counts.get((source, copy), 0)
            if there != 1:
                problems.append(f"{directory}: {row.id}, copy {copy}: {there} records, there must be one")
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.group, set()).add(row.split)
    problems += [
        f"{directory / SOURCES_NAME}: group {group} is in splits {', '.join(sorted(names))}"
        for group, names in splits.items()
        if len(names) > 1
    ]
    if len(problems) > _NAMED:
        problems[_NAMED:] = [f"{directory}: {len(problems) - _NAMED} more problems"]
    return problems
