"""What predictions are worth: decisions, metrics with 95% intervals, curves and calibration.

Everything here is NumPy on one `Predictions`; scikit-learn draws the curves and is what the tests
compare with. The intervals come from a bootstrap over groups (patients, or whatever the manifest
groups by), because records of one group are not independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

POSITIVE = 1  # Of two classes in sorted order (NORMAL, PNEUMONIA), the second is the finding.
_SUM_TOLERANCE = 1e-4  # A float32 softmax over a thousand classes stays well inside.
_CHUNK_CELLS = 2**20  # Resamples x records weighed at once: 8 MB an array, a few arrays alive.
_SMALLEST = float(np.finfo(np.float64).eps)  # Where scikit-learn's log_loss clips, too.


@dataclass(frozen=True, eq=False)
class Predictions:
    """The model's answers on one split, beside the labels read in the same pass.

    Attributes:
        class_names: K names, in the order of the columns of `probabilities`; K >= 2.
        ids: N record ids.
        groups: N group names; records that share one are resampled together.
        labels: int64 [N], the true classes, each in [0, K).
        probabilities: float64 [N, K], each row sums to 1. Other float types are converted.

    Raises:
        ValueError: Lengths that disagree, a label out of range, or rows that are no probabilities.
    """

    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Ints
    probabilities: Floats

    def __post_init__(self) -> None:
        classes, records = len(self.class_names), len(self.ids)
        labels, probabilities = np.asarray(self.labels), np.asarray(self.probabilities, np.float64)
        if classes < 2 or records < 1:
            raise ValueError(f"{records} records of classes {self.class_names}; needs >= 1 of >= 2")
        shapes = (len(self.groups), *labels.shape, *probabilities.shape)
        if shapes != (records, records, records, classes):
            raise ValueError(
                f"{records} ids of {classes} classes, but {len(self.groups)} groups, labels "
                f"{labels.shape} and probabilities {probabilities.shape}; all must agree"
            )
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
            found = f"{labels.dtype} from {labels.min()} to {labels.max()}"
            raise ValueError(f"labels are {found}; they must be integers in [0, {classes})")
        possible = np.where((probabilities >= 0) & (probabilities <= 1), probabilities, np.nan)
        right = np.abs(possible.sum(axis=1) - 1) <= _SUM_TOLERANCE  # False for NaN.
        if not right.all():
            first = int(right.argmin())
            raise ValueError(
                f"probabilities of record {self.ids[first]!r} are {probabilities[first].tolist()}; "
                "they must be finite, in [0, 1] and sum to 1 (pass softmax outputs, not logits)"
            )
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "probabilities", probabilities)

    @property
    def binary(self) -> bool:
        """Whether there are two classes, so that a threshold decides."""
        return len(self.class_names) == 2

    @property
    def scores(self) -> Floats:
        """float64 [N]: the positive class's probability, of two classes."""
        return self.probabilities[:, POSITIVE]


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95% interval.

    Attributes:
        value: The metric on all records; NaN if undefined there (a class is missing).
        low: 2.5% percentile over the resamples; NaN with fewer than two groups.
        high: 97.5% percentile.
        undefined: Resamples in which the metric is undefined; the interval leaves them out.
    """

    value: float
    low: float
    high: float
    undefined: int = 0


class Reliability(NamedTuple):
    """Calibration by bin of predicted probability, [B] each, empty bins left out.

    `predicted` is the mean probability in the bin, `observed` the share of its records that came
    true, `low` to `high` the 95% Wilson interval of that share, `counts` the bin's records.
    """

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    counts: Ints

    @property
    def error(self) -> float:
        """Expected calibration error: |observed - predicted|, averaged over the records."""
        return float(np.average(np.abs(self.observed - self.predicted), weights=self.counts))


def decide(predictions: Predictions, threshold: float | None) -> Ints:
    """The class called for each record, int64 [N].

    Of two classes the positive one (index 1) is called where its probability is `>= threshold`;
    0.5 is the most probable class, a tie going to the positive one, and None means 0.5. Of more
    classes the most probable is called, a tie going to the lower index.

    Raises:
        InputError: A threshold outside [0, 1], or any threshold with more than two classes.
    """
    if not predictions.binary:
        if threshold is not None:
            raise InputError(
                f"threshold is {threshold}, but there are {len(predictions.class_names)} classes "
                f"{predictions.class_names}; a threshold needs exactly two: leave it out"
            )
        return predictions.probabilities.argmax(axis=1).astype(np.int64)
    threshold = 0.5 if threshold is None else threshold
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must be a probability from 0 to 1")
    return (predictions.scores >= threshold).astype(np.int64)


def choose_threshold(predictions: Predictions) -> float:
    """The threshold that maximises Youden's J = sensitivity + specificity - 1.

    To be called on validation predictions of two classes. It lies half-way between the two
    neighbouring scores that it separates; among equally good ones the widest gap wins, then the
    one nearest to 0.5. Scores that separate nothing (J <= 0 everywhere) give 0.5.

    Source: Youden, "Index for rating diagnostic tests", Cancer 3 (1950).

    Raises:
        InputError: More than two classes, or records of one class only.
    """
    if not predictions.binary:
        raise InputError(
            f"a threshold needs exactly two classes; there are {predictions.class_names}: "
            "decide by the most probable class instead"
        )
    present = np.bincount(predictions.labels, minlength=2)
    if not present.all():
        counts = dict(zip(predictions.class_names, present.tolist(), strict=True))
        raise InputError(
            f"cannot choose a threshold from records per class {counts}; both classes are needed: "
            "use a larger validation split, or decide at 0.5"
        )
    scores, inverse = np.unique(predictions.scores, return_inverse=True)
    positives = np.bincount(inverse, weights=predictions.labels)
    negatives = np.bincount(inverse) - positives
    # Called positive: all above the gap after score i. J x P x N is whole, so ties are exact.
    found = positives.sum() - np.cumsum(positives)[:-1]
    alarms = negatives.sum() - np.cumsum(negatives)[:-1]
    youden = found * negatives.sum() - alarms * positives.sum()
    if youden.size == 0 or youden.max() <= 0:
        return 0.5
    best = np.flatnonzero(youden == youden.max())
    below, above = scores[best], scores[best + 1]
    middle = (below + above) / 2
    middle = np.where(middle > below, middle, above)  # Neighbouring floats have no middle.
    return float(middle[np.lexsort((np.abs(middle - 0.5), below - above))[0]])


def confusion(predictions: Predictions, threshold: float | None) -> Ints:
    """int64 [K, K]: records by true class (row) and called class (column)."""
    classes = len(predictions.class_names)
    cells = predictions.labels * classes + decide(predictions, threshold)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def worst_mistakes(predictions: Predictions, threshold: float | None, n: int) -> Ints:
    """Up to n indices of wrong answers, int64: the true class's probability lowest first."""
    wrong = np.flatnonzero(decide(predictions, threshold) != predictions.labels)
    given = predictions.probabilities[wrong, predictions.labels[wrong]]
    return wrong[np.argsort(given, kind="stable")][:n].astype(np.int64)


def ranks_both(predictions: Predictions, class_index: int = POSITIVE) -> bool:
    """Whether a class and the rest both have records, which its two curves need."""
    return 0 < int((predictions.labels == class_index).sum()) < len(predictions.labels)


def roc_curve(predictions: Predictions, class_index: int = POSITIVE) -> tuple[Floats, Floats]:
    """1 - specificity and sensitivity of one class against the rest; needs `ranks_both`."""
    from sklearn import metrics

    scores = predictions.probabilities[:, class_index]
    alarms, found, _ = metrics.roc_curve(predictions.labels == class_index, scores)
    return alarms, found


def pr_curve(predictions: Predictions, class_index: int = POSITIVE) -> tuple[Floats, Floats]:
    """Recall, from 1 to 0, and precision of one class against the rest; needs `ranks_both`."""
    from sklearn import metrics

    truth, scores = predictions.labels == class_index, predictions.probabilities[:, class_index]
    precision, recall, _ = metrics.precision_recall_curve(truth, scores)
    return recall, precision


def reliability_curve(predictions: Predictions, bins: int = 10) -> Reliability:
    """How often what was predicted with probability p came true, in bins of equal width.

    Of two classes the positive class's probability is binned against its label; of more, the
    highest probability against whether that class is the true one.

    Source of the interval: Wilson, "Probable inference", J. Am. Stat. Assoc. 22 (1927).
    """
    if predictions.binary:
        claimed, truth = predictions.scores, predictions.labels == POSITIVE
    else:
        claimed = predictions.probabilities.max(axis=1)
        truth = predictions.probabilities.argmax(axis=1) == predictions.labels
    chosen = np.minimum((claimed * bins).astype(np.int64), bins - 1)
    counts = np.bincount(chosen, minlength=bins)
    used = counts > 0
    n = counts[used]
    observed = np.bincount(chosen, weights=truth, minlength=bins)[used] / n
    predicted = np.bincount(chosen, weights=claimed, minlength=bins)[used] / n
    z = 1.959963984540054  # The normal distribution's 97.5% quantile.
    centre = (observed + z**2 / (2 * n)) / (1 + z**2 / n)
    spread = z / (1 + z**2 / n) * np.sqrt(observed * (1 - observed) / n + z**2 / (4 * n**2))
    low, high = (centre - spread).clip(0, 1), (centre + spread).clip(0, 1)
    return Reliability(predicted, observed, low, high, n)


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
    """The metrics with their 95% percentile intervals, bootstrapped by group.

    Groups are drawn with replacement, as many as there are; all records of a drawn group come
    along, as often as it was drawn. Values equal scikit-learn's. Loss is the cross-entropy in nats;
    Brier is the mean squared error of the positive class's probability, or, of more than two
    classes, the sum over classes. With more than two classes AUROC, AUPRC, sensitivity,
    specificity, precision and F1 are macro averages over one-against-the-rest. A metric whose
    denominator is zero is undefined; only precision counts as 0 where nothing was called, as in
    scikit-learn.

    Returns:
        accuracy, auroc, auprc, sensitivity, specificity, precision, f1, balanced_accuracy, loss
        and brier, each an `Estimate`; the same for the same seed.

    Raises:
        InputError: As in `decide`.
    """
    bench = _Bench(predictions, threshold)
    values = bench.point()
    if bench.groups < 2:
        return {name: Estimate(value, np.nan, np.nan) for name, value in values.items()}
    rows = max(1, _CHUNK_CELLS // len(predictions.labels))
    drawn = [bench.measure(d) for d in _draws(bench.groups, resamples, rows, seed)]
    result = {}
    for name, value in values.items():
        sample = np.concatenate([chunk[name] for chunk in drawn])
        sample = sample[np.isfinite(sample)]
        low, high = np.percentile(sample, (2.5, 97.5)) if sample.size else (np.nan, np.nan)
        result[name] = Estimate(value, float(low), float(high), resamples - sample.size)
    return result


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
        self._binary = predictions.binary
        self._classes = len(predictions.class_names)
        shown = [POSITIVE] if self._binary else range(self._classes)
        rankings = [_Ranking(predictions, index) for index in shown]
        self._rankings = [(ranking, inverse[ranking.order]) for ranking in rankings]
        # Sums over records are sums over groups of each group's sum: one small matrix product.
        columns = _record_columns(predictions, decide(predictions, threshold))
        self._sums = np.stack(
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
        shown = slice(POSITIVE, POSITIVE + 1) if self._binary else slice(None)
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


def _record_columns(predictions: Predictions, decided: Ints) -> list[Floats]:
    """What each record adds to the sums: float64 [N] each, 4 + 3 K of them."""
    labels, probabilities = predictions.labels, predictions.probabilities
    given = probabilities[np.arange(len(labels)), labels].clip(_SMALLEST, 1 - _SMALLEST)
    truth = (labels[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)
    calls = (decided[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)
    squares = (probabilities - truth) ** 2
    brier = squares[:, POSITIVE] if predictions.binary else squares.sum(axis=1)
    right = (decided == labels).astype(np.float64)
    sums = [np.ones(len(labels)), right, -np.log(given), brier]
    return [*sums, *truth.T, *calls.T, *(truth * calls).T]
