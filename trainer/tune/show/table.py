"""A search in the terminal: a table that is redrawn in place, or plain lines.

Names, values and messages come from users and runs, so they are never read as markup.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TextIO

from rich import box, live
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tfrecords.progress import duration
from trainer.tune.show.overview import DONE, FAILED, RUNNING, WAITING, Overview, Parameter, Row, Value

_MOST_COLUMNS: Final = 6  # one for each hyperparameter; more of them share one column
_LINES_AROUND: Final = 9  # lines beside the rows: summary, head, notes, the prompt
_COLUMNS: Final = {"trial": False, "state": True, "score": False, "epoch": False, "time": False, "how": True}
_GAP: Final = 2  # between columns
_LEAST_ROOM: Final = 12  # for a column of values
_WIDE: Final = 10_000  # columns; nothing is cut at this width
_STYLES: Final = {RUNNING: "cyan", WAITING: "dim", FAILED: "red"}


def by_score(overview: Overview) -> list[Row]:
    """Returns the finished trials by score, the best first, equals by number, those without a score last."""
    sign = 1 if overview.direction == "min" else -1

    def key(row: Row) -> tuple[float, int]:
        known = row.score is not None and not math.isnan(row.score)
        return (sign * (row.score or 0.0) if known else math.inf), row.number

    return sorted((row for row in overview.rows if row.state == DONE), key=key)


def summary_line(overview: Overview) -> str:
    """Returns `12 of 20 done, 2 running, 1 failed; best val_loss 0.1034 (trial 7); about 12m left`."""
    most = f" of {overview.max_trials}" if overview.max_trials else ""
    counts = [f"{overview.count(DONE)}{most} done"]
    counts += [
        f"{overview.count(state)} {state}" for state in (RUNNING, WAITING, FAILED) if overview.count(state)
    ]
    parts = [", ".join(counts)]
    if overview.best is not None:
        score = shown(overview.rows[overview.best].score)
        parts.append(f"best {overview.objective} {score} (trial {overview.best})")
    if overview.over:
        parts.append("no trial is left")
    elif overview.seconds_left is not None:
        parts.append(f"about {about(overview.seconds_left)} left")
    return "; ".join(parts)


def trial_line(overview: Overview, row: Row) -> str:
    """Returns a trial as one line, for an output that is no terminal."""
    facts = [f"trial {row.number} {row.state}"]
    if row.state == FAILED:
        facts.append(first_line(row.message) or "no message")
    elif row.score is not None:
        facts.append(f"{overview.objective} {shown(row.score)}")
    facts.append(f"epoch {row.epochs}/{row.most_epochs}")
    if row.seconds:
        facts.append(duration(row.seconds))
    facts.append(how(row))
    return ", ".join(facts) + ": " + _joined(row.values)


def render(overview: Overview, limit: int) -> RenderableType:
    """Returns the table: running trials, then finished ones by score, then failed ones.

    Args:
        overview: the search.
        limit: the most rows; a line says how many more there are.
    """
    states = (RUNNING, WAITING), (FAILED,)
    first, last = ([row for row in overview.rows if row.state in some] for some in states)
    rows = [*sorted(first, key=lambda row: row.state), *by_score(overview), *last]
    parts: list[RenderableType] = [Text(summary_line(overview), style="bold")]
    if rows:
        parts.append(_Trials(overview, rows[:limit]))
    if len(rows) > limit:
        parts.append(Text(f"and {len(rows) - limit} more", style="dim"))
    if last:
        text = f"trial {last[-1].number} failed: {first_line(last[-1].message)}"
        parts.append(Text(text, style="red", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


class Live:
    """Shows a search while it runs.

    A terminal gets the table, redrawn in place. Any other output gets plain lines: one when a trial starts,
    one when it ends, and the summary after each end. Trials that ended before the first `update` belong to an
    earlier start and get no line. No thread is started.

    Args:
        out: where to print; errors of printing are raised, `BrokenPipeError` too.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        console = _Console(file=self._out)
        is_terminal = self._out.isatty() and not console.is_dumb_terminal
        self._live = live.Live(console=console, auto_refresh=False) if is_terminal else None
        self._told: set[tuple[int, str]] = set()
        self._first = True

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, overview: Overview) -> None:
        """Shows the present state of the search."""
        if self._live is not None:
            limit = max(self._live.console.height - _LINES_AROUND, 3)
            self._live.update(render(overview, limit), refresh=True)
            return
        ended = [row for row in overview.rows if row.state in (DONE, FAILED)]
        if self._first:
            self._told |= {(row.number, row.state) for row in ended}
            self._first = False
            self.log(summary_line(overview))
        for row in sorted(ended, key=lambda row: (row.ended or 0.0, row.number)):
            if self._is_new(row):
                self.log(trial_line(overview, row))
                self.log(summary_line(overview))
        for row in overview.rows:
            if row.state == RUNNING and self._is_new(row):
                self.log(trial_line(overview, row))

    def log(self, text: str) -> None:
        """Prints a line; on a terminal it stands above the table."""
        if self._live is None:
            print(text, file=self._out, flush=True)
        else:
            self._live.console.print(Text(text))

    def _is_new(self, row: Row) -> bool:
        key = row.number, row.state
        if key in self._told:
            return False
        self._told.add(key)
        return True


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raises the `BrokenPipeError`, as print does; rich would exit the process."""
        raise  # noqa: PLE0704 (rich 15 calls this while it handles the error)


@dataclass(frozen=True)
class _Trials:
    """The table itself, with as many columns as the terminal is wide enough for.

    Each hyperparameter has a column if there are few and they fit. Else one column holds all values, cut to
    the room that is left; without room there is no such column.
    """

    overview: Overview
    rows: Sequence[Row]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = short_names(self.overview.parameters)
        if len(names) <= _MOST_COLUMNS:
            table = self._table([*names.values()], [self._values(row) for row in self.rows])
            if self._width(table, console, options) <= options.max_width:
                yield table
                return
        plain = self._table([], [[] for _ in self.rows])
        room = options.max_width - self._width(plain, console, options) - _GAP
        if room < _LEAST_ROOM:
            yield plain
            return
        lines = [
            _joined({names[name]: value for name, value in row.values.items() if name in names})
            for row in self.rows
        ]
        yield self._table(["values"], [[_cut(line, room)] for line in lines], justify="left")

    def _width(self, table: Table, console: Console, options: ConsoleOptions) -> int:
        return Measurement.get(console, options.update(width=_WIDE), table).maximum

    def _values(self, row: Row) -> list[str]:
        return [shown(row.values.get(parameter.name)) for parameter in self.overview.parameters]

    def _table(
        self, heads: Sequence[str], cells: Sequence[Sequence[str]], justify: JustifyMethod = "right"
    ) -> Table:
        """Returns a table with columns for the values.

        Args:
            heads: of those columns.
            cells: for each row, one for each head.
            justify: those columns.
        """
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
        for name, left in _COLUMNS.items():
            table.add_column(name, justify="left" if left else "right", no_wrap=True)
        for head in heads:
            table.add_column(Text(head), justify=justify, no_wrap=True)
        for row, values in zip(self.rows, cells, strict=True):
            best = row.number == self.overview.best
            state = f"{row.state}, best" if best else row.state
            known = [str(row.number), state, shown(row.score), f"{row.epochs}/{row.most_epochs}"]
            known += [duration(row.seconds) if row.seconds else "", how(row)]
            style = "bold green" if best else _STYLES.get(row.state, "")
            table.add_row(*map(Text, [*known, *values]), style=style)
        return table


def short_names(parameters: Sequence[Parameter]) -> dict[str, str]:
    """Returns the name of each hyperparameter in the head: without `model_args.` if that is unique."""
    short = [parameter.name.removeprefix("model_args.") for parameter in parameters]
    return {
        parameter.name: name if short.count(name) == 1 else parameter.name
        for parameter, name in zip(parameters, short, strict=True)
    }


def how(row: Row) -> str:
    """Returns where a trial's values come from: `drawn`, `modelled` or `promoted of 4`."""
    return row.by if row.goes_on_with is None else f"{row.by} of {row.goes_on_with}"


def shown(value: Value | None) -> str:
    """Returns a value for people: floats with four digits, "" for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return _printable(value) if isinstance(value, str) else str(value)


def about(seconds: float) -> str:
    """Returns an estimated duration: from a minute on in whole minutes."""
    if seconds < 59.5:
        return duration(seconds)
    return duration(60 * round(seconds / 60)).replace("m00s", "m")


def first_line(message: str) -> str:
    """Returns the first line of a message, without control characters and colours."""
    return _printable(message.strip().partition("\n")[0]).strip()


def _joined(values: Mapping[str, Value]) -> str:
    return " ".join(f"{name}={shown(value)}" for name, value in values.items())


def _cut(text: str, width: int) -> str:
    """Returns the text, cut to a width in terminal cells."""
    line = Text(text)
    line.truncate(width, overflow="ellipsis")
    return line.plain


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
