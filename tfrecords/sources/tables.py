"""Reads a CSV or Parquet table, `path,label[,group][,split]`, as sources, and checks every row."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError, first_names
from tfrecords.pool import Pool
from tfrecords.sources.classes import class_order
from tfrecords.sources.groups import group_finder
from tfrecords.sources.headers import read_headers, reject_without_patient
from tfrecords.sources.keys import NO_VALUES, lookalikes, normalized, split_named
from tfrecords.sources.listing import SPLITS, Listing, Source, refuse_rejects
from tfrecords.sources.privacy import GroupKey
from tfrecords.sources.rejection import MaxRejects, shown
from tfrecords.sources.table.columns import COLUMNS, Columns
from tfrecords.sources.table.files import open_table
from tfrecords.sources.table.paths import ABSOLUTE, BACKSLASH, EXTENSION, PathFinder


@dataclass(frozen=True, slots=True)
class Row:
    """A row: the path as written, the rest normalized; "" where there is no column or no value."""

    number: int
    path: str
    label: str
    group: str
    split: str


@dataclass(frozen=True, slots=True)
class _ValidRow:
    """A row without problems; `group` is "" where neither the row nor an expression gives one."""

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
    columns: Mapping[str, str] | None = None,
    max_rejects: MaxRejects | None = None,
    key: GroupKey | None = None,
    pool: Pool | None = None,
    classes: Sequence[str] = (),
) -> Listing:
    """Lists the images that a CSV or Parquet file names; the content shows which of the two it is.

    The order of the rows does not matter. A row without a split takes the split that other rows give its
    group, or else it is carved. Stray spaces and Unicode forms are normalized, and counted in the notes.
    Names that probably mean the same, such as 3 and 3.0, are refused.

    Args:
        file: CSV with a header, or Parquet; see `open_table`. `path` is below the root; see `PathFinder`.
            `label` is the name of the class. `group` is what must not be split, and has precedence over the
            expression. `split` is train, val or test, in any case and by any usual name, and stays as it is.
        root: the folder of the images.
        group_regex: as for `list_images`, but searched in the path below the root.
        allow_columns: whether the file may have other columns, which are ignored.
        columns: columns that have other names, by what they hold: path, label, group or split.
        max_rejects: how many unusable files may be left out; None for none.
        key: see `list_images`.
        pool: see `list_images`.
        classes: see `list_images`.

    Raises:
        InputError: the file or its columns cannot be used, pyarrow is missing, rows are wrong or name no
            file, or more files are unusable than allowed. Rows are counted, and the first are named by
            number; row 1 is the first below the header.
    """
    if not root.is_dir():
        raise InputError(f"--images={root}: {'is not a folder' if root.exists() else 'no such folder'}")
    wanted = Columns(columns or {}, allow_columns, quote=key is None)
    notes: list[str] = []
    changed: Counter[str] = Counter()
    rows = _rows(file, wanted, changed, notes)
    listed, problems, total = _check(rows, root, group_regex, changed, quote=key is None)
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
            f"({first_names(names) or '-'}) in {total} rows; classification needs two or more"
        )
    labels = {name: label for label, name in enumerate(names)}
    grouped = {number for number, one in enumerate(listed) if one.group}
    paths = [one.path for one in listed]
    headers = read_headers(root, paths, pool or Pool(1), keyed=key is not None)
    headers = reject_without_patient(headers, grouped)
    found: list[tuple[Source, str]] = []
    by_name = group_finder(None)
    for number, one in enumerate(listed):
        reason, patient = headers.get(number, ("", None))
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
    has_dicom = any(patient is not None for _, patient in headers.values())
    splits = _splits_of_groups([source for source, _ in found])
    found = [(replace(source, split=source.split or splits.get(source.group)), why) for source, why in found]
    found.sort(key=lambda pair: (_split_order(pair[0].split), os.fsencode(pair[0].path)))
    sources = tuple(source for source, _ in found)
    rejected = tuple((number, reason) for number, (_, reason) in enumerate(found) if reason)
    refuse_rejects(root, sources, rejected, max_rejects or MaxRejects(), "listed files")
    return Listing(
        root,
        tuple(names),
        sources,
        rejected,
        has_dicom=has_dicom,
        splits_are_fixed=True,
        notes=(*notes, *_notes(changed)),
    )


def _split_order(split: str | None) -> int:
    return -1 if split is None else SPLITS.index(split)


def _splits_of_groups(sources: Sequence[Source]) -> dict[str, str]:
    """Returns the split of each group whose rows name exactly one split."""
    found: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        if source.split:
            found[source.group].add(source.split)
    return {group: splits.pop() for group, splits in found.items() if len(splits) == 1}


def _check(
    rows: Iterator[Row | str], root: Path, group_regex: str | None, changed: Counter[str], *, quote: bool
) -> tuple[list[_ValidRow], list[tuple[str, str]], int]:
    """Returns the rows without problems, (row, problem) of all others, and the number of rows.

    It adds to `changed` how many paths were not written as the files are named.
    """
    find_group = group_finder(group_regex)
    finder = PathFinder(root, quote=quote)
    listed: list[_ValidRow] = []
    problems: dict[int, str] = {}  # by row: its first problem
    first: dict[str, int] = {}  # by path: the row
    keys: dict[str, dict[str, int]] = {"label": {}, "group": {}}  # by value: its first row
    total = 0
    for row in rows:
        total += 1
        if isinstance(row, str):  # a problem of a line that is no row
            problems[total] = row
            continue
        keys["label"].setdefault(row.label, row.number)
        keys["group"].setdefault(row.group, row.number)
        wrong = next(_row_problems(row, quote=quote), "")
        if wrong:
            problems[row.number] = wrong
            continue
        found = finder.find(row.path)
        path, wrong = found.path, found.problem
        if not wrong and path in first:
            wrong = f"the same path as in row {first[path]}" + f", {path!r}" * quote
        group = row.group or ("" if group_regex is None else find_group(path) or "")
        if not wrong:
            first[path] = row.number
        if not wrong and group_regex is not None and not group:
            wrong = f"no group, and --group_regex={group_regex!r} does not match" + f" {path!r}" * quote
        if wrong:
            problems[row.number] = wrong
        else:
            listed.append(_ValidRow(row, path, group, found.size))
    for column, rows_of in keys.items():
        rows_of.pop("", None)
        problems = dict(_lookalikes(column, rows_of, quote=quote)) | problems
    problems = dict(_joined_labels(keys["label"], quote=quote)) | problems
    changed.update(finder.corrections)
    return listed, [(f"row {number}", wrong) for number, wrong in sorted(problems.items())], total


def _notes(changed: Counter[str]) -> Iterator[str]:
    """Yields a line for each kind of change that reading the table needed."""
    if values := [f"{changed[column]:,} of {column}" for column in COLUMNS if changed[column]]:
        yield f"normalized stray spaces or Unicode forms in the listing's values: {', '.join(values)}"
    for what, done in _DONE.items():
        if changed[what]:
            yield f"{changed[what]:,} paths of the listing {done}"


_DONE: Final = {
    EXTENSION: "have no extension: each stands for the only image file with this name",
    BACKSLASH: "have a backslash in place of a slash",
    ABSOLUTE: "are absolute paths to files below --images",
}


def _row_problems(row: Row, *, quote: bool) -> Iterator[str]:
    """Yields the problems of a row that do not depend on other rows."""
    if not row.path.strip():
        yield "no path"
    if not row.label:
        yield "no label"
    if not row.label.isprintable():
        odd = "characters that cannot be printed"
        if any("\udc80" <= character <= "\udcff" for character in row.label):
            odd = "bytes that are not UTF-8: save the listing as UTF-8"
        yield f"the label{f' {row.label!r}' * quote} has {odd}"
    for column, key in (("path", row.path), ("label", row.label), ("group", row.group), ("split", row.split)):
        if _is_quoted(key.strip()):
            yield f"the {column} has quotes around it, perhaps after a space: remove them"
        if key.casefold() in NO_VALUES and column != "path":
            yield f"the {column}{f' {key!r}' * quote} stands for a missing value: leave the cell empty"
    if row.split and row.split not in SPLITS:
        yield f"unknown split{f' {row.split!r}' * quote}; allowed are {', '.join(SPLITS)}, or none"


def _is_quoted(key: str) -> bool:
    return len(key) > 1 and key[0] == key[-1] == '"'


def _lookalikes(column: str, first: Mapping[str, int], *, quote: bool) -> Iterator[tuple[int, str]]:
    """Yields the rows whose value probably is that of an earlier row in another form."""
    for key, other, how in lookalikes(first):
        (before, earlier), (row, later) = sorted([(first[key], key), (first[other], other)])
        both = f"{column} {later!r} and {earlier!r}" if quote else f"{column} and that"
        yield (
            row,
            f"the {both} of row {before} differ only in {how}; if they are one {column}, write it the same "
            f"way in all rows, else rename one of them",
        )


def _joined_labels(first: Mapping[str, int], *, quote: bool) -> Iterator[tuple[int, str]]:
    """Yields the rows whose label joins several labels that other rows have alone."""
    for label, row in first.items():
        for separator in "|;,":
            parts = [normalized(part) for part in label.split(separator)]
            if len(parts) > 1 and all(part in first for part in parts):
                yield (
                    row,
                    f"the label{f' {label!r}' * quote} joins {len(parts)} labels that other rows have alone: "
                    f"multi-label data are not supported (docs/decisions.md); keep rows with one label",
                )
                break


def _rows(file: Path, columns: Columns, changed: Counter[str], notes: list[str]) -> Iterator[Row | str]:
    """Yields each row, or the problem of a line that is no row.

    It adds to `changed` how many values of each column were normalized, and to `notes` which columns were
    ignored.
    """
    with open_table(file, columns.rate) as table:
        places = columns.places(file, table.header, table.rows)
        if columns.allow_others:
            notes += columns.passed_over(table.header, places)
        path = places.pop("path")
        for number, cells in enumerate(table.rows((path, *places.values())), 1):
            if len(cells) != len(table.header):
                yield f"has {len(cells)} fields, the header has {len(table.header)}"
                continue
            keys = {"label": "", "group": "", "split": ""}
            for column, place in places.items():
                keys[column] = key = normalized(cells[place])
                if key != cells[place]:
                    changed[column] += 1
            split = split_named(keys["split"]) or keys["split"]
            yield Row(number, cells[path], keys["label"], keys["group"], split)
