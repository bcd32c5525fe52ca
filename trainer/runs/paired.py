"""The difference of two models on the same records, by a paired bootstrap over groups.

Both models are weighed on the same resamples of the groups. So what makes a resample easy or hard for both of
them cancels out, and a difference is seen that two separate intervals would hide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from trainer.evaluation.intervals import Estimate, resampled
from trainer.evaluation.predictions import Floats, Predictions, decide
from trainer.runs.reported import lower_is_better

RESAMPLES: Final = 2000
BETTER: Final = "better"
WORSE: Final = "worse"
SAME: Final = "the same"  # both models give the same answers
NO_CLEAR_DIFFERENCE: Final = "no clear difference"
UNDEFINED: Final = "undefined"
_ROUNDING: Final = 1e-9  # sums are rounded


@dataclass(frozen=True)
class Difference:
    """A metric of two models, and the first one's minus the second one's with its 95% interval.

    Attributes:
        metric: its name.
        first: the first model's, with its own interval.
        second: the second model's.
        value: the difference; NaN if one of them is undefined.
        low: lower end of the interval; NaN where the data allow none.
        high: upper end; likewise.
        method: "bootstrap": from the 2.5% to the 97.5% percentile over the resamples. "separate": that and
            the interval from the two separate ones, whichever end is further out. "none": no interval.
            "identical": the models give the same answers, so it is 0 whatever the data.
    """

    metric: str
    first: Estimate
    second: Estimate
    value: float
    low: float
    high: float
    method: str

    @property
    def verdict(self) -> str:
        """What these data say of the first model: BETTER, WORSE, SAME, NO_CLEAR_DIFFERENCE or UNDEFINED."""
        if self.method == "identical":
            return SAME
        if math.isnan(self.value):
            return UNDEFINED
        if math.isnan(self.low) or self.low <= 0 <= self.high:
            return NO_CLEAR_DIFFERENCE
        return BETTER if (self.value > 0) != lower_is_better(self.metric) else WORSE


def differences(
    first: Predictions,
    second: Predictions,
    thresholds: tuple[float | None, float | None],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Difference]:
    """Returns the difference of each metric; the same for the same seed.

    The percentiles are the interval, unless a metric's own interval is not by the bootstrap alone (few
    groups, or a value at a bound), or the difference is the same in all resamples. There the
    bootstrap is narrower than the data allow, so the interval from the two separate ones widens it. That one
    takes the models for independent, which is too wide where they agree: it tells too little apart, never too
    much.

    Args:
        first: of one model.
        second: of the other one: the same records in the same order.
        thresholds: of the two models; None with more than two classes.
        resamples: how often the groups are drawn.
        seed: of the draws.

    Source: R. G. Newcombe, "Interval estimation for the difference between independent proportions",
    Statistics in Medicine 17 (1998), method 10; for other measures Zou and Donner, Statistics in Medicine 27
    (2008).

    Raises:
        ValueError: the records are not the same.
    """
    if (first.ids, first.groups) != (second.ids, second.groups) or (first.labels != second.labels).any():
        raise ValueError("two models are compared on the same records, in the same order")
    sides = [
        resampled(predictions, threshold, resamples=resamples, seed=seed)
        for predictions, threshold in zip((first, second), thresholds, strict=True)
    ]
    (one, sample_one), (two, sample_two) = sides
    if _same_answers(first, second, thresholds):
        return [Difference(name, one[name], two[name], 0.0, 0.0, 0.0, "identical") for name in one]
    return [_difference(name, one[name], two[name], sample_one[name] - sample_two[name]) for name in one]


def _same_answers(
    first: Predictions, second: Predictions, thresholds: tuple[float | None, float | None]
) -> bool:
    one, two = decide(first, thresholds[0]), decide(second, thresholds[1])
    return np.array_equal(first.probabilities, second.probabilities) and np.array_equal(one, two)


def _difference(metric: str, one: Estimate, two: Estimate, sample: Floats) -> Difference:
    value = one.value - two.value
    finite = sample[np.isfinite(sample)]
    if math.isnan(value) or "none" in (one.method, two.method) or not finite.size:
        return Difference(metric, one, two, value, math.nan, math.nan, "none")
    low, high = map(float, np.percentile(finite, (2.5, 97.5)))
    if one.method == two.method == "bootstrap" and high - low > _ROUNDING:
        return Difference(metric, one, two, value, low, high, "bootstrap")
    apart = _separate(one, two)
    return Difference(metric, one, two, value, min(low, apart[0]), max(high, apart[1]), "separate")


def _separate(one: Estimate, two: Estimate) -> tuple[float, float]:
    """Returns the 95% interval of a difference from the intervals of two independent estimates."""
    value = one.value - two.value
    below = math.hypot(one.value - one.low, two.high - two.value)
    above = math.hypot(one.high - one.value, two.value - two.low)
    return value - below, value + above


def by_verdict(found: Sequence[Difference], verdict: str) -> list[str]:
    """Returns the names of the metrics with a verdict."""
    return [difference.metric for difference in found if difference.verdict == verdict]
