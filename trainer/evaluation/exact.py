"""Intervals that need no resampling: what few groups, or groups that all agree, allow to say.

A percentile bootstrap of data that are all right gives [1, 1], whatever their number, and of few groups it is
too narrow. What is here takes the groups as the unit: 3 patients who are all found say that sensitivity is at
least 0.29, however many images each has.
"""

from collections.abc import Callable, Sequence

import numpy as np

from trainer.evaluation.predictions import Floats

Interval = tuple[float, float]

_TAIL = 0.025
# Below these numbers of groups a simulation of coverage found less than 93%.
_TOO_FEW_TO_SCORE = 10
_TOO_FEW_TO_ADD = 20
_Z = 1.959963984540054  # The normal distribution's 97.5% quantile.


def effective_groups(sizes: Floats) -> Floats:
    """How many groups of equal size weigh as much as groups of these sizes, float64 [K].

    `sizes` is float64 [G, K]: the records that each group has in each of K counts. The result is the number
    of groups that have any if those are equal, and less if a few groups have most of the records.

    Source: Kish, "Survey Sampling" (1965): the design effect of unequal weights.
    """
    squares = np.square(sizes).sum(axis=0)
    return np.divide(sizes.sum(axis=0) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)


def proportion(share: float, groups: float) -> Interval:
    """The 95% interval of a share that was seen in so many groups; [0, 1] if in none.

    For `share * groups` of `groups` whole it is scipy's `binomtest(k, n).proportion_ci(method="exact")`; the
    same quantiles of the beta distribution serve where they are not.

    Source: Clopper and Pearson, Biometrika 26 (1934); with effective numbers of clusters: Korn and Graubard,
    Survey Methodology 24 (1998).
    """
    from scipy.special import betaincinv

    found, missed = share * groups, (1 - share) * groups
    low = float(betaincinv(found, missed + 1, _TAIL)) if found > 0 else 0.0
    high = float(betaincinv(found + 1, missed, 1 - _TAIL)) if missed > 0 else 1.0
    return low, high


def area(value: float, positives: float, negatives: float) -> Interval:
    """The 95% interval of an AUROC seen in so many groups with and without the class; [0, 1] without any.

    It holds all areas that the value is no surprise for: whose own standard error reaches it. So an AUROC
    of 1 gets a lower end below 1, where a standard error at the value itself, DeLong's too, is 0.

    Of fewer than ten groups on a side it is also the share of so many pairs, each of a group with and one
    without the class, that are ordered rightly: no more pairs are independent.

    Source: Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic.
    Part 2", Statistics in Medicine 25 (2006), method 5; the variance is Hanley and McNeil's (1982).
    """
    if (pairs := min(positives, negatives)) <= 0:
        return 0.0, 1.0
    more = max((positives + negatives) / 2 - 1, 0.0)

    def surprising(theta: float) -> bool:
        spread = 1 + more * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        variance = theta * (1 - theta) * spread / (positives * negatives)
        return (value - theta) ** 2 > _Z**2 * variance

    low, high = _edge(surprising, value, 0.0), _edge(surprising, value, 1.0)
    if pairs >= _TOO_FEW_TO_SCORE:
        return low, high
    of_pairs = proportion(value, pairs)
    return min(low, of_pairs[0]), max(high, of_pairs[1])


def f1(overlap: float, groups: float) -> Interval:
    """The 95% interval of F1 = 2 J / (1 + J), by that of J.

    J, the overlap, is a share: of the records that are of the class or called it, those that are both.
    """
    low, high = (2 * end / (1 + end) for end in proportion(overlap, groups))
    return low, high


def mean(values: Sequence[float], intervals: Sequence[Interval], groups: float) -> Interval:
    """The 95% interval of the mean of independent estimates, from the interval of each.

    Each side adds up as standard errors do. Of estimates that together rest on very few groups the sides are
    too skewed for that: the ends are averaged, which is wider.

    Args:
        values: the estimates.
        intervals: of each.
        groups: that the one with the fewest rests on.

    Source: Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine
    27 (2008).
    """
    lows, highs = zip(*intervals, strict=True)
    if groups * len(values) < _TOO_FEW_TO_ADD:
        return float(np.mean(lows)), float(np.mean(highs))
    middle, count = float(np.mean(values)), len(values)
    below = float(np.linalg.norm(np.subtract(values, lows))) / count
    above = float(np.linalg.norm(np.subtract(highs, values))) / count
    return max(middle - below, 0.0), min(middle + above, 1.0)


def _edge(surprising: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where, on the way from a value to a bound, surprise begins; the bound if it does not."""
    if not surprising(outside):
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if surprising(middle):
            outside = middle
        else:
            inside = middle
    return inside
