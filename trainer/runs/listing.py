"""From a folder to the table of the runs below it, top to bottom."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TextIO

from tfrecords.command import LEFT_OUT
from tfrecords.errors import EndedEarly, InputError
from tfrecords.files.outputs import open_output
from trainer.runs.columns import columns_for, sorted_rows
from trainer.runs.finding import find_runs
from trainer.runs.page import runs_page
from trainer.runs.reading import DIVERGED, DONE, RunRow, read_run
from trainer.runs.reported import HEADLINES
from trainer.runs.runs_csv import runs_csv
from trainer.runs.text import problems_text, summary_line, table_text


@dataclass(frozen=True)
class ListingOptions:
    """What is listed, and where to.

    Attributes:
        folder: the folder below which the runs are.
        sort: what they are sorted by; see `columns.sorted_rows`.
        split: name of the report whose figures are shown.
        trials: whether the trials of searches are shown too.
        csv: file for the table as CSV; "-" is standard output; "": none.
        html: file for the table as a page; "": none.
    """

    folder: Path
    sort: str = "name"
    split: str = "test"
    trials: bool = False
    csv: str = ""
    html: str = ""


def list_runs(options: ListingOptions) -> None:
    """Prints the table of the runs below a folder, and writes it into files if asked to.

    Raises:
        InputError: there is no such folder or metric, or a file cannot be written.
        EndedEarly: all is printed, but some folders hold no run or are damaged.
    """
    found = find_runs(options.folder, trials=options.trials)
    rows, problems = _read(options, found.runs)
    problems = [*found.problems, *problems]
    rows = sorted_rows(rows, options.sort)
    out, said = _write(options, rows, problems)
    print(_text(options, rows, found.hidden_trials, width_of(out)), file=out)
    for line in (*said, *_next(options, rows)):
        print(line, file=out)
    if problems:
        raise EndedEarly(problems_text(problems), LEFT_OUT)


def _read(options: ListingOptions, folders: Sequence[Path]) -> tuple[list[RunRow], list[str]]:
    rows, problems = [], []
    for folder in folders:
        name = str(folder.relative_to(options.folder))
        try:
            row = read_run(folder, str(folder) if name == "." else name, split=options.split)
        except InputError as error:
            problems.append(str(error).replace("\n", " "))
            continue
        rows.append(row)
        problems += [problem.replace("\n", " ") for problem in row.problems]
    return rows, problems


def _write(
    options: ListingOptions, rows: Sequence[RunRow], problems: Sequence[str]
) -> tuple[TextIO, list[str]]:
    """Writes the files; returns where all else is printed to, and a line for each file."""
    outputs: dict[str, tuple[str, str]] = {}
    if options.csv:
        outputs["csv"] = (options.csv, runs_csv(rows))
    if options.html:
        outputs["html"] = (options.html, runs_page(rows, options.sort, options.split, problems))
    return write_outputs(outputs)


def write_outputs(outputs: Mapping[str, tuple[str, str]]) -> tuple[TextIO, list[str]]:
    """Writes what output flags name.

    Args:
        outputs: flag to its value and what is written there.

    Returns:
        Where all else is printed to: standard output, or stderr if that is taken; a line for each file.

    Raises:
        InputError: a file cannot be written.
    """
    out: TextIO = sys.stdout
    said = []
    with ExitStack() as stack:
        opened = {
            flag: stack.enter_context(open_output(f"--{flag}", name)) for flag, (name, _) in outputs.items()
        }
        for flag, output in opened.items():
            name, text = outputs[flag]
            output.write(text.encode())
            if output.is_stdout:
                out = sys.stderr
            else:
                said.append(f"{flag + ':':6} {name}")
    return out, said


def width_of(out: TextIO) -> int | None:
    """Returns the columns of a terminal, or of COLUMNS; None: neither, as in a pipe: no limit."""
    if given := os.environ.get("COLUMNS", ""):
        return int(given) if given.isdecimal() and int(given) else None
    return os.get_terminal_size(out.fileno()).columns if out.isatty() else None


def _text(options: ListingOptions, rows: Sequence[RunRow], hidden_trials: int, width: int | None) -> str:
    lines = [summary_line(rows, str(options.folder))] if rows else [f"no run below {options.folder}"]
    if rows:
        columns = columns_for(options.sort, rows)
        lines.append(table_text(rows, columns, sort=options.sort, width=width))
    if hidden_trials:
        lines.append(f"{hidden_trials:,} trials of searches are not shown: --trials shows them")
    return "\n".join(lines)


def _next(options: ListingOptions, rows: Sequence[RunRow]) -> list[str]:
    """Returns what a reader may want to do now."""
    if not rows:
        return [f"Next:\n  python -m trainer.main --data=DATA --run_dir={options.folder}/NAME"]
    lines = ["Next:"]
    pair = _pair(rows, options.sort if options.sort not in ("name", "when") else HEADLINES[0])
    if pair:
        lines.append(
            f"  python -m trainer.runs --compare={pair[0].folder},{pair[1].folder}" + _split(options)
        )
    without = [row for row in rows if row.state in (DONE, DIVERGED) and not row.estimates]
    if without:
        lines.append(f"  python -m trainer.evaluate --run_dir={without[0].folder} --split={options.split}")
    if not options.html:
        lines.append(f"  python -m trainer.runs --runs={options.folder} --html=runs.html")
    lines.append(f"  tensorboard --logdir={options.folder}")
    return lines


def _split(options: ListingOptions) -> str:
    return "" if options.split == "test" else f" --split={options.split}"


def _pair(rows: Sequence[RunRow], metric: str) -> tuple[RunRow, RunRow] | None:
    """Returns the two best runs that can be compared: those with reports on the same data."""
    reported = sorted_rows([row for row in rows if row.estimates], metric) if _has(rows, metric) else []
    return next(((a, b) for a, b in combinations(reported, 2) if a.plan == b.plan), None)


def _has(rows: Sequence[RunRow], metric: str) -> bool:
    return metric == "val_loss" or any(metric in row.estimates for row in rows)
