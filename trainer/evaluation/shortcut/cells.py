"""How right the model is where the numbers agree with the label, and where they contradict it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trainer.evaluation.intervals import estimates
from trainer.evaluation.predictions import Predictions, decide
from trainer.evaluation.shortcut.finding import NumbersSay

_RESAMPLES: Final = 1000
_LITTLE: Final = 0.65  # AUROC of the numbers; below it they say too little to matter
_NEAR: Final = 0.05  # a difference of accuracies that is none to speak of

Content = dict[str, Any]


def contradicts(predictions: Predictions, said: NumbersSay) -> npt.NDArray[np.bool_]:
    """Returns bool [N]: whether the numbers point to another class than the record's."""
    return said.probabilities.argmax(axis=1) != predictions.labels


def cells_of(
    predictions: Predictions, said: NumbersSay, threshold: float | None, *, seed: int = 0
) -> Content:
    """Returns the report's content on the shortcut, ready for JSON.

    Args:
        predictions: The model's.
        said: What the numbers say of the same records.
        threshold: That of the headline; see `decide`.
        seed: Of the bootstrap.

    Returns:
        `auroc`: Of the numbers alone on these records. `learned_from`, `strongest`: As in `NumbersSay`.
        `cells`: For each class a cell where the numbers agree and one where they contradict, each with
        `class`, `agrees`, `records`, `groups`, `accuracy`. `agreeing`, `contradicting`: The same over all
        classes. `meaning`: A sentence. An accuracy is an estimate, or null where there are no records.
    """
    against = contradicts(predictions, said)
    own = Predictions(
        predictions.class_names,
        predictions.ids,
        predictions.groups,
        predictions.labels,
        said.probabilities,
        predictions.positive,
    )

    def part(rows: npt.NDArray[np.bool_]) -> Content:
        return _part(predictions, rows, threshold, seed)

    content: Content = {
        "auroc": estimates(own, None, resamples=_RESAMPLES, seed=seed)["auroc"].to_json(),
        "learned_from": said.learned_from,
        "strongest": list(said.strongest),
        "cells": [
            {"class": name, "agrees": agrees, **part((predictions.labels == k) & (against != agrees))}
            for k, name in enumerate(predictions.class_names)
            for agrees in (True, False)
        ],
        "agreeing": part(~against),
        "contradicting": part(against),
    }
    right = float((decide(predictions, threshold) == predictions.labels).mean())
    return content | {"meaning": meaning(content, right)}


def meaning(content: Mapping[str, Any], accuracy: float) -> str:
    """Returns in a sentence what the cells mean for the accuracy on all records."""
    area, against, agree = content["auroc"]["value"], content["contradicting"], content["agreeing"]
    if against["accuracy"] is None:
        return (
            "No image of this split contradicts the numbers, so nothing shows whether the model needs them."
        )
    if agree["accuracy"] is None:
        return "All images of this split contradict the numbers: the data are unlike those of the training."
    if area is None or area < _LITTLE:
        return (
            "The numbers tell little of the class, so a model cannot replace the content of an image by them."
        )
    value, high = against["accuracy"]["value"], against["accuracy"]["high"]
    gap = agree["accuracy"]["value"] - value
    if gap <= _NEAR or (high is not None and high >= agree["accuracy"]["value"]):
        return (
            "The model is about as right where the numbers contradict the label as where they agree: it "
            "shows no sign of leaning on them."
        )
    return (
        f"The model is right less often where the numbers contradict the label, by {gap:.3f}: it leans on "
        f"how images were made. Where that says nothing of the class, expect less than the {accuracy:.3f} of "
        f"this split."
    )


def _part(
    predictions: Predictions, rows: npt.NDArray[np.bool_], threshold: float | None, seed: int
) -> Content:
    """Returns the counts and the accuracy of some records."""
    chosen = np.flatnonzero(rows)
    if not len(chosen):
        return {"records": 0, "groups": 0, "accuracy": None}
    part = replace(
        predictions,
        ids=_at(predictions.ids, chosen),
        groups=_at(predictions.groups, chosen),
        labels=predictions.labels[chosen],
        probabilities=predictions.probabilities[chosen],
    )
    accuracy = estimates(part, threshold, resamples=_RESAMPLES, seed=seed)["accuracy"]
    return {"records": len(chosen), "groups": len(set(part.groups)), "accuracy": accuracy.to_json()}


def _at(values: Sequence[str], places: npt.NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(values[place] for place in places)
