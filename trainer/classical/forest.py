"""A fitted random forest as plain arrays, which a file can hold safely.

scikit-learn follows the child indices of a stored tree without a bounds check, so a manipulated file could
crash the process. NumPy checks every index.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from trainer.classical.features import Features

_LEAF: Final = -1  # instead of a child


@dataclass(frozen=True, eq=False)
class Forest:
    """The nodes of all trees, one tree after the other; a child comes after its parent.

    Attributes:
        roots: int64 [T], the first node of each tree.
        left: int64 [M], the child for values up to the threshold; -1: the node is a leaf.
        right: int64 [M], the child for values above it; -1 likewise.
        feature: int64 [M], index of the feature that is compared with the threshold.
        threshold: float64 [M].
        values: float64 [M, K], the share of each class in the node.
    """

    roots: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    threshold: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        parents = np.flatnonzero(self.left != _LEAF)
        for children in (self.left[parents], self.right[parents]):
            if (children <= parents).any() or (children >= len(self.left)).any():
                raise ValueError("a child of a tree must come after its parent and be one of its nodes")

    @classmethod
    def of(cls, fitted: Any) -> Self:
        """Returns the trees of a fitted RandomForestClassifier."""
        trees = [estimator.tree_ for estimator in fitted.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1].astype(np.int64)

        def joined(name: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(tree, name) for tree in trees])

        shift = np.repeat(roots, [tree.node_count for tree in trees])
        left, right = joined("children_left"), joined("children_right")
        values = joined("value")[:, 0, :]
        return cls(
            roots,
            np.where(left == _LEAF, _LEAF, left + shift),
            np.where(right == _LEAF, _LEAF, right + shift),
            joined("feature").astype(np.int64),
            joined("threshold"),
            values / values.sum(axis=1, keepdims=True),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Returns the forest whose `arrays` these are.

        Raises:
            ValueError, TypeError: the arrays are not those of a forest.
        """
        return cls(**{name: np.asarray(array) for name, array in arrays.items()})

    def arrays(self) -> dict[str, Any]:
        """Returns its arrays by name."""
        return asdict(self)

    def predict_proba(self, features: Features) -> npt.NDArray[np.float64]:
        """Returns float64 [N, K] for float32 [N, P]: the mean over the trees, added in their order."""
        rows = np.arange(len(features))[None, :]
        node = np.repeat(self.roots[:, None], len(features), axis=1)
        while (inner := self.left[node] != _LEAF).any():
            low = features[rows, np.where(inner, self.feature[node], 0)] <= self.threshold[node]
            node = np.where(inner, np.where(low, self.left[node], self.right[node]), node)
        return self.values[node].mean(axis=0)
