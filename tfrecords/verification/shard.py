"""Checks one shard against the manifest and sources.csv: its size, its SHA-256, then each record."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.example import Record, decode
from tfrecords.manifest import SOURCES_NAME, Manifest, Shard
from tfrecords.records import read_records
from tfrecords.verification.sources_csv import SourceRow, SourceTable

NAMED: Final = 5  # problems of one shard that are named; the others are counted
_PIECE: Final = 1 << 22  # bytes hashed at a time

Count = Callable[[int], object]


@dataclass(frozen=True)
class ShardReport:
    """The outcome of checking one shard.

    Attributes:
        problems: each names the file and, if it concerns one record, the record.
        records: int64 [N, 3], (number in the shard, source, copy) of each record whose source and copy are
            possible.
        readable: whether the shard could be read to its end; if not, records that were not found may exist.
    """

    problems: tuple[str, ...]
    records: npt.NDArray[np.int64]
    readable: bool


class ShardChecker:
    """Checks shards of a data set, one at a time.

    Args:
        directory: of the data set.
        manifest: of the data set.
        quick: stop after size and SHA-256.
        sources: whether sources.csv is sound; if not, records are not compared with it.
    """

    def __init__(self, directory: Path, manifest: Manifest, *, quick: bool, sources: bool) -> None:
        self._directory, self._manifest, self._quick = directory, manifest, quick
        self._table = SourceTable(directory / SOURCES_NAME) if sources and not quick else None

    def __call__(self, item: tuple[str, Shard], count: Count) -> ShardReport:
        """Checks one shard; calls `count` with bytes done, in total the shard's bytes by the manifest."""
        split, shard = item
        counted = 0

        def within(size: int) -> None:  # a damaged shard may be longer or shorter than the manifest says
            nonlocal counted
            size = min(size, shard.bytes - counted)
            counted += size
            count(size)

        report = self._check(split, shard, within)
        count(shard.bytes - counted)
        return report

    def _check(self, split: str, shard: Shard, count: Count) -> ShardReport:
        path = self._directory / shard.name
        problems: list[str] = []
        records: list[tuple[int, int, int]] = []
        readable = True
        try:
            size = path.stat().st_size
            if size != shard.bytes:
                problems.append(f"{path}: has {size} bytes, the manifest says {shard.bytes}")
            elif _sha256(path, count if self._quick else lambda _: None) != shard.sha256:
                problems.append(f"{path}: its SHA-256 is not the manifest's")
            if not self._quick:
                number = 0
                for number, data in enumerate(read_records(path), 1):
                    count(len(data))
                    if problem := self._problem_of(data, split, number - 1, records):
                        problems.append(f"{path}: record {number - 1}: {problem}")
                if number != shard.records:
                    problems.append(f"{path}: has {number} records, the manifest says {shard.records}")
        except OSError as error:
            problems.append(f"{path}: {error.strerror}; restore it or convert again")
            readable = False
        except InputError as error:  # it names file, record and byte; later records cannot be found
            problems.append(str(error))
            readable = False
        return ShardReport(
            tuple(shortened(problems, str(path))), np.array(records, np.int64).reshape(-1, 3), readable
        )

    def _problem_of(
        self, data: bytes, split: str, number: int, records: list[tuple[int, int, int]]
    ) -> str | None:
        """Returns what is wrong with a record, or None; adds it to `records` if it can be counted."""
        manifest, table = self._manifest, self._table
        try:
            record = decode(data)
        except InputError as error:
            return str(error)
        if table is not None and record.source >= len(table):
            return f"source {record.source}, but {SOURCES_NAME} has {len(table)}"
        if table is not None and record.copy <= manifest.copies:
            records.append((number, record.source, record.copy))
        if record.label >= len(manifest.class_names):
            return f"label {record.label}, but there are {len(manifest.class_names)} classes"
        if record.copy > (copies := manifest.copies_of(split, record.label)):
            name = manifest.class_names[record.label]
            return f"copy {record.copy}, but {split} has {copies} of each image of {name}"
        if table is not None:
            name = manifest.class_names[record.label]
            own = SourceRow(_text(record.id), name, split, _text(record.group))
            if (row := table.row(record.source)) != own:
                return f"it says {own}, {SOURCES_NAME} says {row} for source {record.source}"
        return _image_problem(record, manifest)


def shortened(problems: Sequence[str], where: str) -> list[str]:
    """Returns the first problems and, as the last line, how many more there are."""
    return counted(problems, len(problems), where)


def counted(problems: Sequence[str], total: int, where: str) -> list[str]:
    """Returns the first of `total` problems and, as the last line, how many more there are."""
    if total <= NAMED:
        return list(problems)
    return [*problems[:NAMED], f"{where}: {total - NAMED} more problems"]


def _sha256(path: Path, count: Count) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            count(len(piece))
    return digest.hexdigest()


def _text(value: bytes) -> str:
    return value.decode("ascii", "backslashreplace")


def _image_problem(record: Record, manifest: Manifest) -> str | None:
    height, width, channels = manifest.image_shape
    allowed = f"{manifest.encoding} of {height}x{width}x{channels}"
    if manifest.encoding == "raw":
        size = height * width * channels
        if len(record.image) != size:
            return f"its image has {len(record.image)} bytes, {allowed} has {size}"
        return None
    mode = {1: "L", 3: "RGB"}[channels]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(BytesIO(record.image), formats=[manifest.encoding.upper()]) as image:
                if (image.size, image.mode) != ((width, height), mode):
                    found = f"{image.height}x{image.width} pixels of mode {image.mode}"
                    return f"its image has {found}, allowed is {allowed} (mode {mode})"
                image.verify()  # a PNG's CRCs
            with Image.open(BytesIO(record.image)) as image:
                image.load()
    except Exception as error:  # any error of a decoder means damaged bytes
        reason = f"{type(error).__name__}: {error}".partition(" <")[0]
        return f"its image cannot be decoded, allowed is {allowed}: {reason}"
    return None
