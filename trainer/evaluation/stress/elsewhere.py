"""An interval for the accuracy on images from elsewhere, from the shortcut's cells and the stress test.

It is arithmetic on what was measured here, under assumptions that are told with it; no image from elsewhere
is seen. Of each class c, let r[c, a] and r[c, d] be the shares that the model has right where the numbers
agree (a) and where they disagree (d) with the class. If they agree for a share q of class c elsewhere, the
model has q r[c, a] + (1 - q) r[c, d] of it right, less what a change takes from it; the prevalence weighs
both classes. The interval reaches from the lowest to the highest accuracy over all combinations, and is
widened by the uncertainty of the cells.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trainer.evaluation.intervals import Estimate
from trainer.evaluation.predictions import Floats, Predictions, decide
from trainer.evaluation.stress.testing import Tested

_USELESS: Final = 0.5  # of a class agree with numbers that say nothing of it
_ODDS: Final = 3.0  # the odds of the positive class may be so many times higher or lower
_RESAMPLES: Final = 1000


def elsewhere(
    predictions: Predictions,
    against: npt.NDArray[np.bool_] | None,
    threshold: float | None,
    tested: Sequence[Tested],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns the interval for the accuracy elsewhere with its assumptions, ready for JSON.

    Args:
        predictions: The model's, without a change.
        against: bool [N]: whether the numbers contradict the record's class; None if there is no audit.
        threshold: As in `decide`.
        tested: Changes with their levels; the moderate ones of each count.
        seed: Of the bootstrap.

    Returns:
        `low`, `high`; `here`, the accuracy of this split; `prevalence`, [least, most]; `worst`, of the lowest
        accuracy what makes it: `change`, `agreement` (of each class), `prevalence`; `assumptions`, sentences.
        Or `missing`, a sentence on why there is no interval.
    """
    if not predictions.binary:
        return {"missing": "it is made for two classes"}
    if against is None:
        return {"missing": "it needs the shortcut audit, which was not made"}
    classes = (1 - predictions.positive, predictions.positive)
    cells = [(predictions.labels == k) & (against == side) for k in classes for side in (False, True)]
    if not all(cell.any() for cell in cells):
        return {"missing": "a class has no images that agree with the numbers, or none that contradict them"}
    right = decide(predictions, threshold) == predictions.labels
    names, drops = _drops(tested)
    here = float((predictions.labels == predictions.positive).mean())
    prevalences = tuple(_of_odds(here / (1 - here) * factor) for factor in (1 / _ODDS, _ODDS))
    groups = np.unique(np.asarray(predictions.groups), return_inverse=True)[1]
    counts = _counts(cells, right, groups)
    point = _accuracies(counts.sum(axis=0)[None], drops, prevalences)  # [1, changes, agreements, prevalences]
    draws = _resampled(counts, seed)
    each = _accuracies(draws, drops, prevalences).reshape(len(draws), -1)
    each = each[np.isfinite(each).all(axis=1)]  # a resample may miss a cell
    low, high = float(point.min()), float(point.max())
    if len(each):
        low = min(low, float(np.percentile(each.min(axis=1), 2.5)))
        high = max(high, float(np.percentile(each.max(axis=1), 97.5)))
    change, agreement, prevalence = np.unravel_index(int(point.argmin()), point.shape)[1:]
    agree = [float(cells[2 * k].sum() / (cells[2 * k].sum() + cells[2 * k + 1].sum())) for k in range(2)]
    return {
        "low": low,
        "high": high,
        "here": float(right.mean()),
        "prevalence": list(prevalences),
        "worst": {
            "accuracy": float(point.min()),
            "change": names[change],
            "agreement": [_USELESS, _USELESS] if agreement == 0 else agree,
            "prevalence": prevalences[prevalence],
        },
        "assumptions": _assumptions(predictions, agree, names, prevalences),
    }


def _drops(tested: Sequence[Tested]) -> tuple[list[str], Floats]:
    """Returns the names of moderate changes, none first, and what each adds to specificity and sensitivity.

    float64 [changes, 2], mostly negative.
    """
    names, drops = ["no change"], [(0.0, 0.0)]
    for each in tested:
        levels = {level.level: level.estimates for level in each.levels}
        before = levels[each.stress.unchanged]
        for moderate in each.stress.moderate:
            names.append(f"{each.stress.name} {moderate:g}")
            drops.append(
                (
                    _difference(levels[moderate]["specificity"], before["specificity"]),
                    _difference(levels[moderate]["sensitivity"], before["sensitivity"]),
                )
            )
    return names, np.array(drops)


def _difference(after: Estimate, before: Estimate) -> float:
    difference = after.value - before.value
    return difference if np.isfinite(difference) else 0.0


def _counts(
    cells: Sequence[npt.NDArray[np.bool_]], right: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64]
) -> Floats:
    """Returns float64 [G, 4, 2]: of each group and cell the records, and those that are right."""
    pairs = [(cell, cell & right) for cell in cells]
    return np.stack(
        [np.stack([np.bincount(groups, part) for part in pair], axis=1) for pair in pairs], axis=1
    )


def _resampled(counts: Floats, seed: int) -> Floats:
    """Returns float64 [R, 4, 2]: the sums over groups that are drawn with replacement."""
    generator, size = np.random.default_rng(seed), len(counts)
    drawn = np.stack(
        [np.bincount(generator.integers(size, size=size), minlength=size) for _ in range(_RESAMPLES)]
    )
    found: Floats = np.einsum("rg,gcx->rcx", drawn, counts)
    return found


def _accuracies(sums: Floats, drops: Floats, prevalences: Sequence[float]) -> Floats:
    """Returns float64 [R, changes, 2, prevalences]: for useless numbers, and for numbers as they are here.

    Args:
        sums: float64 [R, 4, 2]: records and right ones of (other class, agrees), (other class, contradicts),
            (positive, agrees), (positive, contradicts).
        drops: float64 [changes, 2], of the other class and of the positive one.
        prevalences: of the positive class.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (sums[..., 1] / sums[..., 0]).reshape(-1, 2, 2)  # [R, class, agrees or not]
        records = sums[..., 0].reshape(-1, 2, 2)
        here = records[..., 0] / records.sum(axis=2)
        agreement = np.stack([np.full_like(here, _USELESS), here], axis=1)  # [R, agreement, class]
        mixed = agreement * shares[:, None, :, 0] + (1 - agreement) * shares[:, None, :, 1]
    changed = np.clip(mixed[:, None] + drops[None, :, None], 0.0, 1.0)  # [R, changes, agreement, class]
    weights = np.array([(1 - prevalence, prevalence) for prevalence in prevalences])
    found: Floats = np.einsum("rcak,pk->rcap", changed, weights)
    return found


def _of_odds(odds: float) -> float:
    return odds / (1 + odds)


def _assumptions(
    predictions: Predictions, agree: Sequence[float], names: Sequence[str], prevalences: Sequence[float]
) -> list[str]:
    positive, other = predictions.positive_name, predictions.class_names[1 - predictions.positive]
    return [
        f"Elsewhere the numbers without anatomy say something between nothing of the class (half of each "
        f"class agrees with them) and as much as here ({agree[0]:.0%} of {other} and {agree[1]:.0%} of "
        f"{positive} agree); they do not mislead.",
        "Of images of one class that agree with the numbers, or that contradict them, the model has as many "
        "right as here.",
        f"Images differ by one moderate change of the stress test at most ({', '.join(names[1:])}), and it "
        f"costs each class as much as here.",
        f"The odds of {positive} are at most {_ODDS:g} times higher or lower: {prevalences[0]:.0%} to "
        f"{prevalences[1]:.0%} of the images.",
        "The classes mean the same as here, and images show the same part in the same way.",
    ]
