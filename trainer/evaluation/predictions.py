"""A model's probabilities on one split, and the classes that a threshold decides from them.

Everything here is NumPy on one `Predictions`; all metrics, pictures and tables are made from it.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError, first_names

Floats = npt.NDArray[np.float64]

Ints = npt.NDArray[np.int64]

_SUM_TOLERANCE = 1e-4  # A float32 softmax over a thousand classes stays well inside.


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's probabilities on one split, and the labels that were read in the same pass.

    Attributes:
        class_names: K names, in the order of the columns of `probabilities`; K >= 2.
        ids: N record ids.
        groups: N group names; records that share one are resampled together.
        labels: int64 [N], the true classes, each in [0, K).
        probabilities: float64 [N, K], each row sums to 1. Other float types are converted.
        positive: Index of the positive class of two, whose sensitivity is reported: 0 or 1. With more
            classes it is not used.

    Raises:
        ValueError: Lengths disagree, a label is out of range, `positive` is neither 0 nor 1, or a row holds
            no probabilities.
    """

    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: Ints
    probabilities: Floats
    positive: int = 1

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
        if self.positive not in (0, 1):
            raise ValueError(
                f"positive is {self.positive}; it must be the index of one of two classes, 0 or 1"
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
        return self.probabilities[:, self.positive]

    @property
    def positive_name(self) -> str:
        """The positive class's name, of two classes; "" of more."""
        return self.class_names[self.positive] if self.binary else ""

    def of(self, positive: str) -> Self:
        """The same predictions with another positive class; "" for the second, or with more than two classes.

        Raises:
            ValueError: There is no class of this name.
        """
        return replace(self, positive=self.class_names.index(positive) if positive else 1)

    def groups_of_classes(self) -> tuple[int, ...]:
        """K counts: how many groups have records of each class."""
        groups = np.asarray(self.groups)
        return tuple(len(np.unique(groups[self.labels == k])) for k in range(len(self.class_names)))


def decide(predictions: Predictions, threshold: float | None) -> Ints:
    """The predicted class of each record, int64 [N].

    With two classes the positive one is predicted if its probability is `>= threshold`; None means 0.5, the
    most probable class, where a tie is the positive one. With more classes the most probable one is
    predicted; a tie is the one with the lower index.

    Raises:
        InputError: A threshold is outside [0, 1], or there is one with more than two classes.
    """
    if not predictions.binary:
        if threshold is not None:
            raise InputError(
                f"threshold is {threshold}, but there are {len(predictions.class_names)} classes "
                f"({first_names(predictions.class_names)}); a threshold needs exactly two: leave it out"
            )
        return predictions.probabilities.argmax(axis=1).astype(np.int64)
    threshold = 0.5 if threshold is None else threshold
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must be a probability from 0 to 1")
    is_positive = predictions.scores >= threshold
    return np.where(is_positive, predictions.positive, 1 - predictions.positive).astype(np.int64)


def choose_threshold(predictions: Predictions) -> float:
    """The threshold that maximises Youden's J = sensitivity + specificity - 1.

    Give it validation predictions of two classes. The threshold lies half-way between the two neighbouring
    scores that it separates. Among equally good ones the widest gap wins, then the one nearest to 0.5. Scores
    that separate nothing (J <= 0 everywhere) give 0.5.

    Source: Youden, "Index for rating diagnostic tests", Cancer 3 (1950).

    Raises:
        InputError: There are more than two classes, or records of one class only.
    """
    require_both_classes(predictions)
    scores, inverse = np.unique(predictions.scores, return_inverse=True)
    positives = np.bincount(inverse, weights=predictions.labels == predictions.positive)
    negatives = np.bincount(inverse) - positives
    # All scores above the gap after score i are predicted positive. J x P x N is whole, so ties are exact.
    tp = positives.sum() - np.cumsum(positives)[:-1]
    fp = negatives.sum() - np.cumsum(negatives)[:-1]
    youden = tp * negatives.sum() - fp * positives.sum()
    if youden.size == 0 or youden.max() <= 0:
        return 0.5
    best = np.flatnonzero(youden == youden.max())
    below, above = scores[best], scores[best + 1]
    middle = (below + above) / 2
    middle = np.where(middle > below, middle, above)  # Neighbouring floats have no middle.
    return float(middle[np.lexsort((np.abs(middle - 0.5), below - above))[0]])


def require_both_classes(predictions: Predictions) -> None:
    """Raises InputError unless there are records of two classes, and no third class."""
    if not predictions.binary:
        raise InputError(
            f"a threshold needs exactly two classes; there are {len(predictions.class_names)} "
            f"({first_names(predictions.class_names)}): "
            "decide by the most probable class instead"
        )
    present = np.bincount(predictions.labels, minlength=2)
    if not present.all():
        counts = dict(zip(predictions.class_names, present.tolist(), strict=True))
        raise InputError(
            f"cannot choose a threshold from records per class {counts}; both classes are needed: "
            "use a larger validation split, or decide at 0.5 (--threshold_rule=fixed:0.5)"
        )


@dataclass(frozen=True)
class Threshold:
    """A threshold and the data that it was chosen on; a run's result has fields of the same names.

    Attributes:
        threshold: A record is predicted as the positive class from this probability on; None with more than
            two classes.
        chosen_on: Number of records that it was chosen on.
        chosen_on_groups: Number of groups among them with records of each class, in the order of the classes.
        positive: The positive class; "" with more than two classes.
        threshold_rule: The rule that it was chosen by; see `served.rules`.
        threshold_note: A sentence, if validation does not allow what the rule asks for; else "".
    """

    threshold: float | None = None
    chosen_on: int = 0
    chosen_on_groups: tuple[int, ...] = ()
    positive: str = ""
    threshold_rule: str = "youden"
    threshold_note: str = ""

    @classmethod
    def chosen(cls, validation: Predictions) -> Self:
        """Returns the threshold that `choose_threshold` gives; None in it with more than two classes.

        Raises:
            InputError: One of two classes has no records.
        """
        if not validation.binary:
            return cls()
        records, groups = len(validation.ids), validation.groups_of_classes()
        return cls(choose_threshold(validation), records, groups, validation.positive_name)


def worst_mistakes(predictions: Predictions, threshold: float | None, n: int) -> Ints:
    """Indices of up to n wrong predictions, int64, the lowest probability of the true class first."""
    wrong = np.flatnonzero(decide(predictions, threshold) != predictions.labels)
    given = predictions.probabilities[wrong, predictions.labels[wrong]]
    return wrong[np.argsort(given, kind="stable")][:n].astype(np.int64)
