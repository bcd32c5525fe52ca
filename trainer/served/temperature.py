"""The temperature of a model's logits: how sure its probabilities are; no class becomes another's.

Source: Guo et al., "On Calibration of Modern Neural Networks" (2017), temperature scaling.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from trainer.evaluation.intervals import point_values
from trainer.evaluation.metrics import reliability_curve
from trainer.evaluation.predictions import Predictions
from trainer.served.rules import HIGHEST, LOWEST, UNCHANGED

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float64]

_LEAST: Final = 1e-300  # probability whose logarithm is taken


def fit_temperature(logits: Floats, labels: npt.NDArray[np.integer[Any]]) -> float:
    """Returns the temperature T for which softmax(logits / T) has the least mean negative log-likelihood.

    Logarithms of probabilities are logits. Give it validation or out-of-fold predictions, never those of
    test. The likelihood is convex in 1 / T, so there is one minimum, where its slope is 0.

    Args:
        logits: float64 [N, K].
        labels: integers [N], from 0 to K - 1.

    Returns:
        T, from `LOWEST` to `HIGHEST`: above 1 the probabilities were too sure, below 1 not sure enough. 1 if
        there is no minimum: the most probable class is right in every record, so that the likelihood rises
        for ever as T falls, or the logits say less than nothing, so that it does as T rises.

    Raises:
        ValueError: shapes or labels are not as above, there are no records, or a logit is not finite.
    """
    from scipy.optimize import brentq

    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape}; needs [N, K] and [N], N >= 1")
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be integers in [0, {logits.shape[1]})")
    below = logits - logits.max(axis=1, keepdims=True)
    of_label = below[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        """The derivative of the mean negative log-likelihood by 1 / T."""
        powers = np.exp(inverse * below)
        return float(((powers * below).sum(axis=1) / powers.sum(axis=1) - of_label).mean())

    if not of_label.any() or slope(0.0) >= 0:
        return UNCHANGED
    lowest, highest = 1 / HIGHEST, 1 / LOWEST
    if slope(lowest) >= 0:
        return HIGHEST
    if slope(highest) <= 0:
        return LOWEST
    return 1 / float(brentq(slope, lowest, highest, xtol=1e-12))


def temperature(model: "keras.Model", value: float) -> "keras.Model":
    """Returns a model whose logits are those of a model, divided by a temperature; itself if that is 1.

    Args:
        model: to logits [B, K].
        value: the temperature, more than 0.

    Returns:
        a `keras.Model` from the same images to float32 logits [B, K]; plain Keras loads it in safe mode.
    """
    import keras

    if value == UNCHANGED:
        return model
    divided = keras.layers.Rescaling(1 / value, dtype="float32", name="temperature")
    inputs = keras.Input(model.input_shape[1:], dtype=model.inputs[0].dtype, name="image")
    return keras.Model(inputs, divided(model(inputs)), name=model.name)


def logits_of(predictions: Predictions) -> Floats:
    """Returns logits, float64 [N, K], whose softmax the probabilities are."""
    return np.log(np.maximum(predictions.probabilities, _LEAST))


def effect(
    predictions: Predictions, value: float, *, chosen_here: bool = False, fixed: bool = False
) -> dict[str, Any]:
    """Returns what a temperature did to the calibration of predictions, ready for JSON.

    Args:
        predictions: with the temperature.
        value: the temperature.
        chosen_here: whether it was chosen on these very predictions.
        fixed: whether it was given as a number.

    Returns:
        `value`, `chosen_here` and `fixed`; `calibration_error` and `loss` with it, and `..._without` it.
    """
    powers = value * logits_of(predictions)
    powers = np.exp(powers - powers.max(axis=1, keepdims=True))
    without = replace(predictions, probabilities=powers / powers.sum(axis=1, keepdims=True))
    found: dict[str, Any] = {"value": value, "chosen_here": chosen_here, "fixed": fixed}
    for each, end in ((predictions, ""), (without, "_without")):
        found[f"calibration_error{end}"] = reliability_curve(each).error
        found[f"loss{end}"] = point_values(each, None)["loss"]
    return found


def in_words(found: Mapping[str, Any]) -> str:
    """Returns the sentence of a report on what `effect` found."""
    if found["value"] == UNCHANGED and not found.get("fixed"):
        return (
            "temperature 1: validation gave no other one, because the most probable class is right in all "
            "its records, or says nothing; probabilities are as the network gives them"
        )
    where = "this split itself, which is optimistic" if found["chosen_here"] else "validation"
    source = "given as a number" if found.get("fixed") else f"chosen on {where}"
    return (
        f"temperature {found['value']:.3g} {source}: calibration error "
        f"{found['calibration_error']:.3f} ({found['calibration_error_without']:.3f} without it), loss "
        f"{found['loss']:.4f} ({found['loss_without']:.4f} without it)"
    )
