"""Checks a whole data set: the manifest, sources.csv, every shard and every record."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfrecords.duplicates.table import DROPPED, DUPLICATES_NAME
from tfrecords.errors import InputError
from tfrecords.files.atomic import file_sha256
from tfrecords.interop.companions import check_companions
from tfrecords.manifest import MANIFEST_NAME, SOURCES_NAME, Manifest, Shard, is_shard
from tfrecords.pool import Pool
from tfrecords.records import read_spans
from tfrecords.sources.rejection import REJECTED
from tfrecords.verification.shard import NAMED, ShardChecker, ShardReport, counted, shortened
from tfrecords.verification.sources_csv import SourceTable

_SHOWN = 20  # problems listed in an error


def verify(
    directory: str | os.PathLike[str],
    *,
    quick: bool = False,
    workers: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> list[str]:
    """Checks a data set and returns all problems, each with its file and record; [] if there are none.

    These checks are always made: the manifest's own SHA-256, sources.csv, duplicates.csv, no shard missing or
    extra, the size and SHA-256 of each shard, the files for other tools. Unless `quick`, these too: the CRCs
    and fields of each record; its label, id, group and split against sources.csv; the image's shape, and that
    it can be decoded; every original and copy exactly once; copies in train only; no group in two splits; all
    counts of the manifest.

    A file is extra if a reader could take it for a shard: it has a shard's name, or starts with a TFRecord.
    Other files are ignored, for example hidden ones, a contact sheet, or the lock and the plan of a
    conversion that was killed after it wrote the manifest.

    Args:
        directory: of the data set.
        quick: stop after sizes and SHA-256.
        workers: processes; 0 takes one for each core that this process may use.
        progress: called with the bytes checked since its last call; their sum is that of the shards' bytes.

    Raises:
        InputError: there is no manifest, or it cannot be read.
    """
    directory = Path(directory)
    manifest = Manifest.load(directory, check_shards=False)
    shards = [(split, shard) for split, described in manifest.splits.items() for shard in described.shards]
    known = {shard.name for _, shard in shards}
    problems = [
        f"{path}: holds records, but the manifest does not list it; remove it"
        for path in _extra(directory, known)
    ]
    table, damage = _sources(directory, manifest)
    problems += damage
    problems += check_companions(directory, manifest)
    problems += _duplicates(directory, manifest)
    with Pool(workers or len(os.sched_getaffinity(0))) as pool:
        checker = partial(ShardChecker, directory, manifest, quick=quick, sources=table is not None)
        reports = pool.run(checker, shards, progress=progress)
    problems += [problem for report in reports for problem in report.problems]
    if not quick and table is not None:
        problems += _check_whole(directory, manifest, table, shards, reports)
    return problems


def require_sound(
    directory: str | os.PathLike[str],
    *,
    quick: bool,
    workers: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Raises InputError with the problems that `verify` finds, if there are any; has the same arguments."""
    problems = verify(directory, quick=quick, workers=workers, progress=progress)
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    raise InputError(
        f"{directory}: {len(problems)} problem{'s'[: len(problems) != 1]}:\n{shown}{more}\n"
        f"Restore these files, or convert again with --overwrite."
    )


def _extra(directory: Path, known: set[str]) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name in known or path.name.startswith(".") or not path.is_file():
            continue
        if is_shard(path.name):
            yield path
            continue
        with suppress(InputError, OSError):  # no record at its start
            if next(read_spans(path), None):
                yield path


def _sources(directory: Path, manifest: Manifest) -> tuple[SourceTable | None, list[str]]:
    path = directory / SOURCES_NAME
    try:
        if file_sha256(path) != manifest.sources_sha256:
            return None, [f"{path}: its SHA-256 is not the manifest's; convert again with --overwrite"]
        return SourceTable(path), []
    except OSError as error:
        return None, [f"{path}: cannot be read: {error.strerror}; convert again with --overwrite"]
    except InputError as error:
        return None, [str(error)]


def _duplicates(directory: Path, manifest: Manifest) -> list[str]:
    path = directory / DUPLICATES_NAME
    try:
        found = file_sha256(path) if path.exists() else ""
    except OSError as error:
        return [f"{path}: cannot be read: {error.strerror}; convert again with --overwrite"]
    if found == manifest.split_quality.duplicates_sha256:
        return []
    return [f"{path}: its SHA-256 is not the manifest's; convert again with --overwrite"]


def _check_whole(
    directory: Path,
    manifest: Manifest,
    table: SourceTable,
    shards: Sequence[tuple[str, Shard]],
    reports: Sequence[ShardReport],
) -> list[str]:
    """Checks what no single shard shows. Missing records are listed only if every shard is readable."""
    path = directory / SOURCES_NAME
    columns, problems = _columns(path, manifest, table)
    if problems:
        return problems
    problems += _shared(path, table, columns)
    problems += _miscounted(directory, manifest, columns)
    numbers = [np.full(len(one.records), number) for number, one in enumerate(reports)]
    records = np.concatenate([one.records for one in reports])
    # One number for each (source, copy). The sort is stable, so the first of two equal ones comes first.
    keys = records[:, 1] * (manifest.copies + 1) + records[:, 2]
    order = np.argsort(keys, kind="stable")
    doubled = order[1:][keys[order[1:]] == keys[order[:-1]]]
    shard_of = np.concatenate(numbers)
    twice = [
        f"{directory / shards[shard_of[at]][1].name}: record {records[at, 0]}: "
        f"{table.row(records[at, 1]).id}, copy {records[at, 2]}, is a second time in the data set"
        for at in doubled[: NAMED + 1]
    ]
    problems += counted(twice, len(doubled), str(directory))
    if all(one.readable for one in reports):
        problems += _missing(directory, manifest, table, columns, np.delete(keys, doubled))
    return problems


@dataclass(frozen=True)
class _Columns:
    """sources.csv as arrays, [N] each.

    Attributes:
        splits: int8, index into the manifest's splits; -1: the source was left out.
        labels: int32.
        groups: uint64, hash of the group.
    """

    splits: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int32]
    groups: npt.NDArray[np.uint64]


def _columns(path: Path, manifest: Manifest, table: SourceTable) -> tuple[_Columns, list[str]]:
    """Returns the table as arrays, and what is wrong with its rows."""
    splits = {name: number for number, name in enumerate(manifest.splits)} | {REJECTED: -1, DROPPED: -1}
    labels = {name: number for number, name in enumerate(manifest.class_names)}
    count = len(table)
    columns = _Columns(np.empty(count, np.int8), np.empty(count, np.int32), np.empty(count, np.uint64))
    ids = np.empty(count, np.uint64)
    problems = []
    for source in range(count):
        try:
            row = table.row(source)
            columns.splits[source] = splits[row.split]
            columns.labels[source] = labels[row.class_name]
        except InputError as error:
            problems.append(f"{path}: {error}")
            continue
        except KeyError as error:
            problems.append(f"{path}: row {source} has {error}, which is not in the manifest")
            continue
        columns.groups[source] = _hash(row.group)
        ids[source] = _hash(row.id)
    if not problems:
        order = np.argsort(ids, kind="stable")
        again = order[1:][ids[order[1:]] == ids[order[:-1]]]
        problems += [
            f"{path}: row {source} has the id {table.row(source).id}, which another row has too"
            for source in again
        ]
    return columns, shortened(problems, str(path))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _shared(path: Path, table: SourceTable, columns: _Columns) -> list[str]:
    """Returns the groups that are in two splits."""
    there = np.flatnonzero(columns.splits >= 0)
    order = there[np.lexsort((columns.splits[there], columns.groups[there]))]
    before, after = order[:-1], order[1:]
    same = columns.groups[before] == columns.groups[after]
    pairs = np.flatnonzero(same & (columns.splits[before] != columns.splits[after]))
    problems = []
    for pair in pairs:
        one, other = table.row(before[pair]), table.row(after[pair])
        problems.append(
            f"{path}: group {one.group} is in two splits: {one.id} in {one.split}, {other.id} in "
            f"{other.split}"
        )
    return shortened(problems, str(path))


def _miscounted(directory: Path, manifest: Manifest, columns: _Columns) -> list[str]:
    """Returns the numbers of the manifest that do not agree with sources.csv."""
    problems = []
    for number, (name, split) in enumerate(manifest.splits.items()):
        own = columns.splits == number
        variants = [1 + manifest.copies_of(name, label) for label in range(len(manifest.class_names))]
        classes = np.bincount(columns.labels[own], minlength=len(variants)) * variants
        expected = {
            "records": int(classes.sum()),
            "images": int(own.sum()),
            "groups": len(np.unique(columns.groups[own])),
            "records_per_class": tuple(classes.tolist()),
        }
        for field, value in expected.items():
            if getattr(split, field) != value:
                problems.append(
                    f"{directory / MANIFEST_NAME}: split {name} has {field} {getattr(split, field)}, "
                    f"{SOURCES_NAME} gives {value}"
                )
        if sum(shard.records for shard in split.shards) != split.records:
            problems.append(
                f"{directory / MANIFEST_NAME}: split {name} has {split.records} records, its shards have "
                f"{sum(shard.records for shard in split.shards)}"
            )
    return problems


def _missing(
    directory: Path,
    manifest: Manifest,
    table: SourceTable,
    columns: _Columns,
    keys: npt.NDArray[np.int64],
) -> list[str]:
    """Returns the missing records; `keys` are those that are there, each once."""
    base = manifest.copies + 1
    wanted = np.zeros(len(table), np.int64)
    for number, name in enumerate(manifest.splits):
        for label in range(len(manifest.class_names)):
            of_these = (columns.splits == number) & (columns.labels == label)
            wanted[of_these] = 1 + manifest.copies_of(name, label)
    there = np.bincount(keys // base, minlength=len(table))
    problems = []
    for source in np.flatnonzero(there < wanted).tolist():
        row, own = table.row(source), set((keys[keys // base == source] % base).tolist())
        lacking = ", ".join(str(copy) for copy in range(wanted[source]) if copy not in own)
        problems.append(f"{directory}: {row.id}, copy {lacking}, is missing in {row.split}")
        if len(problems) > NAMED:
            break
    return counted(problems, int((there < wanted).sum()), str(directory))
