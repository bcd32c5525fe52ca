"""Each rule on a table small enough to count by hand, with ties and with goals that are out of reach."""

import re

import numpy as np
import pytest

from tfrecords.errors import InputError
from trainer.evaluation.predictions import Predictions, Threshold, choose_threshold, decide
from trainer.served.rules import ThresholdRule


def table(scores, labels, positive=1):
    """Two classes; `scores` are those of the positive one, which has the label 1."""
    names = tuple(map(str, range(len(scores))))
    scores, labels = np.asarray(scores, float), np.asarray(labels)
    pair = [1 - scores, scores] if positive else [scores, 1 - scores]
    labels = labels if positive else 1 - labels
    return Predictions(("N", "P"), names, names, labels, np.stack(pair, axis=1), positive)


#                 N    N    P    N    P    P    N    P
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9])
LABELS = np.array([0, 0, 1, 0, 1, 1, 0, 1])


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("fixed:0.31", 0.31),
        ("sensitivity:1", 0.25),
        ("sensitivity:0.76", 0.25),  # 3 of 4 are too few
        ("sensitivity:0.75", 0.45),
        ("sensitivity:0.5", 0.45),  # 0.55 reaches it too, with the same specificity and less sensitivity
        ("sensitivity:0.25", 0.8),
        ("specificity:1", 0.8),
        ("specificity:0.75", 0.45),
        ("specificity:0.5", 0.25),
        ("cost:1:1", 0.45),
        ("cost:5:1", 0.25),
        ("cost:1:5", 0.8),
    ],
)
def test_each_rule_on_a_table(rule, expected, positive):
    threshold, note = ThresholdRule.parse(rule).choose(table(SCORES, LABELS, positive))
    assert threshold == pytest.approx(expected, abs=1e-12)
    assert note == ""


@pytest.mark.parametrize("rule", ["sensitivity:0.9", "specificity:0.8", "cost:3:1", "cost:0.5:0.1"])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_threshold_is_better(rule, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 60)
    predictions = table((random.normal(labels, 1.0, 60) / 8 + 0.5).clip(0, 1).round(2), labels)
    parsed = ThresholdRule.parse(rule)

    def counts(threshold):
        positive = decide(predictions, threshold) == 1
        return [int((positive == found)[labels == label].sum()) for found, label in ((True, 1), (False, 0))]

    def worth(threshold):
        tp, tn = counts(threshold)
        fn, fp = (labels == 1).sum() - tp, (labels == 0).sum() - tn
        if parsed.name == "cost":
            return -(float(parsed.values[0]) * fn + float(parsed.values[1]) * fp)
        goal, other, of = (tp, tn, tp + fn) if parsed.name == "sensitivity" else (tn, tp, tn + fp)
        return (other, goal) if goal >= float(parsed.values[0]) * of - 1e-9 else (-1, 0)

    chosen, _ = parsed.choose(predictions)
    assert worth(chosen) == pytest.approx(max(worth(each) for each in np.linspace(0, 1, 2001)))


def test_equal_costs_take_the_widest_gap_then_the_middle():
    wider = table([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1])
    assert ThresholdRule.parse("cost:1:1").choose(wider) == (pytest.approx(0.6), "")
    # Two errors are the least, at 0.1875, 0.4375 and 0.6875, in gaps of 0.125.
    equal = table([0.125, 0.375, 0.25, 0.5, 0.625, 0.75], [0, 0, 1, 1, 0, 1])
    threshold, _ = ThresholdRule.parse("cost:1:1").choose(equal)
    assert threshold == 0.4375


def test_records_of_one_score_are_not_parted():
    tied = table([0.2, 0.5, 0.5, 0.5, 0.8], [0, 0, 1, 0, 1])
    assert ThresholdRule.parse("sensitivity:1").choose(tied)[0] == pytest.approx(0.35)
    assert ThresholdRule.parse("specificity:0.5").choose(tied)[0] == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("rule", "scores", "labels", "threshold", "told"),
    [
        ("sensitivity:0.95", [0.5, 0.5, 0.5], [0, 1, 1], 0.25, "predicted as P"),
        ("sensitivity:1", [0.4, 0.0, 0.9], [0, 1, 1], 0.0, "predicted as P"),
        ("specificity:1", [0.5, 0.9, 0.7], [1, 0, 1], 0.95, "predicted as N"),
        ("specificity:0.9", [1.0, 1.0, 0.5], [0, 1, 0], 0.75, "specificity is at most 0.5"),
        ("cost:100:1", [0.4, 0.6, 0.8], [1, 0, 0], 0.2, "predicted as P"),
        ("cost:1:100", [0.4, 0.6, 0.8], [1, 1, 0], 0.9, "predicted as N"),
    ],
)
def test_a_goal_out_of_reach_says_so(rule, scores, labels, threshold, told):
    found, note = ThresholdRule.parse(rule).choose(table(scores, labels))
    assert found == pytest.approx(threshold)
    assert told in note
    assert f"--threshold_rule={rule}" in note


def test_youden_is_the_rule_that_was():
    predictions = table(SCORES, LABELS)
    assert ThresholdRule.parse("") == ThresholdRule.parse("youden") == ThresholdRule()
    assert ThresholdRule().chosen(predictions) == Threshold.chosen(predictions)
    assert ThresholdRule().choose(predictions) == (choose_threshold(predictions), "")


def test_the_threshold_records_where_it_is_from():
    predictions = table(SCORES, LABELS)
    chosen = ThresholdRule.parse("cost:5.0:1").chosen(predictions)
    assert chosen == Threshold(chosen.threshold, 8, (4, 4), "P", "cost:5:1", "")
    fixed = ThresholdRule.parse("fixed:.5").chosen(predictions)
    assert fixed == Threshold(0.5, 0, (), "P", "fixed:0.5", "")


def test_one_class_chooses_nothing_but_may_be_fixed():
    one = table([0.1, 0.2], [0, 0])
    for rule in ("youden", "sensitivity:0.9", "cost:5:1"):
        with pytest.raises(InputError, match=r"fixed:0\.5"):
            ThresholdRule.parse(rule).choose(one)
    assert ThresholdRule.parse("fixed:0.3").choose(one) == (0.3, "")


@pytest.mark.parametrize(
    "text",
    [
        *("youdens", "youden:1", "fixed", "fixed:1.1", "fixed:-0.1", "fixed:nan", "sensitivity:x"),
        *("sensitivity:1/2", "cost:5", "cost:0:1", "cost:1:-1", "cost:1:2:3", "specificity:95", ":"),
    ],
)
def test_a_rule_that_does_not_exist_is_refused(text, facts):
    told = facts(f"--threshold_rule={text}: cost:5:1") if ":" not in text else re.escape(text)
    with pytest.raises(InputError, match=told):
        ThresholdRule.parse(text)


@pytest.mark.parametrize("text", ["youden", "fixed:0.5", "sensitivity:0.95", "specificity:0.9", "cost:5:1"])
def test_a_rule_is_written_as_it_is_read(text):
    assert str(ThresholdRule.parse(text)) == text
    assert ThresholdRule.parse(str(ThresholdRule.parse(text))) == ThresholdRule.parse(text)
