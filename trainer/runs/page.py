"""The table of runs as one HTML page that needs nothing else: no scripts, no links."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from trainer.evaluation.document import document
from trainer.evaluation.page import exact_note, interval_text
from trainer.runs.columns import NOTHING, epoch_text, number_text, when_text
from trainer.runs.reading import DONE, STATES, TRAINING, RunRow
from trainer.runs.reported import HEADLINES, bounds_of, lower_is_better, title

CSS: Final = """
main { max-width: 1560px; }
.runs { font-size: 13px; }
.runs th, .runs td { padding: 8px 9px; white-space: nowrap; }
.runs thead th, .runs td.when { white-space: normal; overflow-wrap: normal; }
.runs tbody th { min-width: 11em; white-space: normal; }
.runs td.number { min-width: 150px; }
.runs th.n, .runs td.n { text-align: right; font-variant-numeric: tabular-nums; }
.runs .state { display: inline-block; border-radius: 999px; padding: 0 9px; border: 1px solid var(--line);
  color: var(--faint); }
.runs .training { color: var(--accent); border-color: var(--accent); font-weight: 600; }
.runs .diverged { color: var(--warn-ink); background: var(--warn); border-color: var(--warn-line); }
.runs th[aria-sort] { color: var(--ink); }
"""


def runs_page(rows: Sequence[RunRow], sort: str, split: str, problems: Sequence[str] = ()) -> str:
    """Returns the page.

    Args:
        rows: the runs, in the order in which they are shown.
        sort: what they are sorted by.
        split: name of the report that the figures are from.
        problems: sentences on what was left out or is damaged.
    """
    metrics = _metrics(rows, sort)
    body = [
        '<header><div class="over">Training runs</div>',
        f"<h1>{len(rows):,} run{'s' * (len(rows) != 1)}</h1>",
        f'<p class="faint">{escape(_head(sort, split))}</p></header>',
        _cards(rows),
        *(f'<p class="notice">{escape(problem)}</p>' for problem in problems),
        "<h2>All runs</h2>",
        _table(rows, metrics, sort),
        *(f'<p class="faint">{escape(note)}</p>' for note in _notes(rows, metrics)),
    ]
    return document("Training runs", body, css=CSS)


def range_bar(low: float, value: float, high: float, ends: tuple[float, float]) -> str:
    """Returns an interval as a bar, with a mark at the value.

    Args:
        low: the interval's lower end.
        value: where the mark stands.
        high: the interval's upper end.
        ends: the values that the whole width of the bar reaches from and to.
    """
    first, last = ends
    span = (last - first) or 1.0
    left, middle, right = ((end - first) / span for end in (low, value, high))
    return (
        f'<span class="bar"><i style="left:{left:.2%};width:{right - left:.2%}"></i>'
        f'<em style="left:{middle:.2%}"></em></span>'
    )


def _metrics(rows: Sequence[RunRow], sort: str) -> list[str]:
    """Returns the metrics that get a column, the one that is sorted by first."""
    known = {metric for row in rows for metric in row.estimates}
    return [sort] * (sort in known and sort not in HEADLINES) + [name for name in HEADLINES if name in known]


def _head(sort: str, split: str) -> str:
    by = sort if sort in ("name", "when") else title(sort)
    return (
        f"Sorted by {by}. Figures are from report/{split} of each run, with 95% intervals by group, at the "
        f"run's own threshold. Intervals that overlap say little of a difference: python -m trainer.runs "
        f"--compare=RUN_A,RUN_B tests it record by record."
    )


def _cards(rows: Sequence[RunRow]) -> str:
    counts = {state: sum(row.state == state for row in rows) for state in STATES}
    cards = "".join(
        f'<div class="card"><div class="name">{escape(state.capitalize())}</div>'
        f'<div class="value">{count:,}</div></div>'
        for state, count in counts.items()
        if count or state in (DONE, TRAINING)
    )
    return f'<section class="cards">{cards}</section>'


def _table(rows: Sequence[RunRow], metrics: Sequence[str], sort: str) -> str:
    ends = {metric: _ends(rows, metric) for metric in metrics}
    heads = [
        *(("Run", "name", ""), ("Data", "", ""), ("Model", "", ""), ("State", "", "")),
        *(("Best epoch", "", "n"), ("Validation loss", "val_loss", "n")),
        *((title(metric), metric, "") for metric in metrics),
        *(("Threshold", "", "n"), ("Last change", "when", "")),
    ]
    head = "".join(
        f'<th scope="col" class="{kind}"{_sorted(sort) * (key == sort)}>{escape(name)}</th>'
        for name, key, kind in heads
    )
    body = "".join(_row(row, metrics, ends) for row in rows)
    return (
        f'<div class="sheet"><table class="runs"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _sorted(sort: str) -> str:
    rising = sort == "name" or lower_is_better(sort)
    return f' aria-sort="{"ascending" if rising else "descending"}"'


def _row(row: RunRow, metrics: Sequence[str], ends: Mapping[str, tuple[float, float]]) -> str:
    more = "; ".join(filter(None, [row.holder, *row.notes]))
    what = f'<span class="what">{escape(more)}</span>' if more else ""
    cells = [
        f'<th scope="row">{escape(row.name)}{what}</th>',
        *(f"<td>{escape(text)}</td>" for text in (row.data, row.model)),
        f'<td><span class="state {row.state}">{row.state}</span></td>',
        f'<td class="n">{escape(epoch_text(row))}</td>',
        f'<td class="n">{number_text(row.val_loss, ".4f")}</td>',
        *(_metric(row.estimates.get(metric), ends[metric], metric) for metric in metrics),
        f'<td class="n">{number_text(row.threshold, ".3g")}</td>',
        f'<td class="when">{when_text(row.changed)}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _metric(estimate: Mapping[str, Any] | None, ends: tuple[float, float], metric: str) -> str:
    if not estimate:
        return f'<td class="number">{NOTHING}</td>'
    value, _, interval = interval_text(estimate).partition(" ")
    known = None not in (estimate["value"], estimate["low"], estimate["high"])
    bar = (
        range_bar(estimate["low"], estimate["value"], estimate["high"], ends)
        if known and bounds_of(metric)
        else ""
    )
    return f'<td class="number"><b>{value}</b>{interval}{bar}</td>'


def _ends(rows: Sequence[RunRow], metric: str) -> tuple[float, float]:
    """Returns what the bars of a column reach from and to: all runs share it, so that bars compare."""
    intervals = [row.estimates[metric] for row in rows if metric in row.estimates]
    known = [each[key] for each in intervals for key in ("low", "value", "high") if each[key] is not None]
    if not known:
        return 0.0, 1.0
    margin = 0.05 * (max(known) - min(known)) or 0.05
    first, last = bounds_of(metric) or (-math.inf, math.inf)
    return max(min(known) - margin, first), min(max(known) + margin, last)


def _notes(rows: Sequence[RunRow], metrics: Sequence[str]) -> list[str]:
    ranges = [
        f"{title(metric)} from {low:.2f} to {high:.2f}"
        for metric in metrics
        if bounds_of(metric)
        for low, high in [_ends(rows, metric)]
    ]
    notes = [f"The bars of a column have one scale: {', '.join(ranges)}."] if ranges else []
    note = exact_note({"decisions": {row.name: {"estimates": row.estimates} for row in rows}})
    return [*notes, *([note] if note else [])]
