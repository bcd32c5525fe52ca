"""Intervals that need no resampling, for few groups and for groups that all agree.

If all predictions are right, a percentile bootstrap gives [1, 1], however few they are; with few groups it is
too narrow. Here the group is the unit: if 3 patients are all predicted right, sensitivity is at least 0.29,
however many images each has.
"""

from collections.abc import Callable, Sequence

import numpy as np

from trainer.evaluation.predictions import Floats

Interval = tuple[float, float]

_TAIL = 0.025
# Below these numbers of groups the coverage was less than 93% in a simulation.
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
    """The 95% interval of a share of so many groups; [0, 1] of none.

    For `share * groups` of `groups` whole it is scipy's `binomtest(k, n).proportion_ci(method="exact")`; the
    same quantiles of the beta distribution serve where they are not.

    Source: Clopper and Pearson, Biometrika 26 (1934); with effective numbers of clusters: Korn and Graubard,
    Survey Methodology 24 (1998).
    """
    from scipy.special import betaincinv

    hits, misses = share * groups, (1 - share) * groups
    low = float(betaincinv(hits, misses + 1, _TAIL)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - _TAIL)) if misses > 0 else 1.0
    return low, high


def area(value: float, positives: float, negatives: float) -> Interval:
    """The 95% interval of an AUROC of so many groups with and without the class; [0, 1] without any.

    It holds all areas from which the value is no further away than their own standard error allows. So an
    AUROC of 1 gets a lower end below 1; a standard error at the value itself, also DeLong's, would be 0.

    With fewer than ten groups on a side the AUROC is also taken as a share of independent pairs, each of a
    group with the class and one without. There are only as many as groups on the smaller side.

    Source: Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic.
    Part 2", Statistics in Medicine 25 (2006), method 5; the variance is Hanley and McNeil's (1982).
    """
    if (pairs := min(positives, negatives)) <= 0:
        return 0.0, 1.0
    more = max((positives + negatives) / 2 - 1, 0.0)

    def too_far(theta: float) -> bool:
        spread = 1 + more * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        variance = theta * (1 - theta) * spread / (positives * negatives)
        return (value - theta) ** 2 > _Z**2 * variance

    low, high = _edge(too_far, value, 0.0), _edge(too_far, value, 1.0)
    if pairs >= _TOO_FEW_TO_SCORE:
        return low, high
    of_pairs = proportion(value, pairs)
    return min(low, of_pairs[0]), max(high, of_pairs[1])


def f1(overlap: float, groups: float) -> Interval:
    """The 95% interval of F1 = 2 J / (1 + J), from that of J.

    J, the overlap, is tp / (tp + fp + fn), so it is a share.
    """
    low, high = (2 * end / (1 + end) for end in proportion(overlap, groups))
    return low, high


def correlation(value: float, groups: float, classes: int) -> Interval:
    """The 95% interval of a Matthews correlation of K classes, the rarest of which has so many groups.

    If the classes are equally frequent and confused alike, the correlation is (K a - 1) / (K - 1), where a is
    the accuracy. So its interval follows from that of a share a of K times the groups of the rarest class.
    With other frequencies it is wider than need be. It holds the truth in at least 94.5% of cases, counted
    over all outcomes of two classes, and in a simulation of 3 to 8 classes.
    """
    share = max((1 + (classes - 1) * value) / classes, 0.0)
    low, high = ((classes * end - 1) / (classes - 1) for end in proportion(share, classes * groups))
    return min(low, value), high


def mean(values: Sequence[float], intervals: Sequence[Interval], groups: float) -> Interval:
    """The 95% interval of the mean of independent estimates, from the interval of each.

    The distances from the values to their ends add up as standard errors do. If the estimates together rest
    on very few groups, the sides are too skewed for that: then the ends are averaged, which is wider.

    Args:
        values: The estimates.
        intervals: The interval of each.
        groups: Groups that the estimate with the fewest rests on.

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


def _edge(too_far: Callable[[float], bool], inside: float, outside: float) -> float:
    """The last point on the way from a value to a bound that is not too far; maybe the bound itself."""
    if not too_far(outside):
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if too_far(middle):
            outside = middle
        else:
            inside = middle
    return inside
