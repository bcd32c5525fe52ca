"""The columns of the table of runs: what each is called, and what it shows of a run."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tfrecords.errors import InputError
from trainer.evaluation.page import interval_text
from trainer.runs.reading import RunRow
from trainer.runs.reported import CONTRADICTING, HEADLINES, lower_is_better

NOTHING: Final = "-"  # in place of a value that is not there


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: in the head.
        cell: the text for a run.
        is_number: whether texts stand at the right.
        is_metric: whether it is a metric of the report.
    """

    name: str
    cell: Callable[[RunRow], str]
    is_number: bool = False
    is_metric: bool = False


def epoch_text(row: RunRow) -> str:
    """Returns `7 of 20`: the best epoch of those that are done; `-` for a model without epochs."""
    if not row.most_epochs:
        return NOTHING
    return f"{row.best_epoch or NOTHING} of {row.epochs}"


def number_text(value: float | None, form: str) -> str:
    """Returns a number in a format, or `-` for None."""
    return NOTHING if value is None else format(value, form)


def when_text(seconds: float) -> str:
    """Returns a time in this machine's time zone, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


_BEFORE: Final = (
    Column("name", lambda row: row.name),
    Column("data", lambda row: row.data),
    Column("model", lambda row: row.model),
    Column("state", lambda row: row.state),
    Column("epoch", epoch_text, is_number=True),
    Column("val_loss", lambda row: number_text(row.val_loss, ".4f"), is_number=True),
)
_AFTER: Final = (
    Column("threshold", lambda row: number_text(row.threshold, ".3g"), is_number=True),
    Column("when", lambda row: when_text(row.changed)),
)
# Which columns come first where there is no room for all.
_FIRST: Final = ("name", "state", "epoch", "val_loss")


def columns_for(sort: str, rows: Sequence[RunRow]) -> tuple[Column, ...]:
    """Returns the columns of the table, in the order in which they are shown.

    Args:
        sort: what the runs are sorted by; a metric gets a column.
        rows: the runs; `CONTRADICTING` gets a column if one of them has it.
    """
    extra = [sort] if sort not in (*HEADLINES, *_names(_BEFORE), *_names(_AFTER)) else []
    known = [
        name for name in HEADLINES if name != CONTRADICTING or any(name in row.estimates for row in rows)
    ]
    return (*_BEFORE, *map(_metric_column, [*extra, *known]), *_AFTER)


def by_importance(columns: Sequence[Column], sort: str) -> list[Column]:
    """Returns the columns, the most important first: what a narrow terminal shows."""
    metrics = [column for column in columns if column.is_metric]
    metrics.sort(key=lambda column: column.name != sort)
    first = [column for column in columns if column.name in _FIRST]
    return [*first, *metrics, *(column for column in columns if column not in (*first, *metrics))]


def sorted_rows(rows: Sequence[RunRow], sort: str) -> list[RunRow]:
    """Returns the runs, the best of a metric or a loss first, those without one last, equals by name.

    Args:
        rows: the runs.
        sort: "name"; "when", the latest first; "val_loss"; or a metric of the reports.

    Raises:
        InputError: no report has such a metric.
    """
    by_name = sorted(rows, key=lambda row: row.name)
    if sort == "name":
        return by_name
    if sort == "when":
        return sorted(by_name, key=lambda row: -row.changed)
    known = list(dict.fromkeys(metric for row in rows for metric in row.estimates))
    if sort != "val_loss" and sort not in known and (known or sort not in HEADLINES):
        raise InputError(
            f"--sort={sort}: must be one of name, when, val_loss, {', '.join(known or HEADLINES)}, which the "
            f"reports of these runs have"
        )
    sign = 1 if lower_is_better(sort) else -1

    def key(row: RunRow) -> float:
        value = row.val_loss if sort == "val_loss" else row.estimates.get(sort, {}).get("value")
        return math.inf if value is None or math.isnan(value) else sign * value

    return sorted(by_name, key=key)


def _metric_column(name: str) -> Column:
    def cell(row: RunRow) -> str:
        estimate: Mapping[str, Any] | None = row.estimates.get(name)
        return interval_text(estimate) if estimate else NOTHING

    return Column(name, cell, is_metric=True)


def _names(columns: Sequence[Column]) -> list[str]:
    return [column.name for column in columns]
