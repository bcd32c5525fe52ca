"""sources.csv, one row for each source: read row by row, so that a million rows need little memory."""

import csv
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tfrecords.errors import InputError

COLUMNS: Final = ("source", "id", "class", "split", "group")  # other columns are ignored
_PIECE: Final = 1 << 22  # bytes searched for line ends at a time


@dataclass(frozen=True)
class SourceRow:
    """One row of sources.csv, without its number."""

    id: str
    class_name: str
    split: str
    group: str

    def __str__(self) -> str:
        return f"{self.id} ({self.class_name}, {self.split}, group {self.group})"


class SourceTable:
    """The rows of sources.csv; a row is parsed when it is asked for.

    The file is mapped, so all processes share one copy of it. Each process adds 8 bytes a row.

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
