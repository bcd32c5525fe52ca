"""A logistic regression on whole-image numbers that is fitted in a moment, for the report of every run.

`shortcut` asks how far the numbers predict the label at all, with two models and cross-validation. This
module answers a smaller question: which class do the numbers of this one image point to?
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from tfrecords.audit.numbers import Floats
from tfrecords.audit.shortcut import Ints

_PENALTY: Final = 1.0  # half of it times the squared weights is added to the sum of the losses
_STEPS: Final = 50  # Newton needs about eight
_ENOUGH: Final = 1e-8  # a step this small is the last
_LEAST: Final = 1e-6  # weight of a record in a step; keeps the system solvable where all is certain


@dataclass(frozen=True, eq=False)
class QuickShortcut:
    """Logistic regressions on standardised numbers: one for two classes, else each class against the rest.

    Attributes:
        means: float64 [F].
        deviations: float64 [F]; 1 where a number never changes.
        weights: float64 [M, F + 1]: those of the numbers, then the constant; M is 1 with two classes, else K.
        distances: float64 [F]: how far the means of two classes lie apart at most, in deviations within a
            class.
    """

    means: Floats
    deviations: Floats
    weights: Floats
    distances: Floats

    @classmethod
    def fit(cls, values: Floats, labels: Ints, classes: int) -> Self:
        """Fits the regressions; in each, both sides weigh alike, whatever their number of records.

        Args:
            values: float64 [N, F].
            labels: int64 [N], from 0 to classes - 1; each class has a record.
            classes: K, at least 2.
        """
        deviations = values.std(axis=0)
        deviations = np.where(deviations > 1e-12, deviations, 1.0)
        means = values.mean(axis=0)
        scaled = _with_constant((values - means) / deviations)
        sides = [labels == 1] if classes == 2 else [labels == k for k in range(classes)]
        weights = np.stack([_newton(scaled, side.astype(np.float64)) for side in sides])
        return cls(means, deviations, weights, distances(values, labels))

    def probabilities(self, values: Floats) -> Floats:
        """Returns float64 [N, K] for float64 [N, F]; rows sum to 1."""
        scores = _with_constant((values - self.means) / self.deviations) @ self.weights.T
        each = _logistic(scores)
        if each.shape[1] == 1:
            return np.hstack([1 - each, each])
        return each / np.maximum(each.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)


def distances(values: Floats, labels: Ints) -> Floats:
    """Returns float64 [F]: the largest distance of two classes' means, in deviations within a class."""
    there = [values[labels == label] for label in np.unique(labels)]
    within = np.sqrt(np.mean([own.var(axis=0) for own in there], axis=0))
    means = np.array([own.mean(axis=0) for own in there])
    apart: Floats = (means.max(axis=0) - means.min(axis=0)) / np.maximum(within, 1e-9)
    return apart


def _newton(scaled: Floats, side: Floats) -> Floats:
    """Returns the weights of least penalised loss, float64 [F + 1], by Newton's method.

    Source: Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning" (2009), 4.4.1.
    """
    records = len(side)
    shares = np.where(side > 0, records / (2 * side.sum()), records / (2 * (records - side.sum())))
    penalty = np.full(scaled.shape[1], _PENALTY)
    penalty[-1] = 0.0  # not on the constant
    weights = np.zeros(scaled.shape[1])
    loss = _loss(scaled, side, shares, penalty, weights)
    for _ in range(_STEPS):
        probabilities = _logistic(scaled @ weights)
        gradient = scaled.T @ (shares * (probabilities - side)) + penalty * weights
        curvature = np.maximum(shares * probabilities * (1 - probabilities), _LEAST)
        step = np.linalg.solve((scaled.T * curvature) @ scaled + np.diag(penalty), gradient)
        length = 1.0
        while (after := _loss(scaled, side, shares, penalty, weights - length * step)) > loss:
            length /= 2
            if length < _ENOUGH:
                return weights
        weights, loss = weights - length * step, after
        if np.abs(step).max() < _ENOUGH:
            break
    return weights


def _loss(scaled: Floats, side: Floats, shares: Floats, penalty: Floats, weights: Floats) -> float:
    scores = scaled @ weights
    losses = np.logaddexp(0.0, scores) - side * scores
    return float(shares @ losses + 0.5 * penalty @ weights**2)


def _logistic(scores: Floats) -> Floats:
    found: Floats = 0.5 * (1.0 + np.tanh(0.5 * scores))  # never overflows
    return found


def _with_constant(values: Floats) -> Floats:
    return np.hstack([values, np.ones((len(values), 1))])
