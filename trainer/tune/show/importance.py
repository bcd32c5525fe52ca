"""How much each hyperparameter of a search matters for the score, as far as the trials show."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.tune.show.overview import DONE, Overview, Parameter, Value

LEAST_TRIALS: Final = 40  # finished ones; fewer do not separate an effect from chance
_FOLDS: Final = 5
_TREES: Final = 100
_SHUFFLES: Final = 20  # of the values of a hyperparameter, in each fold
_SEED: Final = 0

Floats = npt.NDArray[np.float64]


def importance(overview: Overview) -> dict[str, float] | None:
    """Returns the share of the explained variance that is lost without each hyperparameter, from 0 to 1.

    A random forest learns the score from the values. Five-fold cross-validation measures how much of the
    variance it explains in trials that it has not seen. Then the values of one hyperparameter are shuffled
    among those trials; the explained variance that is lost by that, as a share of all that was explained, is
    its importance (permutation importance: L. Breiman, Random Forests, Machine Learning 45, 2001, section
    10). Hyperparameters that act together share their effect, so the shares need not sum to 1. A
    hyperparameter that is searched on a logarithmic scale is taken by its logarithm, and so are scores for
    which `is_log` holds.

    Returns:
        By hyperparameter, in the order of the space; all 0 if the values explain nothing of the scores. None:
        fewer than `LEAST_TRIALS` are finished, or nothing is searched.
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
    """Returns whether there is a score and it is finite."""
    return score is not None and math.isfinite(score)


def is_log(objective: str, scores: Sequence[float]) -> bool:
    """Returns whether scores are shown on a logarithmic scale: losses that span more than a decade."""
    return objective == "val_loss" and bool(scores) and 0 < 10 * min(scores) < max(scores)


def _squared_errors(inputs: Floats, scores: Floats) -> tuple[float, Floats]:
    """Returns the sum of squared errors, and the same with each hyperparameter shuffled (mean over shuffles).

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
        # All shuffles go into one call, because each call costs as much as thousands of rows.
        seen = np.tile(inputs[held], (parameters, _SHUFFLES, 1, 1))  # [parameter, shuffle, trial, parameter]
        for index in range(parameters):
            for shuffle in range(_SHUFFLES):
                seen[index, shuffle, :, index] = random.permutation(inputs[held, index])
        found = forest.predict(seen.reshape(-1, parameters)).reshape(parameters, _SHUFFLES, len(held))
        before += float(np.sum((forest.predict(inputs[held]) - scores[held]) ** 2))
        without += ((found - scores[held]) ** 2).sum(axis=2).mean(axis=1)
    return before, without


def _number(parameter: Parameter, value: Value | None) -> float:
    """Returns a value as a number; a hyperparameter that is not active gets one below all others."""
    if parameter.kind == "boolean":
        return -1.0 if value is None else float(bool(value))
    if parameter.kind == "choice":
        return float(parameter.values.index(value)) if value in parameter.values else -1.0
    low, high = (_scaled(parameter, float(end)) for end in (parameter.values[0], parameter.values[-1]))
    return low - max(high - low, 1.0) if value is None else _scaled(parameter, float(value))


def _scaled(parameter: Parameter, value: float) -> float:
    return math.log(value) if parameter.log else value
