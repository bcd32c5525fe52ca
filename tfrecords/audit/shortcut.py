"""What the numbers alone say of the label: predictions out of fold, and which numbers they rest on.

Two small models, a logistic regression and a forest, see the numbers and nothing else. Each record is
predicted by models that have seen no record of its group (patient).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.audit.numbers import Floats, Number
from tfrecords.errors import InputError

Ints = npt.NDArray[np.int64]

_FOLDS: Final = 5
_TREES: Final = 100
_DEPTH: Final = 8
_LEAF: Final = 5  # records


@dataclass(frozen=True, eq=False)
class Shortcut:
    """How far the numbers predict the label.

    Attributes:
        auroc: of the mean of both models, out of fold; of more than two classes the mean of each class
            against the rest. 0.5 is chance.
        aurocs_of_folds: of each fold.
        probabilities: float64 [N, K], out of fold, of the mean of both models; classes weigh alike.
        families: name of a family and the AUROC of a logistic regression on its numbers alone, out of fold;
            the highest first.
        single: each number's AUROC alone, 0.5 to 1, in the order of the numbers.
    """

    auroc: float
    aurocs_of_folds: tuple[float, ...]
    probabilities: Floats
    families: tuple[tuple[str, float], ...]
    single: tuple[float, ...]

    @property
    def predicted(self) -> Ints:
        """int64 [N]: the class that the numbers point to."""
        return self.probabilities.argmax(axis=1)


def find_shortcut(
    values: Floats,
    labels: Ints,
    groups: Sequence[str],
    numbers: Sequence[Number],
    *,
    seed: int = 0,
) -> Shortcut:
    """Predicts each record's label from its numbers.

    Args:
        values: float64 [N, F].
        labels: int64 [N], from 0 to K - 1.
        groups: N names; records of one group are never in two folds.
        numbers: F of them, as `numbers_of` lists them.
        seed: of folds and forest.

    Raises:
        InputError: a class has fewer than two groups, so that none is left to learn it from.
    """
    folds = _folds(labels, groups, seed)
    probabilities = np.mean(
        [_out_of_fold(model, values, labels, folds) for model in (_logistic(), _forest(seed))], axis=0
    )
    names = list(dict.fromkeys(number.family for number in numbers))
    families = []
    for name in names:
        columns = [k for k, number in enumerate(numbers) if number.family == name]
        alone = _out_of_fold(_logistic(), values[:, columns], labels, folds)
        families.append((name, auroc_of(labels, alone)))
    return Shortcut(
        auroc_of(labels, probabilities),
        tuple(auroc_of(labels[test], probabilities[test]) for _, test in folds),
        probabilities,
        tuple(sorted(families, key=lambda pair: -pair[1])),
        tuple(_single(values[:, k], labels) for k in range(len(numbers))),
    )


def auroc_of(labels: Ints, probabilities: Floats) -> float:
    """Returns the AUROC of each class against the rest, averaged over the classes that have records."""
    from sklearn.metrics import roc_auc_score

    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    found = [
        roc_auc_score(labels == k, probabilities[:, k])
        for k in classes
        if 0 < (labels == k).sum() < len(labels)
    ]
    return float(np.mean(found)) if found else float("nan")


def _folds(labels: Ints, groups: Sequence[str], seed: int) -> list[tuple[Ints, Ints]]:
    from sklearn.model_selection import StratifiedGroupKFold

    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    least = min(len(np.unique(codes[labels == k])) for k in np.unique(labels))
    if least < 2 or len(np.unique(labels)) < 2:
        raise InputError(
            f"the shortcut audit needs two classes with two groups each; the smallest class here has {least} "
            f"of {len(np.unique(labels))} classes: convert more images, or see --group_regex"
        )
    splitter = StratifiedGroupKFold(min(_FOLDS, least), shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(labels)), labels, codes))


def _out_of_fold(model: Any, values: Floats, labels: Ints, folds: list[tuple[Ints, Ints]]) -> Floats:
    from sklearn.base import clone

    classes = int(labels.max()) + 1
    found = np.zeros((len(labels), classes))
    for train, test in folds:
        fitted = clone(model).fit(values[train], labels[train])
        found[np.ix_(test, fitted.classes_)] = fitted.predict_proba(values[test])
    return found


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000, class_weight="balanced"))


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        _TREES, max_depth=_DEPTH, min_samples_leaf=_LEAF, class_weight="balanced", random_state=seed
    )


def _single(values: Floats, labels: Ints) -> float:
    """Returns the AUROC of one number, whichever way it points; of more classes the most telling one's."""
    from sklearn.metrics import roc_auc_score

    found = [
        roc_auc_score(labels == k, values)
        for k in range(int(labels.max()) + 1)
        if 0 < (labels == k).sum() < len(labels)
    ]
    return float(max(max(value, 1 - value) for value in found))
