"""The difference of two runs as one HTML page that needs nothing else: no scripts, no links."""

import math
from html import escape
from typing import Final

from trainer.evaluation.document import document
from trainer.evaluation.intervals import Estimate
from trainer.runs.comparison import Comparison
from trainer.runs.difference_text import (
    VERDICTS,
    conclusion,
    difference_interval,
    estimate_text,
    notes,
    records_sentence,
    side_text,
)
from trainer.runs.page import range_bar
from trainer.runs.paired import Difference
from trainer.runs.reported import bounds_of, title

_CSS: Final = """
.differences td.number { min-width: 150px; }
.differences td.difference { min-width: 260px; }
.bar b { position: absolute; top: -4px; width: 1px; height: 13px; background: var(--faint); }
"""


def difference_page(found: Comparison) -> str:
    """Returns the page."""
    body = [
        '<header><div class="over">Two runs compared</div>',
        f"<h1>{escape(found.first.name)} against {escape(found.second.name)}</h1>",
        f'<p class="faint">A: {escape(side_text(found.first))}<br>B: {escape(side_text(found.second))}</p>',
        f'<p class="faint">{escape(records_sentence(found))}</p></header>',
        f'<p class="notice">{escape(conclusion(found))}</p>',
        "<h2>Differences</h2>",
        _table(found),
        *(f'<p class="faint">{escape(note)}</p>' for note in notes(found)),
    ]
    return document("Two runs compared", body, css=_CSS)


def _table(found: Comparison) -> str:
    reach = max(
        (abs(end) for each in found.differences for end in (each.low, each.high) if not math.isnan(end)),
        default=1.0,
    )
    reach = 1.05 * reach or 1.0
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("Metric", "A", "B", "A - B, 95% interval", "Verdict")
    )
    body = "".join(_row(difference, reach) for difference in found.differences)
    return (
        f'<div class="sheet"><table class="differences"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f'<p class="faint">The bars of A - B reach from -{reach:.2f} to +{reach:.2f}; the line in the middle '
        f"is no difference.</p>"
    )


def _row(difference: Difference, reach: float) -> str:
    bar = ""
    if not math.isnan(difference.low):
        bar = range_bar(difference.low, difference.value, difference.high, (-reach, reach))
        bar = bar.replace("</span>", '<b style="left:50%"></b></span>')
    value, _, interval = difference_interval(difference).partition(" ")
    return (
        f'<tr><th scope="row">{escape(title(difference.metric))}</th>'
        f"{_side(difference.metric, difference.first)}{_side(difference.metric, difference.second)}"
        f'<td class="number difference"><b>{value}</b>{escape(interval)}{bar}</td>'
        f"<td>{escape(VERDICTS[difference.verdict])}</td></tr>"
    )


def _side(metric: str, estimate: Estimate) -> str:
    value, _, interval = estimate_text(estimate).partition(" ")
    bounds, bar = bounds_of(metric), ""
    if bounds and not any(map(math.isnan, (estimate.value, estimate.low, estimate.high))):
        bar = range_bar(estimate.low, estimate.value, estimate.high, bounds)
    return f'<td class="number"><b>{value}</b>{interval}{bar}</td>'
