"""How much each parameter of a search matters, as far as its trials tell."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.tune.show.overview import DONE, Overview, Parameter, Value

LEAST_TRIALS: Final = 40  # that are done; fewer do not tell parameters from chance
_FOLDS: Final = 5
_TREES: Final = 100
_SHUFFLES: Final = 20  # of a parameter's values, in each fold
_SEED: Final = 0

Floats = npt.NDArray[np.float64]


def importance(overview: Overview) -> dict[str, float] | None:
    """Returns the share of the explained variance that is lost without each parameter, from 0 to 1.

    A random forest learns the score from the values. Five-fold cross-validation tells how much of the
    variance it explains in trials that it has not seen; then the values of one parameter are shuffled among
    those trials, and the loss of explained variance, divided by what was explained, is the importance
    (permutation importance: L. Breiman, Random Forests, Machine Learning 45, 2001, section 10). Shares of
    parameters that work together overlap: they need not sum to 1. A parameter that is searched by its
    logarithm counts by it, and so do scores for which `is_log` holds.

    Returns:
        By parameter, in the order of the space; all 0 if the values explain nothing of the scores. None:
        fewer than `LEAST_TRIALS` are done, or there is no parameter.
    """
    rows = [row for row in overview.rows if row.state == DONE and is_number(row.score)]
    if len(rows) < LEAST_TRIALS or not overview.parameters:
        return None
    names = [parameter.name for parameter in overview.parameters]
    scores = np.array([row.score for row in rows], np.float64)
    if is_log(overview.objective, scores.tolist()):
        scores = np.log(scores)
    scores -= scores.mean()
    largest = np.abs(scores).max()
    if largest == 0:
        return dict.fromkeys(names, 0.0)
    columns = [[_number(p, row.values.get(p.name)) for row in rows] for p in overview.parameters]
    before, without = _squared_errors(np.array(columns, np.float64).T, scores / largest)
    variance = float(np.sum((scores / largest) ** 2))
    if before >= variance:
        return dict.fromkeys(names, 0.0)
    lost = np.clip((without - before) / (variance - before), 0, 1)
    return dict(zip(names, lost.tolist(), strict=True))


def is_number(score: float | None) -> bool:
    """Returns whether a score is there and finite."""
    return score is not None and math.isfinite(score)


def is_log(objective: str, scores: Sequence[float]) -> bool:
    """Returns whether scores are better seen by their logarithm: losses over more than a decade."""
    return objective == "val_loss" and bool(scores) and 0 < 10 * min(scores) < max(scores)


def _squared_errors(inputs: Floats, scores: Floats) -> tuple[float, Floats]:
    """Returns the sum of squared errors, and that with each parameter shuffled (a mean over shuffles).

    Args:
        inputs: float64 [trials, parameters].
        scores: float64 [trials].

    Returns:
        The sum; float64 [parameters].
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    parameters = inputs.shape[1]
    random = np.random.default_rng(_SEED)
    before, without = 0.0, np.zeros(parameters)
    for fit_on, held in KFold(_FOLDS, shuffle=True, random_state=_SEED).split(inputs):
        forest = RandomForestRegressor(_TREES, random_state=_SEED).fit(inputs[fit_on], scores[fit_on])
        # All shuffles in one call, for each call costs as much as thousands of rows.
        seen = np.tile(inputs[held], (parameters, _SHUFFLES, 1, 1))  # [parameter, shuffle, trial, parameter]
        for index in range(parameters):
            for shuffle in range(_SHUFFLES):
                seen[index, shuffle, :, index] = random.permutation(inputs[held, index])
        found = forest.predict(seen.reshape(-1, parameters)).reshape(parameters, _SHUFFLES, len(held))
        before += float(np.sum((forest.predict(inputs[held]) - scores[held]) ** 2))
        without += ((found - scores[held]) ** 2).sum(axis=2).mean(axis=1)
    return before, without


def _number(parameter: Parameter, value: Value | None) -> float:
    """Returns a value as a number; one that is not active is below all others."""
    if parameter.kind == "boolean":
        return -1.0 if value is None else float(bool(value))
    if parameter.kind == "choice":
        return float(parameter.values.index(value)) if value in parameter.values else -1.0
    low, high = (_scaled(parameter, float(end)) for end in (parameter.values[0], parameter.values[-1]))
    return low - max(high - low, 1.0) if value is None else _scaled(parameter, float(value))


def _scaled(parameter: Parameter, value: float) -> float:
    return math.log(value) if parameter.log else value
