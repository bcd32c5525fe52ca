"""How the figures of two classes change with the prevalence: by arithmetic, no image is predicted again."""

from typing import Any, Final

import numpy as np

from trainer.evaluation.intervals import resampled
from trainer.evaluation.predictions import Floats, Predictions

PREVALENCES: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
FIGURES: Final = {"accuracy": "Accuracy", "ppv": "PPV", "npv": "NPV"}
_RESAMPLES: Final = 1000


def by_prevalence(
    predictions: Predictions, threshold: float | None, *, seed: int = 0
) -> dict[str, Any] | None:
    """Returns accuracy, PPV and NPV at each prevalence of the positive class, ready for JSON.

    Sensitivity and specificity at the threshold stay as they are here; PPV is the share of true positives
    among the predicted positives, NPV that of true negatives among the predicted negatives. Intervals are
    from the resamples of groups that give sensitivity and specificity theirs.

    Source: Bayes' theorem; Altman and Bland, "Diagnostic tests 2: predictive values", BMJ 309 (1994).

    Returns:
        `here`: the prevalence of this split; `levels`: of each prevalence `prevalence` and the figures, each
        {value, low, high}, null where undefined. None with more than two classes, or with records of one.
    """
    if not predictions.binary or len(np.unique(predictions.labels)) < 2:
        return None
    point, samples = resampled(predictions, threshold, resamples=_RESAMPLES, seed=seed)
    value = figures_at(np.array([point["sensitivity"].value]), np.array([point["specificity"].value]))
    each = figures_at(samples["sensitivity"], samples["specificity"])
    return {
        "here": float((predictions.labels == predictions.positive).mean()),
        "levels": [
            {
                "prevalence": prevalence,
                **{name: _estimate(value[name][k, 0], each[name][k]) for name in FIGURES},
            }
            for k, prevalence in enumerate(PREVALENCES)
        ],
    }


def figures_at(sensitivity: Floats, specificity: Floats) -> dict[str, Floats]:
    """Returns each figure, float64 [prevalences, R]; NaN where none is predicted as the class.

    Args:
        sensitivity: float64 [R].
        specificity: float64 [R].
    """
    sick = np.array(PREVALENCES)[:, None]
    tp, tn = sick * sensitivity, (1 - sick) * specificity
    fn, fp = sick - tp, (1 - sick) - tn
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"accuracy": tp + tn, "ppv": tp / (tp + fp), "npv": tn / (tn + fn)}


def _estimate(value: float, sample: Floats) -> dict[str, float | None]:
    sample = sample[np.isfinite(sample)]
    if not np.isfinite(value) or not len(sample):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(sample, (2.5, 97.5))
    return {"value": float(value), "low": float(min(low, value)), "high": float(max(high, value))}
