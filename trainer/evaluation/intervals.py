"""Metrics with 95% intervals, by a bootstrap over groups, or where that would be too narrow by exact ones.

Groups are patients, or whatever the manifest groups by, because records of one group are not independent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from trainer.evaluation import exact
from trainer.evaluation.predictions import Floats, Ints, Predictions, decide

FEW_GROUPS: Final = 50  # Of fewer a percentile bootstrap is too narrow: docs/decisions.md has the coverage.

_CHUNK_CELLS = 2**20  # Resamples x records weighed at once: 8 MB an array, a few arrays alive.

_ROUNDING = 1e-9  # Ends this close are one point: sums are rounded.

_SMALLEST = float(np.finfo(np.float64).eps)  # Where scikit-learn's log_loss clips, too.


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95% interval.

    Attributes:
        value: The metric on all records; NaN if undefined there (a class is missing).
        low: Lower end; NaN where the data allow no interval.
        high: Upper end; likewise.
        undefined: Resamples in which the metric is undefined; the interval leaves them out.
        method: "bootstrap": from the 2.5% to the 97.5% percentile over the resamples. "exact": that and what
            `trainer.evaluation.exact` says, whichever end is further out. "none": no interval.
    """

    value: float
    low: float
    high: float
    undefined: int = 0
    method: str = "bootstrap"


def point_values(predictions: Predictions, threshold: float | None) -> dict[str, float]:
    """The values of `estimates` alone, without intervals; NaN where undefined."""
    return _Bench(predictions, threshold).point()


def class_ranking(predictions: Predictions, class_index: int) -> tuple[float, float]:
    """AUROC and average precision of one class against the rest; NaN where undefined."""
    once = np.ones((1, len(predictions.labels)))
    area, average = _Ranking(predictions, class_index).measure(once)
    return float(area[0]), float(average[0])


def estimates(
    predictions: Predictions, threshold: float | None, *, resamples: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """The metrics with their 95% intervals by group.

    Groups are drawn with replacement, as many as there are; all records of a drawn group come
    along, as often as it was drawn. Values equal scikit-learn's. Loss is the cross-entropy in nats;
    Brier is the mean squared error of the positive class's probability, or, of more than two
    classes, the sum over classes. With more than two classes AUROC, AUPRC, sensitivity,
    specificity, precision and F1 are macro averages over one-against-the-rest. A metric whose
    denominator is zero is undefined; only precision counts as 0 where nothing was called, as in
    scikit-learn.

    The percentiles are the interval, unless it rests on fewer than `FEW_GROUPS` effective groups, is a
    point, or reaches a bound of the metric, 0 or 1: there it would be narrower than the data allow, and
    an interval that needs no resampling widens it. Loss and Brier have none, so they get no interval.

    Returns:
        accuracy, auroc, auprc, sensitivity, specificity, precision, f1, balanced_accuracy, loss
        and brier, each an `Estimate`; the same for the same seed.

    Raises:
        InputError: As in `decide`.
    """
    return resampled(predictions, threshold, resamples=resamples, seed=seed)[0]


def resampled(
    predictions: Predictions, threshold: float | None, *, resamples: int = 2000, seed: int = 0
) -> tuple[dict[str, Estimate], dict[str, Floats]]:
    """The `estimates`, and each metric in each resample, float64 [resamples], NaN where undefined.

    Resample r of the same seed draws the same groups for all models that predict the same records: so two
    models can be compared pair by pair.
    """
    bench = _Bench(predictions, threshold)
    values = bench.point()
    rows = max(1, _CHUNK_CELLS // len(predictions.labels))
    drawn = [bench.measure(d) for d in _draws(bench.groups, resamples, rows, seed)]
    exactly = bench.exactly()
    samples = {name: np.concatenate([chunk[name] for chunk in drawn]) for name in values}
    result = {}
    for name, value in values.items():
        sample = samples[name][np.isfinite(samples[name])]
        undefined = resamples - sample.size
        if not np.isfinite(value):
            result[name] = Estimate(value, np.nan, np.nan, undefined, "none")
            continue
        # Of many classes each resample may miss one: then it says nothing, as a point says nothing.
        low, high = map(float, np.percentile(sample, (2.5, 97.5))) if sample.size else (value, value)
        groups, ends = exactly[name]
        tells = high - low > _ROUNDING and (ends is None or (low > _ROUNDING and high < 1 - _ROUNDING))
        if groups >= FEW_GROUPS and tells:
            result[name] = Estimate(value, low, high, undefined)
        elif ends is None:
            result[name] = Estimate(value, np.nan, np.nan, undefined, "none")
        else:
            result[name] = Estimate(value, min(low, ends[0]), max(high, ends[1]), undefined, "exact")
    return result, samples


def _draws(groups: int, resamples: int, rows: int, seed: int) -> Iterator[Floats]:
    """Yields float64 [<= rows, groups]: how often each resample drew each group."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, rows):
        n = min(rows, resamples - start)
        drawn = generator.integers(groups, size=(n, groups)) + groups * np.arange(n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * groups)
        yield counts.reshape(n, groups).astype(np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    """`above / below`, NaN where `below` is zero."""
    return np.divide(above, below, out=np.full_like(below, np.nan), where=below != 0)


class _Ranking:
    """One class's records, sorted once by falling score, to be weighed many times."""

    def __init__(self, predictions: Predictions, class_index: int) -> None:
        scores = predictions.probabilities[:, class_index]
        self.order = np.argsort(-scores, kind="stable")
        self._truth = (predictions.labels == class_index)[self.order].astype(np.float64)
        ordered = scores[self.order]
        last = np.append(ordered[1:] != ordered[:-1], True)
        self._ends = None if last.all() else np.flatnonzero(last)  # Records of one score are one.

    def measure(self, weights: Floats) -> tuple[Floats, Floats]:
        """AUROC (ties counted half) and average precision, float64 [R] each.

        `weights` is float64 [R, N] over the records in `order`; whole numbers keep sums exact.
        """
        found = np.cumsum(weights * self._truth, axis=1)
        called = np.cumsum(weights, axis=1)
        if self._ends is not None:
            found, called = found[:, self._ends], called[:, self._ends]
        positives = found[:, -1]
        negatives = called[:, -1] - positives
        gained = np.diff(found, axis=1, prepend=0)
        # Each positive beats the negatives below it and half of those beside it.
        alarms = called - found
        beside = np.diff(alarms, axis=1, prepend=0)
        wins = np.einsum("rn,rn->r", gained, negatives[:, None] - alarms + beside / 2)
        precision = np.divide(found, called, out=called, where=called != 0)
        average = _ratio(np.einsum("rn,rn->r", gained, precision), positives)
        return _ratio(wins, positives * negatives), average


class _Bench:
    """Predictions prepared so that any number of weighings of their groups is a few array ops."""

    def __init__(self, predictions: Predictions, threshold: float | None) -> None:
        names, inverse = np.unique(np.asarray(predictions.groups), return_inverse=True)
        self.groups = len(names)
        self._classes = len(predictions.class_names)
        positive = predictions.positive
        # The classes whose metrics are told: their mean, of more than two.
        self._shown = slice(positive, positive + 1) if predictions.binary else slice(None)
        rankings = [_Ranking(predictions, index) for index in range(self._classes)[self._shown]]
        self._rankings = [(ranking, inverse[ranking.order]) for ranking in rankings]
        # Sums over records are sums over groups of each group's sum: one small matrix product.
        columns = _record_columns(predictions, decide(predictions, threshold))
        self._sums: Floats = np.stack(
            [np.bincount(inverse, weights=column, minlength=self.groups) for column in columns], 1
        )

    def point(self) -> dict[str, float]:
        """Every metric with each group counted once."""
        measured = self.measure(np.ones((1, self.groups)))
        return {name: float(value[0]) for name, value in measured.items()}

    def measure(self, counts: Floats) -> dict[str, Floats]:
        """Every metric, float64 [R], for float64 [R, groups] of how often each group counts."""
        sums = counts @ self._sums
        total, right, loss, brier = sums[:, :4].T
        actual, called, both = sums[:, 4:].reshape(len(sums), 3, self._classes).transpose(1, 0, 2)
        recall = _ratio(both, actual)
        rest = total[:, None] - actual
        specificity = _ratio(rest - (called - both), rest)
        precision = np.where(actual > 0, np.nan_to_num(_ratio(both, called)), np.nan)
        f1 = np.where(actual > 0, _ratio(2 * both, actual + called), np.nan)
        areas, averages = zip(
            *(ranking.measure(counts[:, groups]) for ranking, groups in self._rankings), strict=True
        )
        shown = self._shown
        return {
            "accuracy": right / total,
            "auroc": np.mean(areas, axis=0),
            "auprc": np.mean(averages, axis=0),
            "sensitivity": recall[:, shown].mean(axis=1),
            "specificity": specificity[:, shown].mean(axis=1),
            "precision": precision[:, shown].mean(axis=1),
            "f1": f1[:, shown].mean(axis=1),
            "balanced_accuracy": recall.mean(axis=1),
            "loss": loss / total,
            "brier": brier / total,
        }

    def exactly(self) -> dict[str, tuple[float, exact.Interval | None]]:
        """By metric: the effective groups that it rests on, and its interval without resampling, if any."""
        total, right = self._sums[:, :1], self._sums[:, 1:2]
        columns: Floats = self._sums[:, 4:].reshape(self.groups, 3, self._classes)
        actual, called, both = columns.transpose(1, 0, 2)
        rest = total - actual
        shown = (slice(None), self._shown)
        # Of a ranking the effective groups with the class, and those with another: the fewer count.
        sides = list(
            zip(exact.effective_groups(actual[shown]), exact.effective_groups(rest[shown]), strict=True)
        )
        fewer = [min(pair) for pair in sides]
        ones = [ranking.measure(np.ones((1, len(groups)))) for ranking, groups in self._rankings]
        areas, averages = ([float(value[0]) for value in column] for column in zip(*ones, strict=True))
        ranked = [exact.area(area, *pair) for area, pair in zip(areas, sides, strict=True)]
        # Boyd and others (ECML PKDD 2013) take average precision for a share of the positives; of the
        # negatives, where those are fewer, it is known no better.
        precise = [exact.proportion(value, groups) for value, groups in zip(averages, fewer, strict=True)]
        return {
            "accuracy": _by_shares(right, total),
            "auroc": (min(fewer), exact.mean(areas, ranked, min(fewer))),
            "auprc": (min(fewer), exact.mean(averages, precise, min(fewer))),
            "sensitivity": _by_shares(both[shown], actual[shown]),
            "specificity": _by_shares((rest - called + both)[shown], rest[shown]),
            "precision": _by_shares(both[shown], called[shown]),
            "f1": _by_shares(both[shown], (actual + called - both)[shown], of=exact.f1),
            "balanced_accuracy": _by_shares(both, actual),
            "loss": (float(exact.effective_groups(total)[0]), None),
            "brier": (float(exact.effective_groups(total)[0]), None),
        }


def _by_shares(
    found: Floats, among: Floats, of: Callable[[float, float], exact.Interval] = exact.proportion
) -> tuple[float, exact.Interval]:
    """The fewest effective groups of K shares, and the interval of the mean of what follows from them.

    Args:
        found: float64 [G, K], records of each group that count.
        among: float64 [G, K], those that could.
        of: the interval from a share and its groups.
    """
    groups = exact.effective_groups(among)
    shares = np.nan_to_num(_ratio(found.sum(axis=0), among.sum(axis=0)))
    each = [of(float(share), float(count)) for share, count in zip(shares, groups, strict=True)]
    if of is exact.f1:
        shares = 2 * shares / (1 + shares)
    fewest = float(groups.min())
    return fewest, exact.mean(shares.tolist(), each, fewest)


def _record_columns(predictions: Predictions, decided: Ints) -> list[Floats]:
    """What each record adds to the sums: float64 [N] each, 4 + 3 K of them."""
    labels, probabilities = predictions.labels, predictions.probabilities
    given = probabilities[np.arange(len(labels)), labels].clip(_SMALLEST, 1 - _SMALLEST)
    truth = (labels[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)
    calls = (decided[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)
    squares = (probabilities - truth) ** 2
    brier = squares[:, predictions.positive] if predictions.binary else squares.sum(axis=1)
    right = (decided == labels).astype(np.float64)
    sums = [np.ones(len(labels)), right, -np.log(given), brier]
    return [*sums, *truth.T, *calls.T, *(truth * calls).T]
