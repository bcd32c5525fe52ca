"""Figures at another prevalence are those of a split that is drawn with it."""

from dataclasses import replace

import numpy as np
import pytest
from reports import drawn

from trainer.evaluation.predictions import decide
from trainer.evaluation.stress.prevalence import PREVALENCES, by_prevalence


@pytest.mark.parametrize("positive", ["NORMAL", "PNEUMONIA"])
def test_it_equals_the_count_with_weighed_records(positive):
    predictions = drawn(records=200).of(positive)
    found = by_prevalence(predictions, 0.4)
    truth = predictions.labels == predictions.positive
    said = decide(predictions, 0.4) == predictions.positive
    assert found["here"] == pytest.approx(truth.mean())
    assert [level["prevalence"] for level in found["levels"]] == list(PREVALENCES)
    for level in found["levels"]:
        share = level["prevalence"]
        weights = np.where(truth, share / truth.sum(), (1 - share) / (~truth).sum())
        assert level["accuracy"]["value"] == pytest.approx(weights[truth == said].sum())
        assert level["ppv"]["value"] == pytest.approx(weights[truth & said].sum() / weights[said].sum())
        assert level["npv"]["value"] == pytest.approx(weights[~truth & ~said].sum() / weights[~said].sum())
        for figure in (level["accuracy"], level["ppv"], level["npv"]):
            assert figure["low"] <= figure["value"] <= figure["high"]


def test_a_figure_without_records_is_undefined():
    found = by_prevalence(drawn(), 1.0)  # nobody is predicted as the class
    assert all(level["ppv"]["value"] is None for level in found["levels"])
    assert found["levels"][0]["accuracy"]["value"] == pytest.approx(1 - PREVALENCES[0])


def test_it_is_for_two_classes_that_are_both_there():
    assert by_prevalence(drawn(("a", "b", "c")), None) is None
    predictions = drawn()
    assert by_prevalence(replace(predictions, labels=np.zeros_like(predictions.labels)), 0.5) is None
