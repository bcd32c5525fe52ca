"""The confusion matrix, the curves and the calibration of predictions.

Everything here is NumPy on one `Predictions`; scikit-learn computes the curves. The metrics themselves, with
their intervals, are in `intervals`.
"""

from typing import NamedTuple

import numpy as np

from trainer.evaluation.exact import effective_groups
from trainer.evaluation.predictions import Floats, Ints, Predictions, decide


class Reliability(NamedTuple):
    """Calibration by bin of predicted probability, [B] each, empty bins left out.

    `predicted` is the mean probability in the bin, and `observed` the share of its records that are of the
    class. `low` to `high` is the 95% Wilson interval of that share, with groups as the unit. `counts` is the
    number of the bin's records.
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


def confusion(predictions: Predictions, threshold: float | None) -> Ints:
    """int64 [K, K]: records by true class (row) and predicted class (column)."""
    classes = len(predictions.class_names)
    cells = predictions.labels * classes + decide(predictions, threshold)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def outcomes(predictions: Predictions, threshold: float | None) -> tuple[int, int, int, int]:
    """The numbers of true negatives, false positives, false negatives and true positives, of two classes."""
    matrix = confusion(predictions, threshold)
    ordered = matrix if predictions.positive == 1 else matrix[::-1, ::-1]
    tn, fp, fn, tp = ordered.ravel().tolist()
    return tn, fp, fn, tp


def ranks_both(predictions: Predictions, class_index: int) -> bool:
    """Whether a class and the rest both have records; its two curves need that."""
    return 0 < int((predictions.labels == class_index).sum()) < len(predictions.labels)


def roc_curve(predictions: Predictions, class_index: int) -> tuple[Floats, Floats]:
    """1 - specificity and sensitivity of one class against the rest; needs `ranks_both`."""
    from sklearn import metrics

    scores = predictions.probabilities[:, class_index]
    fpr, tpr, _ = metrics.roc_curve(predictions.labels == class_index, scores)
    return fpr, tpr


def pr_curve(predictions: Predictions, class_index: int) -> tuple[Floats, Floats]:
    """Recall, from 1 to 0, and precision of one class against the rest; needs `ranks_both`."""
    from sklearn import metrics

    truth, scores = predictions.labels == class_index, predictions.probabilities[:, class_index]
    precision, recall, _ = metrics.precision_recall_curve(truth, scores)
    return recall, precision


def reliability_curve(predictions: Predictions, bins: int = 10) -> Reliability:
    """How many of the records predicted with probability p are of the class, in bins of equal width.

    With two classes it is the positive class's probability, and the share of records of that class. With more
    it is the highest probability, and the share of records whose most probable class is the true one.

    Source of the interval: Wilson, "Probable inference", J. Am. Stat. Assoc. 22 (1927).
    """
    if predictions.binary:
        given, truth = predictions.scores, predictions.labels == predictions.positive
    else:
        given = predictions.probabilities.max(axis=1)
        truth = predictions.probabilities.argmax(axis=1) == predictions.labels
    chosen = np.minimum((given * bins).astype(np.int64), bins - 1)
    counts = np.bincount(chosen, minlength=bins)
    used = counts > 0
    n = counts[used]
    observed = np.bincount(chosen, weights=truth, minlength=bins)[used] / n
    predicted = np.bincount(chosen, weights=given, minlength=bins)[used] / n
    groups = np.unique(np.asarray(predictions.groups), return_inverse=True)[1]
    sizes = np.zeros((groups.max() + 1, bins))
    np.add.at(sizes, (groups, chosen), 1)
    m = effective_groups(sizes[:, used])  # Records of one group are not independent.
    z = 1.959963984540054  # The normal distribution's 97.5% quantile.
    centre = (observed + z**2 / (2 * m)) / (1 + z**2 / m)
    spread = z / (1 + z**2 / m) * np.sqrt(observed * (1 - observed) / m + z**2 / (4 * m**2))
    low, high = (centre - spread).clip(0, 1), (centre + spread).clip(0, 1)
    return Reliability(predicted, observed, low, high, n)
