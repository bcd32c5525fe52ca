"""Reads the cells of a table as text: CSV with any usual separator and encoding, or Parquet."""

import codecs
import csv
import io
import math
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, Protocol

from tfrecords.errors import InputError
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind

SEPARATORS: Final = (",", ";", "\t", "|")
_BATCH: Final = 4096  # rows of a Parquet file in memory at a time
_HEAD: Final = 512  # bytes read to recognise a file
_LONGEST_HEADER: Final = 1 << 20  # characters
_LARGEST_EXACT: Final = 2**53  # a float64 holds every whole number up to here
_SEP_LINE: Final = re.compile(r'"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)

_ENCODINGS: Final = (  # (byte order mark, encoding), the longer marks first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_AS_CSV: Final = "save it as CSV (in the program that made it: Save as, CSV UTF-8)"
_OTHERS: Final = (  # (first bytes in lower case, name, fix)
    (b"\xd0\xcf\x11\xe0", "an Excel file (.xls)", _AS_CSV),
    (b"arrow1", "an Arrow or Feather file", "write it as CSV or Parquet"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    (b"bzh", "compressed by bzip2", "unpack it with bunzip2"),
    (b"\xfd7zxz", "compressed by xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it with unzstd"),
    (b"sqlite format 3", "an SQLite database", "write the table as CSV"),
    (b"\x89hdf", "an HDF5 file", "write the table as CSV or Parquet"),
    (b"\x93numpy", "a NumPy file", "write the table as CSV or Parquet"),
    (b"\x80\x04", "a Python pickle", "write it as CSV, in pandas with to_csv(FILE, index=False)"),
    (b"\x80\x05", "a Python pickle", "write it as CSV, in pandas with to_csv(FILE, index=False)"),
    (b"%pdf", "a PDF file", _AS_CSV),
    (b"{\\rtf", "an RTF file", _AS_CSV),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch it with: git lfs pull"),
    (b"<!doctype html", "an HTML page", "download the table itself; a login page may have come instead"),
    (b"<html", "an HTML page", "download the table itself; a login page may have come instead"),
    (b"<?xml", "an XML file", _AS_CSV),
    (b"{", "JSON", "write it as CSV, in pandas with read_json(FILE).to_csv(NEW, index=False)"),
    (b"[", "JSON", "write it as CSV, in pandas with read_json(FILE).to_csv(NEW, index=False)"),
)


class Rows(Protocol):
    """Yields the rows of a table; call it once."""

    def __call__(self, wanted: Collection[int], *, strict: bool = True) -> Iterator[Sequence[str]]:
        """Yields the rows below the header, each with as many cells as it has.

        Args:
            wanted: places of the columns to read; the cells of other columns may be "".
            strict: whether to refuse values that are neither text nor whole numbers, or to turn them into
                text.
        """


@dataclass(frozen=True)
class Table:
    """An open table.

    Attributes:
        header: the names of the columns.
        rows: yields the rows below the header.
    """

    header: tuple[str, ...]
    rows: Rows


@contextmanager
def open_table(file: Path, rate: Callable[[Sequence[str]], int]) -> Iterator[Table]:
    """Opens a table.

    Text is UTF-8 or UTF-16; other bytes are kept as `os.fsdecode` keeps them. Excel's first line `sep=;` sets
    the separator.

    Args:
        file: the file.
        rate: scores a header by its known columns; the separator with the best score is taken.

    Raises:
        InputError: the file cannot be read, or is of another kind; also while rows are read.
    """
    try:
        with file.open("rb") as opened:
            head = opened.peek(_HEAD)[:_HEAD]  # a pipe cannot be read twice
            if head.startswith(b"PAR1"):
                with _parquet(file) as table:
                    yield table
            else:
                _refuse_others(file, opened, head)
                yield _csv(file, opened, _encoding(head), rate)
    except OSError as error:
        raise InputError(f"--listing={file}: cannot be read: {error.strerror}") from None


def _refuse_others(file: Path, opened: IO[bytes], head: bytes) -> None:
    found, fix = "", ""
    if head.startswith(b"PK\x03\x04"):
        found, fix = "a ZIP archive", "unpack it"
        try:
            names = zipfile.ZipFile(opened).namelist()
        except (zipfile.BadZipFile, OSError):
            names = []
        if any(name.startswith(("xl/", "content.xml", "Index/")) for name in names):
            found, fix = "a spreadsheet (Excel, OpenDocument or Numbers)", _AS_CSV
    else:
        start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
        for signature, kind, what in _OTHERS:
            if start.startswith(signature):
                found, fix = kind, what
                break
        else:
            try:
                found, fix = (
                    f"an image ({check_kind(head[:HEAD_BYTES], quote=False)})",
                    "give the table of the images",
                )
            except DecodeError:
                return
            if b"\0" not in head:  # text that begins like an image, such as a column BMI
                return
    raise InputError(f"--listing={file}: is {found}; it must be CSV or Parquet: {fix}")


def _encoding(head: bytes) -> str:
    for mark, name in _ENCODINGS:
        if head.startswith(mark):
            return name
    if len(head) >= 4 and not head[0] == head[1] == 0:  # UTF-16 without a mark, if the header is ASCII
        if not any(head[1:8:2]):
            return "utf-16-le"
        if not any(head[0:8:2]):
            return "utf-16-be"
    return "utf-8-sig"


def _csv(file: Path, opened: IO[bytes], encoding: str, rate: Callable[[Sequence[str]], int]) -> Table:
    # File names need not be UTF-8: other bytes stay as the file system has them.
    text = io.TextIOWrapper(
        opened, encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "strict", newline=""
    )
    separators: Sequence[str] = SEPARATORS
    above = 0  # lines
    with _csv_errors(file, lambda: above):
        line = _first_line(text)
        above += line.count("\n") or line.count("\r")
        if match := _SEP_LINE.fullmatch(line.lstrip("\r\n")):
            separators = (match[1],)
            line = _first_line(text)
            above += line.count("\n") or line.count("\r")
        headers = _headers(line, separators)
    separator = max(headers, key=lambda each: (rate(headers[each]), len(headers[each])))

    def rows(wanted: Collection[int], *, strict: bool = True) -> Iterator[Sequence[str]]:
        reader = csv.reader(text, strict=True, delimiter=separator)
        with _csv_errors(file, lambda: above + reader.line_num):
            yield from filter(None, reader)  # without empty lines

    return Table(tuple(headers[separator]), rows)


def _first_line(text: IO[str]) -> str:
    """Returns the first line that is not empty, with empty lines above; quotes may continue it over lines."""
    line = ""
    while part := text.readline(_LONGEST_HEADER):
        line += part
        if line.strip("\r\n") and (line.count('"') % 2 == 0 or len(line) > _LONGEST_HEADER):
            break
    return line


def _headers(line: str, separators: Sequence[str]) -> dict[str, list[str]]:
    """Returns the cells of the first line for each separator with which the line is valid CSV."""
    found: dict[str, list[str]] = {}
    errors = []
    for separator in separators:
        try:
            found[separator] = next(csv.reader([line.lstrip("\r\n")], strict=True, delimiter=separator), [])
        except csv.Error as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found


@contextmanager
def _csv_errors(file: Path, line: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except (csv.Error, UnicodeError) as error:
        why = "is not CSV" if isinstance(error, csv.Error) else "is cut or damaged text"
        raise InputError(f"--listing={file}: line {line()}: {why}: {error}") from None
    except OSError as error:
        raise InputError(f"--listing={file}: cannot be read: {error.strerror}") from None


@contextmanager
def _parquet(file: Path) -> Iterator[Table]:
    try:
        import pyarrow  # type: ignore[import-untyped,import-not-found,unused-ignore]
        from pyarrow import parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ModuleNotFoundError:
        raise InputError(
            f"--listing={file}: a Parquet file needs pyarrow, which is not installed; install it with\n"
            f"  pip install 'shardlight[parquet]'\n"
            f"or write the listing as CSV"
        ) from None
    try:
        with parquet.ParquetFile(file) as opened:
            names = opened.schema_arrow.names

            def rows(wanted: Collection[int], *, strict: bool = True) -> Iterator[Sequence[str]]:
                """Yields rows; holds one batch in memory."""
                number = 0
                columns = [names[place] for place in sorted(wanted)]
                empty = [""] * len(names)
                for batch in opened.iter_batches(_BATCH, columns=columns):
                    values = batch.to_pydict()
                    for index in range(batch.num_rows):
                        number += 1
                        cells = empty.copy()
                        for place in wanted:
                            name = names[place]
                            value = values[name][index]
                            cells[place] = _text(file, number, name, value) if strict else str(value)
                        yield cells

            yield Table(tuple(names), rows)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"--listing={file}: cannot be read as Parquet: {error}") from None


def _text(file: Path, number: int, name: str, value: Any) -> str:
    """Returns a cell as text; whole floats lose their point, because pandas turns integers into floats."""
    if value is None or (
        isinstance(value, float | Decimal) and math.isnan(value)
    ):  # how pandas writes a missing value
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):  # text of a program that does not mark it as text
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, int):
        return str(value)
    if (
        isinstance(value, float | Decimal)
        and -_LARGEST_EXACT <= value <= _LARGEST_EXACT
        and value == int(value)
    ):
        return str(int(value))
    found = type(value).__name__
    if isinstance(value, float | Decimal):
        found = f"{found}s that are not whole, or too large to be exact"
    raise InputError(
        f"--listing={file}: column {name!r} holds {found}, first in row {number}; it must hold text or whole "
        f"numbers"
    )
