"""One shard against the manifest and sources.csv: its size, its SHA-256, then record by record."""

import csv
import hashlib
import mmap
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

NAMED: Final = 5  # problems of one shard that are named; the rest are counted
COLUMNS: Final = ("source", "id", "class", "split", "group")  # of sources.csv; others are passed over
_PIECE: Final = 1 << 22  # bytes read, or records' bytes counted, at a time

Count = Callable[[int], object]


@dataclass(frozen=True)
class SourceRow:
    """A row of sources.csv."""

    id: str
    class_name: str
    split: str
    group: str

    def __str__(self) -> str:
        return f"{self.id} ({self.class_name}, {self.split}, group {self.group})"


@dataclass(frozen=True)
class Inspected:
    """What the inspection of one shard found.

    Attributes:
        problems: each with the file and, where there is one, the record.
        records: int64 [N, 3], (number in the shard, source, copy) of each record whose source and
            copy can be.
        readable: whether all records could be told apart, so that one not found is missing.
    """

    problems: tuple[str, ...]
    records: npt.NDArray[np.int64]
    readable: bool


class SourceTable:
    """The rows of sources.csv, mapped and not read: a row is parsed when it is asked for.

    All processes share the system's copy of the file; each holds 8 bytes a row besides.

    Raises:
        InputError: the file is empty, lacks a column or ends within a row.
    """

    def __init__(self, path: Path) -> None:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty, it must start with {','.join(COLUMNS)}")
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        ends = [
            start + np.flatnonzero(np.frombuffer(self._data[start : start + _PIECE], np.uint8) == ord("\n"))
            for start in range(0, len(self._data), _PIECE)
        ]
        self._ends = np.concatenate(ends).astype(np.int64)  # ids and classes have no newline
        if not len(self._ends) or self._ends[-1] != len(self._data) - 1:
            raise InputError(f"{path}: ends within a row")
        header = self._cells(-1)
        if missing := [name for name in COLUMNS if name not in header]:
            raise InputError(f"{path}: has no column {missing[0]}; there must be {','.join(COLUMNS)}")
        self._width = len(header)
        self._at = [header.index(name) for name in COLUMNS]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def row(self, source: int) -> SourceRow:
        """Returns a row by its number.

        Raises:
            InputError: it has other cells than the header, or another number.
        """
        cells = self._cells(source)
        if len(cells) != self._width:
            raise InputError(f"row {source} has {len(cells)} cells, the header has {self._width}")
        number, *values = (cells[at] for at in self._at)
        if number != str(source):
            raise InputError(f"row {source} has the number {number!r}")
        return SourceRow(*values)

    def _cells(self, source: int) -> list[str]:
        start = int(self._ends[source]) + 1 if source >= 0 else 0
        line = self._data[start : int(self._ends[source + 1])]
        return next(csv.reader([line.decode(errors="backslashreplace")]), [])


class Inspector:
    """Inspects the shards of a data set, one after the other.

    Args:
        directory: of the data set.
        manifest: of the data set.
        quick: stop after size and SHA-256.
        sources: whether sources.csv can be used; without it, records are checked by themselves.
    """

    def __init__(self, directory: Path, manifest: Manifest, *, quick: bool, sources: bool) -> None:
        self._directory, self._manifest, self._quick = directory, manifest, quick
        self._table = SourceTable(directory / SOURCES_NAME) if sources and not quick else None

    def __call__(self, item: tuple[str, Shard], count: Count) -> Inspected:
        """Inspects one shard; `count` is called with bytes, in all those that the manifest announces."""
        split, shard = item
        counted = 0

        def within(size: int) -> None:  # a shard may be longer than announced, or be cut
            nonlocal counted
            size = min(size, shard.bytes - counted)
            counted += size
            count(size)

        found = self._inspect(split, shard, within)
        count(shard.bytes - counted)
        return found

    def _inspect(self, split: str, shard: Shard, count: Count) -> Inspected:
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
                    if wrong := self._wrong_in(data, split, number - 1, records):
                        problems.append(f"{path}: record {number - 1}: {wrong}")
                if number != shard.records:
                    problems.append(f"{path}: has {number} records, the manifest says {shard.records}")
        except OSError as error:
            problems.append(f"{path}: {error.strerror}; restore it or convert again")
            readable = False
        except InputError as error:  # names file, record and byte; what follows cannot be found
            problems.append(str(error))
            readable = False
        return Inspected(
            tuple(shortened(problems, str(path))), np.array(records, np.int64).reshape(-1, 3), readable
        )

    def _wrong_in(
        self, data: bytes, split: str, number: int, records: list[tuple[int, int, int]]
    ) -> str | None:
        """Returns what is wrong with a record, or None; notes it in `records` if it can be counted."""
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
            mine = SourceRow(_text(record.id), name, split, _text(record.group))
            if (row := table.row(record.source)) != mine:
                return f"it says {mine}, {SOURCES_NAME} says {row} of source {record.source}"
        return _wrong_image(record, manifest)


def shortened(problems: Sequence[str], where: str) -> list[str]:
    """Returns the first problems, and how many more there are."""
    return counted(problems, len(problems), where)


def counted(problems: Sequence[str], total: int, where: str) -> list[str]:
    """Returns the first of `total` problems, and how many more there are."""
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


def _wrong_image(record: Record, manifest: Manifest) -> str | None:
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
    except Exception as error:  # whatever a decoder says of damaged bytes is what was looked for
        reason = f"{type(error).__name__}: {error}".partition(" <")[0]
        return f"its image cannot be decoded, allowed is {allowed}: {reason}"
    return None
