"""A CSV or Parquet listing, `path,label[,group][,split]`, to the sources it names, every row checked."""

import csv
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, Final

from tfrecords.errors import InputError
from tfrecords.pool import Pool
from tfrecords.sources.classes import class_order
from tfrecords.sources.groups import group_finder
from tfrecords.sources.headers import examine, without_patient
from tfrecords.sources.listing import SPLITS, Listing, Source, refuse_rejects
from tfrecords.sources.privacy import GroupKey
from tfrecords.sources.rejection import MaxRejects, shown

REQUIRED: Final = ("path", "label")
OPTIONAL: Final = ("group", "split")
_PARQUET: Final = b"PAR1"  # the first bytes of such a file
_BATCH: Final = 4096  # rows of a Parquet file in memory at a time


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is written; "" where a column is not there or has no value."""

    number: int
    path: str
    label: str
    group: str
    split: str


@dataclass(frozen=True, slots=True)
class _Listed:
    """A row that is in order; `group` is "" where neither the row nor an expression tells it."""

    row: Row
    path: str
    group: str
    size: int | None


def read_listing(
    file: Path,
    root: Path,
    *,
    group_regex: str | None = None,
    allow_columns: bool = False,
    max_rejects: MaxRejects | None = None,
    key: GroupKey | None = None,
    pool: Pool | None = None,
    classes: Sequence[str] = (),
) -> Listing:
    """Lists the images that a CSV or Parquet file names; which of the two it is, its content tells.

    The order of the rows does not matter. A row without a split takes the one that other rows give its
    group; if there is none, it is carved.

    Args:
        file: CSV in UTF-8 with a header, or Parquet. `path` is below the root, with `/`; `label` is the
            name of the class; `group` is what must not be split, and beats the expression; `split` is
            train, val or test, and stays as it is.
        root: the folder of the images.
        group_regex: as for `list_images`, but searched in the path as it is listed.
        allow_columns: whether the file may have other columns; they are passed over.
        max_rejects: how many files that are no image may be left out; None: none.
        key: see `list_images`.
        pool: see `list_images`.
        classes: see `list_images`.

    Raises:
        InputError: the file or its columns cannot be used, pyarrow is missing, rows are wrong or name
            no file (all are counted, the first are named with their numbers; row 1 is the first below
            the header), or more files are no images than may be left out.
    """
    if not root.is_dir():
        raise InputError(f"--images={root}: {'not a folder' if root.exists() else 'no such folder'}")
    rows = _rows(file, allow_columns=allow_columns)
    listed, problems, total = _check(rows, root, group_regex, quote=key is None)
    if problems:
        raise InputError(
            f"--listing={file}: {len(problems)} of {total} rows cannot be used (row 1 is the first below the "
            f"header):\n{shown(problems)}\n"
            f"Correct or remove them, then run the same command again."
        )
    names = class_order({one.row.label for one in listed}, classes)
    if len(names) < 2:
        raise InputError(
            f"--listing={file}: found {len(names)} label{'s'[: len(names) != 1]} "
            f"({', '.join(names) or '-'}) in {total} rows; classification needs two or more"
        )
    labels = {name: label for label, name in enumerate(names)}
    grouped = {number for number, one in enumerate(listed) if one.group}
    paths = [one.path for one in listed]
    told = without_patient(examine(root, paths, pool or Pool(1), keyed=key is not None), grouped)
    found: list[tuple[Source, str]] = []
    by_name = group_finder(None)
    for number, one in enumerate(listed):
        reason, patient = told.get(number, ("", None))
        group = one.group or patient or by_name(one.path) or one.path
        source = Source(one.path, labels[one.row.label], group, one.row.split or None, one.size or 0)
        if key:
            source = replace(
                source,
                group=key.group(group),
                position=f"row {one.row.number} of the listing",
                hashed_id=key.id(one.row.label, one.path),
            )
        found.append((source, reason))
    has_dicom = any(patient is not None for _, patient in told.values())
    splits = _splits_of_groups([source for source, _ in found])
    found = [(replace(source, split=source.split or splits.get(source.group)), why) for source, why in found]
    found.sort(key=lambda pair: (_split_order(pair[0].split), os.fsencode(pair[0].path)))
    sources = tuple(source for source, _ in found)
    rejected = tuple((number, reason) for number, (_, reason) in enumerate(found) if reason)
    refuse_rejects(root, sources, rejected, max_rejects or MaxRejects(), "listed files")
    return Listing(root, tuple(names), sources, rejected, has_dicom=has_dicom, splits_are_fixed=True)


def _split_order(split: str | None) -> int:
    return -1 if split is None else SPLITS.index(split)


def _splits_of_groups(sources: Sequence[Source]) -> dict[str, str]:
    """Returns the split of each group that has rows with one and the same."""
    found: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        if source.split:
            found[source.group].add(source.split)
    return {group: splits.pop() for group, splits in found.items() if len(splits) == 1}


def _check(
    rows: Iterator[Row | str], root: Path, group_regex: str | None, *, quote: bool
) -> tuple[list[_Listed], list[tuple[str, str]], int]:
    """Returns the rows in order, (row, problem) of each other one, and how many rows there are."""
    find_group = group_finder(group_regex)
    listed: list[_Listed] = []
    problems: list[tuple[str, str]] = []
    first: dict[str, int] = {}  # where each path is listed
    total = 0
    for row in rows:
        total += 1
        if isinstance(row, str):  # not even a row
            problems.append((f"row {total}", row))
            continue
        path = posixpath.normpath(row.path) if row.path else ""
        wrong = _wrong_in(row, path, quote=quote)
        if not wrong and path in first:
            wrong = f"the same path as in row {first[path]}" + f", {path!r}" * quote
        size: int | None = None
        if not wrong:
            first[path] = row.number
            size, wrong = _size(root, path, quote=quote)
        group = row.group or ("" if group_regex is None else find_group(path) or "")
        if not wrong and group_regex is not None and not group:
            wrong = f"no group, and --group_regex={group_regex!r} does not match" + f" {path!r}" * quote
        if wrong:
            problems.append((f"row {row.number}", wrong))
        else:
            listed.append(_Listed(row, path, group, size))
    return listed, problems, total


def _wrong_in(row: Row, path: str, *, quote: bool) -> str:
    """Returns what is wrong with a row, seen for itself, or ""."""
    named, label, split = (f" {value!r}" * quote for value in (row.path, row.label, row.split))
    odd_label = row.label != row.label.strip() or not row.label.isprintable()
    tests = (
        (not row.path, "no path"),
        ("\0" in row.path, f"the path{named} holds a NUL character"),
        (row.path.startswith("/"), f"the path{named} is absolute; give it below --images"),
        (path == ".." or path.startswith("../"), f"the path{named} leads out of --images"),
        (not row.label, "no label"),
        (odd_label, f"the label{label} has spaces around it or characters that cannot be printed"),
        (
            row.split and row.split not in SPLITS,
            f"unknown split{split}; allowed are {', '.join(SPLITS)}, or none",
        ),
    )
    return next((wrong for is_wrong, wrong in tests if is_wrong), "")


def _size(root: Path, path: str, *, quote: bool) -> tuple[int | None, str]:
    """Returns the size of a listed file (None: neither file nor folder), and what is wrong or ""."""
    named = f" {path!r}" * quote
    try:
        status = os.stat(f"{root}/{path}")  # noqa: PTH116 - a Path for each of a million takes long
    except OSError as error:
        return None, f"the file{named} cannot be found: {error.strerror}"
    if S_ISDIR(status.st_mode):
        return None, f"the path{named} is a folder"
    return (status.st_size if S_ISREG(status.st_mode) else None), ""


def _rows(file: Path, *, allow_columns: bool) -> Iterator[Row | str]:
    """Yields each row, or what is wrong with one that cannot be taken apart."""
    try:
        with file.open("rb") as opened:
            is_parquet = opened.read(len(_PARQUET)) == _PARQUET
    except OSError as error:
        raise InputError(f"--listing={file}: cannot be read: {error.strerror}") from None
    read = _read_parquet if is_parquet else _read_csv
    table = read(file)
    header = next(table)
    places = _places(file, header, allow_columns=allow_columns)
    for number, cells in enumerate(table, 1):
        if len(cells) != len(header):
            yield f"has {len(cells)} fields, the header has {len(header)}"
            continue
        values = {name: cells[place] for name, place in places.items()}
        yield Row(number, *(values.get(name, "") for name in (*REQUIRED, *OPTIONAL)))


def _places(file: Path, header: Sequence[str], *, allow_columns: bool) -> dict[str, int]:
    known = (*REQUIRED, *OPTIONAL)
    allowed = "allowed are path, label, group and split, the last two if wanted"
    if missing := [name for name in REQUIRED if name not in header]:
        raise InputError(
            f"--listing={file}: no column {' and none '.join(missing)} (found: {', '.join(header) or '-'}); "
            f"{allowed}, named in the first row"
        )
    if twice := sorted({name for name in header if name in known and header.count(name) > 1}):
        raise InputError(f"--listing={file}: column {twice[0]!r} is there more than once; {allowed}")
    if (unknown := [name for name in header if name not in known]) and not allow_columns:
        raise InputError(
            f"--listing={file}: unknown column{'s'[: len(unknown) != 1]} {', '.join(map(repr, unknown))}; "
            f"{allowed}: rename or remove others, or pass them over with --allow_columns"
        )
    return {name: header.index(name) for name in known if name in header}


def _read_csv(file: Path) -> Iterator[Sequence[str]]:
    """Yields the header and the rows; empty lines are none."""
    try:
        # File names need not be UTF-8: what is not comes through as the file system gives it.
        with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as opened:
            reader = csv.reader(opened, strict=True)
            try:
                yield from chain([next(reader, [])], filter(None, reader))
            except csv.Error as error:
                raise InputError(f"--listing={file}: line {reader.line_num}: is no CSV: {error}") from None
    except OSError as error:
        raise InputError(f"--listing={file}: cannot be read: {error.strerror}") from None


def _read_parquet(file: Path) -> Iterator[Sequence[str]]:
    """Yields the names of the columns and the rows, a batch at a time in memory."""
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
            yield names
            there = [name for name in names if name in (*REQUIRED, *OPTIONAL)]
            for batch in opened.iter_batches(_BATCH, columns=there):
                columns = batch.to_pydict()
                for index in range(batch.num_rows):
                    yield [_text(file, name, columns[name][index]) if name in there else "" for name in names]
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"--listing={file}: cannot be read as Parquet: {error}") from None


def _text(file: Path, name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and name != "path":
        return str(value)
    whole = "text" if name == "path" else "text or whole numbers"
    raise InputError(f"--listing={file}: column {name!r} holds {type(value).__name__}; it must hold {whole}")
