"""The interval for images from elsewhere, by hand."""

import numpy as np
import pytest
from reports import drawn

from trainer.evaluation.intervals import Estimate
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.stress import testing
from trainer.evaluation.stress.changes import STRESSES, Stress
from trainer.evaluation.stress.elsewhere import elsewhere

# of each class: records where the numbers agree, right ones among them, contradict, right ones among them
COUNTS = {0: (80, 76, 20, 8), 1: (270, 270, 30, 15)}


def predicted():
    """Predictions with these counts, each record a group; and whether the numbers contradict."""
    labels, right, against = [], [], []
    for label, (agree, agree_right, contradict, contradict_right) in COUNTS.items():
        labels += [label] * (agree + contradict)
        against += [False] * agree + [True] * contradict
        for size, good in ((agree, agree_right), (contradict, contradict_right)):
            right += [True] * good + [False] * (size - good)
    labels, right = np.array(labels), np.array(right)
    score = np.where(np.where(right, labels, 1 - labels) == 1, 0.9, 0.1)
    names = tuple(map(str, range(len(labels))))
    rows = np.column_stack([1 - score, score])
    return Predictions(("WELL", "SICK"), names, names, labels, rows), np.array(against)


def changed(sensitivity, specificity):
    """A change whose moderate level costs so much."""
    stress = Stress("fog", "fog", (0.0, 1.0, 2.0), 0.0, lambda image, *_: image, (1.0,))

    def level(number, lost):
        values = {"sensitivity": 0.95 - lost * sensitivity, "specificity": 0.84 - lost * specificity}
        return testing.Level(number, {name: Estimate(value, 0, 1) for name, value in values.items()}, 0.0)

    return testing.Tested(stress, (level(0.0, 0), level(1.0, 1), level(2.0, 2)))


def test_the_lowest_is_that_of_useless_numbers_the_worst_change_and_prevalence():
    predictions, against = predicted()
    found = elsewhere(predictions, against, 0.5, [changed(0.05, 0.1)])
    odds = 3.0  # three positives for each negative here
    least = odds / 3 / (1 + odds / 3)
    assert found["prevalence"] == pytest.approx([least, odds * 3 / (1 + odds * 3)])
    well = (76 / 80 + 8 / 20) / 2 - 0.1
    sick = (270 / 270 + 15 / 30) / 2 - 0.05
    assert found["worst"]["accuracy"] == pytest.approx(least * sick + (1 - least) * well)
    assert found["worst"]["change"] == "fog 1"
    assert found["worst"]["agreement"] == [0.5, 0.5]
    assert found["low"] < found["worst"]["accuracy"]
    assert found["here"] == pytest.approx(369 / 400)
    assert found["low"] < found["here"] < found["high"]


def test_a_change_that_costs_nothing_leaves_the_shortcut_alone():
    predictions, against = predicted()
    without = elsewhere(predictions, against, 0.5, [])
    assert without["worst"]["change"] == "no change"
    assert without["low"] == elsewhere(predictions, against, 0.5, [changed(0.0, 0.0)])["low"]
    assert without["low"] > elsewhere(predictions, against, 0.5, [changed(0.1, 0.1)])["low"]


def test_the_positive_class_may_be_the_first():
    predictions, against = predicted()
    first, second = (elsewhere(predictions.of(name), against, 0.5, []) for name in ("WELL", "SICK"))
    assert first["worst"]["accuracy"] == pytest.approx(second["worst"]["accuracy"])
    assert first["prevalence"] == pytest.approx([1 - share for share in second["prevalence"][::-1]])


@pytest.mark.parametrize("case", ["classes", "audit", "cell"])
def test_without_what_it_needs_it_says_why(case):
    predictions, against = predicted()
    if case == "classes":
        predictions = drawn(("a", "b", "c"))
    found = elsewhere(
        predictions, {"audit": None, "cell": np.zeros_like(against)}.get(case, against), None, []
    )
    assert set(found) == {"missing"}


def test_moderate_levels_are_levels():
    for stress in STRESSES:
        assert stress.moderate
        assert set(stress.moderate) < set(stress.levels) - {stress.unchanged}
