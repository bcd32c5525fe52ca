"""The table of runs in a terminal: all columns where there is room, else the most important ones."""

import textwrap
from collections.abc import Sequence
from typing import Final

from tfrecords.errors import first_names
from trainer.evaluation.page import exact_note
from trainer.runs.columns import Column, by_importance
from trainer.runs.reading import STATES, TRAINING, RunRow

_GAP: Final = "  "  # between columns
_LEAST_NAME: Final = 16  # columns that the name of a run keeps in any case
_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"


def summary_line(rows: Sequence[RunRow], folder: str) -> str:
    """Returns `3 runs below runs: 2 done, 1 training`."""
    counts = [(state, sum(row.state == state for row in rows)) for state in STATES]
    found = ", ".join(f"{count} {state}" for state, count in counts if count)
    return f"{len(rows):,} run{'s' * (len(rows) != 1)} below {folder}: {found}"


def table_text(rows: Sequence[RunRow], columns: Sequence[Column], *, sort: str, width: int | None) -> str:
    """Returns the table and what a reader must know of it.

    A column that says the same of all runs is told once above the table. Columns that a narrow terminal has
    no room for are named below it.

    Args:
        rows: the runs, one or more, in order.
        columns: all that may be shown.
        sort: what the runs are sorted by: its column is kept longest.
        width: of the terminal, in columns; None: no limit.
    """
    same, left = _told_once(rows, columns)
    shown, left_out = _fitting(rows, left, sort, width)
    lines = [", ".join(f"{column.name} {column.cell(rows[0])}" for column in same)] if same else []
    lines += _grid(rows, shown, width)
    notes = []
    if left_out:
        notes.append(
            f"not shown at {width} columns: {', '.join(column.name for column in left_out)}; a wider "
            "terminal, --csv or --html has them"
        )
    if note := exact_note({"decisions": {row.name: {"estimates": row.estimates} for row in rows}}):
        notes.append(note)
    notes += [f"{row.name}: {row.holder} trains it" for row in rows if row.state == TRAINING]
    notes += [f"{row.name}: {note}" for row in rows for note in row.notes]
    return "\n".join([*lines, *(wrapped(note, width) for note in notes)])


def wrapped(text: str, width: int | None) -> str:
    """Returns a sentence in lines of at most so many columns; None: in one."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) if width else text


def grid(head: Sequence[str], cells: Sequence[Sequence[str]], *, right: Sequence[bool]) -> list[str]:
    """Returns lines with aligned columns, the head first.

    Args:
        head: names of the columns.
        cells: the texts of each line.
        right: of each column, whether its texts stand at the right.
    """
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    return [
        _GAP.join(
            text.rjust(wide) if is_right else text.ljust(wide)
            for text, wide, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (head, *cells)
    ]


def problems_text(problems: Sequence[str]) -> str:
    """Returns the last line of a command that has left something out, with what that is."""
    folders = "1 thing is" if len(problems) == 1 else f"{len(problems)} things are"
    return "\n".join([f"{folders} left out or damaged:", *(f"  {problem}" for problem in problems)])


def names_text(names: Sequence[str]) -> str:
    """Returns names for a sentence: `a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{first_names(names[:-1])} and {names[-1]}"


def _told_once(rows: Sequence[RunRow], columns: Sequence[Column]) -> tuple[list[Column], list[Column]]:
    """Returns the columns that say the same of several runs, and the others."""
    same = [
        column
        for column in columns
        if len(rows) > 1 and column.name in ("data", "model") and len({column.cell(row) for row in rows}) == 1
    ]
    return same, [column for column in columns if column not in same]


def _fitting(
    rows: Sequence[RunRow], columns: Sequence[Column], sort: str, width: int | None
) -> tuple[list[Column], list[Column]]:
    """Returns the columns that there is room for, and those that there is none for."""
    if width is None:
        return list(columns), []
    chosen: list[Column] = []
    for column in by_importance(columns, sort):
        if _width(rows, [*chosen, column]) > width:
            break
        chosen.append(column)
    return (
        [column for column in columns if column in chosen],
        [column for column in columns if column not in chosen],
    )


def _width(rows: Sequence[RunRow], columns: Sequence[Column]) -> int:
    """Returns the least width of a table; a name may be cut."""
    total = len(_GAP) * (len(columns) - 1)
    for column in columns:
        widest = max(len(column.cell(row)) for row in rows)
        total += max(len(column.name), min(widest, _LEAST_NAME) if column.name == "name" else widest)
    return total


def _grid(rows: Sequence[RunRow], columns: Sequence[Column], width: int | None) -> list[str]:
    cells = [[column.cell(row) for column in columns] for row in rows]
    if width is not None and columns and columns[0].name == "name":
        others = _width(rows, columns[1:]) + len(_GAP) if len(columns) > 1 else 0
        room = max(width - others, _LEAST_NAME)
        cells = [[_cut(line[0], room), *line[1:]] for line in cells]
    return grid([column.name for column in columns], cells, right=[column.is_number for column in columns])


def _cut(name: str, room: int) -> str:
    """Returns a name whose start is cut off, for its end tells more of a path."""
    return name if len(name) <= room else _ELLIPSIS + name[len(name) - room + 1 :]
