"""The difference of two runs in a terminal, and as CSV."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from trainer.evaluation.intervals import Estimate
from trainer.evaluation.page import interval_text, split_text
from trainer.runs.comparison import Comparison, Side
from trainer.runs.paired import BETTER, NO_CLEAR_DIFFERENCE, SAME, UNDEFINED, WORSE, Difference, by_verdict
from trainer.runs.text import grid, names_text, wrapped

VERDICTS: Final = {
    BETTER: "A is better",
    WORSE: "A is worse",
    SAME: "the same answers",
    NO_CLEAR_DIFFERENCE: NO_CLEAR_DIFFERENCE,
    UNDEFINED: UNDEFINED,
}


def difference_text(found: Comparison, width: int | None) -> str:
    """Returns the two runs, a line a metric, and what the data say in words.

    Args:
        found: the comparison.
        width: columns that sentences are wrapped at; None: they are not.
    """
    lines = [
        f"A: {side_text(found.first)}",
        f"B: {side_text(found.second)}",
        wrapped(records_sentence(found), width),
        "",
        *grid(
            ["metric", "A", "B", "A - B", ""],
            [
                [
                    difference.metric,
                    value_text(difference.first),
                    value_text(difference.second),
                    difference_interval(difference),
                    VERDICTS[difference.verdict],
                ]
                for difference in found.differences
            ],
            right=[False] * 5,
        ),
        "",
        *(wrapped(sentence, width) for sentence in (conclusion(found), *notes(found))),
    ]
    return "\n".join(lines)


def side_text(side: Side) -> str:
    """Returns a run with its model and threshold."""
    threshold = side.reported.threshold
    decided = "most probable class" if threshold is None else f"threshold {threshold:.3g}"
    return f"{side.name} ({decided}; {side.report})"


def records_sentence(found: Comparison) -> str:
    """Returns what both runs were evaluated on, and what the intervals are."""
    content = found.first.reported.content
    return (
        f"{split_text(content)}: the same {found.first.reported.records:,} records of "
        f"{found.first.reported.groups:,} groups; differences with 95% intervals by a paired bootstrap over "
        f"groups ({found.resamples:,} resamples, seed {found.seed})"
    )


def value_text(estimate: Estimate) -> str:
    """Returns a metric's value with three digits."""
    return UNDEFINED if math.isnan(estimate.value) else f"{estimate.value:.3f}"


def difference_interval(difference: Difference) -> str:
    """Returns `+0.021 [+0.004, +0.039]`, or `+0.021 [-]` without an interval.

    A star stands behind an interval that is wider than the paired bootstrap's.
    """
    if math.isnan(difference.value):
        return UNDEFINED
    value = f"{difference.value:+.3f}"
    if math.isnan(difference.low):
        return f"{value} [-]"
    star = "*" * (difference.method == "separate")
    return f"{value} [{difference.low:+.3f}, {difference.high:+.3f}]{star}"


def conclusion(found: Comparison) -> str:
    """Returns what these data say of run A, in one sentence."""
    differences, first, second = found.differences, found.first.name, found.second.name
    if all(difference.verdict == SAME for difference in differences):
        return (
            f"{first} and {second} give each of these records the same probabilities and the same class: "
            "there is no difference. This does not show that they are the same model."
        )
    parts = [
        f"{verdict} in {names_text(by_verdict(differences, verdict))}"
        for verdict in (BETTER, WORSE, NO_CLEAR_DIFFERENCE)
        if by_verdict(differences, verdict)
    ]
    return f"On these data, {first} compared with {second}: {'; '.join(parts)}."


def notes(found: Comparison) -> list[str]:
    """Returns sentences on what the differences are not."""
    differences = found.differences
    lines = []
    if any(difference.method == "separate" for difference in differences):
        lines.append(
            "* few groups, or a difference in too few of them: the paired bootstrap alone is too narrow, so "
            "the interval takes the two runs for independent, which is wider"
        )
    if any(difference.method == "none" for difference in differences):
        lines.append("[-]: these data allow no interval: too few groups")
    if sum(difference.verdict in (BETTER, WORSE) for difference in differences):
        lines.append(
            f"{len(differences)} metrics are compared, each at 95%: one may differ by chance. Decide by the "
            "one that was chosen before the test."
        )
    if NO_CLEAR_DIFFERENCE in [difference.verdict for difference in differences]:
        lines.append(
            "No clear difference does not mean equal: the interval says how large the difference may be."
        )
    return lines


def difference_csv(differences: Sequence[Difference]) -> str:
    """Returns CSV: a header, and a row a metric; the first run is a, the second b; floats are exact."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("value", "low", "high")
    heads = [f"{side}_{end}" for side in "ab" for end in ends]
    writer.writerow(
        ["metric", *heads, "difference", "difference_low", "difference_high", "method", "verdict"]
    )
    for difference in differences:
        sides = [asdict(side)[end] for side in (difference.first, difference.second) for end in ends]
        numbers = [*sides, difference.value, difference.low, difference.high]
        cells = ["" if math.isnan(number) else repr(number) for number in numbers]
        writer.writerow([difference.metric, *cells, difference.method, difference.verdict])
    return text.getvalue()


def estimate_text(estimate: Estimate) -> str:
    """Returns a metric with its own interval, as a report shows it."""
    values = {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in asdict(estimate).items()
    }
    return interval_text(values)
