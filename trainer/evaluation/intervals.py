"""Metrics with 95% intervals: by a bootstrap over groups, or exact ones where that would be too narrow.

A group is a patient, or whatever the manifest groups by. Groups are drawn, not records, because the records
of one group are not independent.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from trainer.evaluation import exact
from trainer.evaluation.metric_table import BY_NAME, OF_A_CLASS, names
from trainer.evaluation.predictions import Floats, Ints, Predictions, decide

FEW_GROUPS: Final = 50  # With fewer, the bootstrap is too narrow: docs/decisions.md has the coverage.

_CHUNK_CELLS = 2**20  # Resamples x records weighed at once: 8 MB an array, a few arrays alive.

_ROUNDING = 1e-9  # Ends this close are one point: sums are rounded.

_SMALLEST = float(np.finfo(np.float64).eps)  # Where scikit-learn's log_loss clips, too.


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95% interval.

    Attributes:
        value: The metric on all records; NaN if it is undefined there (a class has no records).
        low: Lower end; NaN where the data allow no interval.
        high: Upper end; NaN likewise.
        undefined: Resamples in which the metric is undefined; the interval leaves them out.
        method: "bootstrap": from the 2.5% to the 97.5% percentile over the resamples. "exact": the same,
            widened to the interval of `trainer.evaluation.exact` where that reaches further. "none": no
            interval.
    """

    value: float
    low: float
    high: float
    undefined: int = 0
    method: str = "bootstrap"

    def to_json(self) -> dict[str, float | int | str | None]:
        """The fields for JSON, which has no NaN: undefined is null."""
        values = asdict(self)
        return {k: v if isinstance(v, str) or math.isfinite(v) else None for k, v in values.items()}


Samples = dict[str, Floats]  # by metric: its value in each resample, NaN where undefined
_Parts = tuple[list[float], list[tuple[float, exact.Interval]]]  # values; groups and interval of each
Exact = tuple[float, exact.Interval | None]  # effective groups, and the interval that needs no resampling


def point_values(predictions: Predictions, threshold: float | None) -> dict[str, float]:
    """The values of `estimates` alone, without intervals; NaN where undefined."""
    return _GroupSums(predictions, threshold).point()


def class_ranking(predictions: Predictions, class_index: int) -> tuple[float, float]:
    """AUROC and average precision of one class against the rest; NaN where undefined."""
    once = np.ones((1, len(predictions.labels)))
    area, average = _Ranking(predictions, class_index).measure(once)
    return float(area[0]), float(average[0])


def estimates(
    predictions: Predictions, threshold: float | None, *, resamples: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """The metrics with their 95% intervals by group.

    Groups are drawn with replacement, as many as there are. All records of a group that is drawn come along,
    as often as it is drawn. Values equal scikit-learn's. Loss is the cross-entropy in nats. Brier is the mean
    squared error of the positive class's probability; with more than two classes it is the sum over them.
    With more than two classes a metric that `metric_table` calls averaged is the mean over each class against
    the rest. A metric whose denominator is zero is undefined; only precision is 0 where no record was
    predicted as the class, as in scikit-learn.

    The percentiles are the interval, unless it rests on fewer than `FEW_GROUPS` effective groups, is a point,
    or reaches a bound of the metric. There it would be narrower than the data allow, and an interval that
    needs no resampling widens it. Loss and Brier have none, so they get no interval.

    Returns:
        The metrics of `metric_table.REPORTED` by name; the same for the same seed.

    Raises:
        InputError: As in `decide`.
    """
    return resampled(predictions, threshold, resamples=resamples, seed=seed)[0]


def resampled(
    predictions: Predictions, threshold: float | None, *, resamples: int = 2000, seed: int = 0
) -> tuple[dict[str, Estimate], Samples]:
    """The `estimates`, and each metric in each resample, float64 [resamples], NaN where undefined.

    Resample r of the same seed draws the same groups for all models that predict the same records: so two
    models can be compared pair by pair.
    """
    sums = _GroupSums(predictions, threshold)
    samples = _joined([sums.measure(counts) for counts in _draws(sums, resamples, seed)])
    exactly, values = sums.exactly(sums.exact_parts()), sums.point()
    return {name: _estimate(name, values[name], samples[name], exactly[name]) for name in values}, samples


def estimates_of_classes(
    predictions: Predictions, threshold: float | None, *, resamples: int = 2000, seed: int = 0
) -> tuple[dict[str, Estimate], list[dict[str, Estimate]]]:
    """The `estimates`, and for each class against the rest those of `metric_table.OF_A_CLASS`.

    All come from the same resamples, so the table of the classes costs no more than their mean.
    """
    sums = _GroupSums(predictions, threshold)
    parts = [sums.measure_both(counts) for counts in _draws(sums, resamples, seed)]
    samples, of_classes = _joined([whole for whole, _ in parts]), _joined([each for _, each in parts])
    exact_parts = sums.exact_parts()
    exactly = sums.exactly(exact_parts)
    point, points = sums.measure_both(np.ones((1, sums.groups)))
    overall = {
        name: _estimate(name, float(value[0]), samples[name], exactly[name]) for name, value in point.items()
    }
    return overall, [
        {
            name: _estimate(name, float(points[name][0, k]), of_classes[name][:, k], exact_parts[name][1][k])
            for name in names(OF_A_CLASS)
        }
        for k in range(len(predictions.class_names))
    ]


def _estimate(name: str, value: float, sample: Floats, exactly: Exact) -> Estimate:
    """A metric with the interval that its resamples and its groups allow."""
    resamples, sample = len(sample), sample[np.isfinite(sample)]
    undefined = resamples - sample.size
    if not np.isfinite(value):
        return Estimate(value, np.nan, np.nan, undefined, "none")
    # Of many classes each resample may miss one: then it says nothing, as a point says nothing.
    low, high = map(float, np.percentile(sample, (2.5, 97.5))) if sample.size else (value, value)
    groups, ends = exactly
    bounds = BY_NAME[name].bounds
    inside = bounds is None or (low > bounds[0] + _ROUNDING and high < bounds[1] - _ROUNDING)
    if groups >= FEW_GROUPS and high - low > _ROUNDING and inside:
        return Estimate(value, low, high, undefined)
    if ends is None:
        return Estimate(value, np.nan, np.nan, undefined, "none")
    return Estimate(value, min(low, ends[0]), max(high, ends[1]), undefined, "exact")


def _joined(parts: Sequence[Samples]) -> Samples:
    """The chunks of resamples in one array a metric."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _draws(sums: "_GroupSums", resamples: int, seed: int) -> Iterator[Floats]:
    """Yields float64 [<= rows, groups]: how often each resample drew each group, rows by rows."""
    generator, groups = np.random.default_rng(seed), sums.groups
    rows = max(1, _CHUNK_CELLS // sums.records)
    for start in range(0, resamples, rows):
        n = min(rows, resamples - start)
        drawn = generator.integers(groups, size=(n, groups)) + groups * np.arange(n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * groups)
        yield counts.reshape(n, groups).astype(np.float64)


def _ratio(above: Floats, below: Floats) -> Floats:
    """`above / below`, NaN where `below` is zero."""
    return np.divide(above, below, out=np.full_like(below, np.nan), where=below != 0)


def _correlation(total: Floats, right: Floats, actual: Floats, predicted: Floats) -> Floats:
    """Matthews correlation, NaN where all records are of one class, or predicted as one.

    Args:
        total: float64 [R], records.
        right: float64 [R], records that are predicted right.
        actual: float64 [R, K], records of each class.
        predicted: float64 [R, K], records predicted as each class.

    Source: Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient",
    Computational Biology and Chemistry 28 (2004); with two classes it is Matthews' coefficient.
    """
    covariance = total * right - (actual * predicted).sum(axis=1)
    spreads = [total**2 - (each**2).sum(axis=1) for each in (actual, predicted)]
    return _ratio(covariance, np.sqrt(spreads[0] * spreads[1]))


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
        tp = np.cumsum(weights * self._truth, axis=1)
        predicted = np.cumsum(weights, axis=1)
        if self._ends is not None:
            tp, predicted = tp[:, self._ends], predicted[:, self._ends]
        positives = tp[:, -1]
        negatives = predicted[:, -1] - positives
        gained = np.diff(tp, axis=1, prepend=0)
        # Each positive beats the negatives below it and half of those beside it.
        fp = predicted - tp
        beside = np.diff(fp, axis=1, prepend=0)
        wins = np.einsum("rn,rn->r", gained, negatives[:, None] - fp + beside / 2)
        precision = np.divide(tp, predicted, out=predicted, where=predicted != 0)
        average = _ratio(np.einsum("rn,rn->r", gained, precision), positives)
        return _ratio(wins, positives * negatives), average


class _GroupSums:
    """Predictions summed up by group, so that any number of resamples is a few array operations."""

    def __init__(self, predictions: Predictions, threshold: float | None) -> None:
        group_names, inverse = np.unique(np.asarray(predictions.groups), return_inverse=True)
        self.groups, self.records = len(group_names), len(predictions.labels)
        self._classes = len(predictions.class_names)
        positive = predictions.positive
        # The classes whose metrics are shown: the positive one, or the mean of more than two.
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

    def measure(self, counts: Floats) -> Samples:
        """Every metric, float64 [R], for float64 [R, groups] of how often each group counts."""
        return self.measure_both(counts)[0]

    def measure_both(self, counts: Floats) -> tuple[Samples, Samples]:
        """Every metric, float64 [R], and those of the K classes that are shown, float64 [R, K]."""
        sums = counts @ self._sums
        total, right, loss, brier = sums[:, :4].T
        actual, predicted, tp = sums[:, 4:].reshape(len(sums), 3, self._classes).transpose(1, 0, 2)
        recall = _ratio(tp, actual)
        rest = total[:, None] - actual
        areas, averages = zip(
            *(ranking.measure(counts[:, groups]) for ranking, groups in self._rankings), strict=True
        )
        shown = (slice(None), self._shown)
        of_classes = {
            "auroc": np.asarray(areas).T,
            "auprc": np.asarray(averages).T,
            "sensitivity": recall[shown],
            "specificity": _ratio(rest - (predicted - tp), rest)[shown],
            "precision": np.where(actual > 0, np.nan_to_num(_ratio(tp, predicted)), np.nan)[shown],
            "f1": np.where(actual > 0, _ratio(2 * tp, actual + predicted), np.nan)[shown],
        }
        return {
            "accuracy": right / total,
            **{name: each.mean(axis=1) for name, each in of_classes.items()},
            "balanced_accuracy": recall.mean(axis=1),
            "mcc": _correlation(total, right, actual, predicted),
            "loss": loss / total,
            "brier": brier / total,
        }, of_classes

    def exactly(self, parts: dict[str, _Parts]) -> dict[str, Exact]:
        """By metric: the effective groups that it rests on, and its interval without resampling, if any.

        `parts` are the `exact_parts`.
        """
        total, right = self._sums[:, :1], self._sums[:, 1:2]
        actual, predicted, tp = self._class_sums()
        everyone = float(exact.effective_groups(total)[0])
        there = actual[:, actual.any(axis=0)]  # the classes that have records
        rarest = float(exact.effective_groups(there).min())
        of_classes = (each.sum(axis=0, keepdims=True) for each in (actual, predicted))
        value = _correlation(total.sum(axis=0), right.sum(axis=0), *of_classes)
        return {
            "accuracy": _mean(*_of_shares(right, total)),
            **{name: _mean(values, each) for name, (values, each) in parts.items()},
            "balanced_accuracy": _mean(*_of_shares(tp, actual)),
            "mcc": (rarest, exact.correlation(float(value[0]), rarest, max(2, there.shape[1]))),
            "loss": (everyone, None),
            "brier": (everyone, None),
        }

    def _class_sums(self) -> tuple[Floats, Floats, Floats]:
        """Records of each group by class, float64 [groups, K]: of the class, predicted as it, and both."""
        actual, predicted, tp = self._sums[:, 4:].reshape(self.groups, 3, self._classes).transpose(1, 0, 2)
        return actual, predicted, tp

    def exact_parts(self) -> dict[str, _Parts]:
        """By averaged metric, of each class that is shown: value, effective groups and interval."""
        shown = (slice(None), self._shown)
        actual, predicted, tp = (each[shown] for each in self._class_sums())
        rest = self._sums[:, :1] - actual
        # A ranking rests on the effective groups with the class, or on those with another: the fewer count.
        sides = list(zip(exact.effective_groups(actual), exact.effective_groups(rest), strict=True))
        fewer = [float(min(pair)) for pair in sides]
        ones = [ranking.measure(np.ones((1, len(groups)))) for ranking, groups in self._rankings]
        areas, averages = ([float(value[0]) for value in column] for column in zip(*ones, strict=True))
        ranked = [exact.area(area, *pair) for area, pair in zip(areas, sides, strict=True)]
        # Boyd and others (ECML PKDD 2013) take average precision for a share of the positives; of the
        # negatives, where those are fewer, it is known no better.
        precise = [exact.proportion(value, groups) for value, groups in zip(averages, fewer, strict=True)]
        return {
            "auroc": (areas, list(zip(fewer, ranked, strict=True))),
            "auprc": (averages, list(zip(fewer, precise, strict=True))),
            "sensitivity": _of_shares(tp, actual),
            "specificity": _of_shares(rest - predicted + tp, rest),
            "precision": _of_shares(tp, predicted),
            "f1": _of_shares(tp, actual + predicted - tp, of=exact.f1),
        }


def _of_shares(
    hits: Floats, among: Floats, of: Callable[[float, float], exact.Interval] = exact.proportion
) -> _Parts:
    """K values that follow from shares, and the effective groups and the interval of each.

    Args:
        hits: float64 [G, K], records of each group that count.
        among: float64 [G, K], records that could.
        of: Makes the interval from a share and its effective groups.
    """
    groups = exact.effective_groups(among)
    shares = np.nan_to_num(_ratio(hits.sum(axis=0), among.sum(axis=0)))
    each = [
        (float(count), of(float(share), float(count))) for share, count in zip(shares, groups, strict=True)
    ]
    if of is exact.f1:
        shares = 2 * shares / (1 + shares)
    return shares.tolist(), each


def _mean(values: list[float], each: list[tuple[float, exact.Interval]]) -> Exact:
    """The fewest effective groups of some values, and the interval of their mean."""
    fewest = min(groups for groups, _ in each)
    return fewest, exact.mean(values, [ends for _, ends in each], fewest)


def _record_columns(predictions: Predictions, decided: Ints) -> list[Floats]:
    """What each record adds to the sums: float64 [N] each, 4 + 3 K of them."""
    labels, probabilities = predictions.labels, predictions.probabilities
    given = probabilities[np.arange(len(labels)), labels].clip(_SMALLEST, 1 - _SMALLEST)
    truth = (labels[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)
    predicted = (decided[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)
    squares = (probabilities - truth) ** 2
    brier = squares[:, predictions.positive] if predictions.binary else squares.sum(axis=1)
    right = (decided == labels).astype(np.float64)
    sums = [np.ones(len(labels)), right, -np.log(given), brier]
    return [*sums, *truth.T, *predicted.T, *(truth * predicted).T]
