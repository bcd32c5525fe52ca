import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.evaluation.intervals import estimates
from trainer.evaluation.predictions import Predictions, decide
from trainer.runs.paired import BETTER, NO_CLEAR_DIFFERENCE, SAME, UNDEFINED, WORSE, differences

AT = (0.4, 0.55)


def by_metric(*arguments, **options):
    return {difference.metric: difference for difference in differences(*arguments, **options)}


def plain_differences(first, second, thresholds, *, resamples, seed):
    """AUROC, accuracy and sensitivity, a resample after the other, by scikit-learn and means."""
    names, inverse = np.unique(np.asarray(first.groups), return_inverse=True)
    members = [np.flatnonzero(inverse == number) for number in range(len(names))]
    found = {"auroc": [], "accuracy": [], "sensitivity": []}
    draws = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    decided = [decide(each, threshold) for each, threshold in zip((first, second), thresholds, strict=True)]
    for draw in draws:
        rows = np.concatenate([members[group] for group in draw])
        labels = first.labels[rows]
        areas = [roc_auc_score(labels, each.scores[rows]) for each in (first, second)]
        rights = [(called[rows] == labels).mean() for called in decided]
        hits = [(called[rows] == 1)[labels == 1].mean() for called in decided]
        for name, pair in zip(found, (areas, rights, hits), strict=True):
            found[name].append(pair[0] - pair[1])
    return {name: np.percentile(values, (2.5, 97.5)) for name, values in found.items()}


def test_the_interval_is_that_of_a_plain_loop(predictions_of):
    first, second = predictions_of(2, seed=1), predictions_of(1.5, seed=2)
    found = by_metric(first, second, AT, resamples=60, seed=3)
    for name, (low, high) in plain_differences(first, second, AT, resamples=60, seed=3).items():
        assert found[name].method == "bootstrap"
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=1e-9), name


def test_each_side_is_what_its_own_report_says(predictions_of):
    first, second = predictions_of(2, seed=1), predictions_of(1.5, seed=2)
    found = by_metric(first, second, AT, resamples=200)
    for name, estimate in estimates(first, AT[0], resamples=200).items():
        assert found[name].first == estimate
        assert found[name].value == estimate.value - found[name].second.value


def test_the_same_seed_gives_the_same_figures_and_another_one_does_not(predictions_of):
    first, second = predictions_of(2, seed=1), predictions_of(1.5, seed=2)
    one, again, other = (differences(first, second, AT, resamples=100, seed=seed) for seed in (5, 5, 6))
    assert one == again
    assert [each.low for each in one] != [each.low for each in other]


def test_turned_round_the_difference_changes_its_sign(predictions_of):
    first, second = predictions_of(2, seed=1), predictions_of(1.5, seed=2)
    there = by_metric(first, second, AT, resamples=100)
    back = by_metric(second, first, AT[::-1], resamples=100)
    for name, difference in there.items():
        assert (back[name].low, back[name].high) == pytest.approx((-difference.high, -difference.low))
        assert {difference.verdict, back[name].verdict} in ({BETTER, WORSE}, {NO_CLEAR_DIFFERENCE})


def test_a_stronger_model_is_better_and_lower_losses_are(predictions_of):
    found = by_metric(predictions_of(3, seed=1), predictions_of(1, seed=2), AT)
    assert {name for name, each in found.items() if each.verdict == BETTER} >= {"auroc", "accuracy", "loss"}
    assert found["auroc"].value > 0 > found["loss"].value


def test_pairs_tell_more_than_two_separate_intervals(predictions_of):
    """Two models that make nearly the same mistakes: the intervals overlap, the difference is clear."""
    first = predictions_of(1.2, seed=1)
    second = predictions_of(1.0, seed=1)
    auroc = by_metric(first, second, (0.5, 0.5))["auroc"]
    assert auroc.first.low < auroc.second.high
    assert auroc.verdict == BETTER


@pytest.mark.parametrize("in_group", [2, 100])
def test_the_same_answers_are_no_difference(predictions_of, in_group):
    model = predictions_of(2, in_group=in_group)
    for difference in differences(model, model, (0.4, 0.4), resamples=50):
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
        assert difference.verdict == SAME


def test_models_that_decide_alike_are_not_called_equal(predictions_of):
    """Other probabilities on the same side of the threshold: no resample differs, yet other data may."""
    model = predictions_of(2)
    scores = model.scores
    nearer = np.where(scores >= 0.5, (scores + 0.5) / 2, scores / 2 + 0.25)
    other = Predictions(
        model.class_names, model.ids, model.groups, model.labels, np.stack([1 - nearer, nearer], axis=1)
    )
    accuracy = by_metric(model, other, (0.5, 0.5), resamples=100)["accuracy"]
    assert (accuracy.value, accuracy.method, accuracy.verdict) == (0, "separate", NO_CLEAR_DIFFERENCE)
    assert accuracy.low < 0 < accuracy.high


@pytest.mark.parametrize(("records", "in_group"), [(24, 2), (400, 40)])
def test_few_groups_widen_the_interval(predictions_of, records, in_group):
    """By the exact intervals of both: ten patients tell no more for having forty images each."""
    first, second = (
        predictions_of(strength, seed=seed, records=records, in_group=in_group)
        for strength, seed in ((3, 1), (0.5, 2))
    )
    found = by_metric(first, second, (0.5, 0.5), resamples=200)
    for name in ("accuracy", "auroc", "sensitivity", "specificity"):
        assert found[name].method == "separate"
        wide = math.hypot(
            found[name].first.value - found[name].first.low,
            found[name].second.high - found[name].second.value,
        )
        assert found[name].low <= found[name].value - wide
    assert (found["loss"].method, found["loss"].verdict) == ("none", NO_CLEAR_DIFFERENCE)


def test_a_metric_without_its_class_is_undefined():
    scores = np.linspace(0.1, 0.9, 60)
    ids = tuple(map(str, range(60)))
    first, second = (
        Predictions(("a", "b"), ids, ids, np.zeros(60, np.int64), np.stack([1 - each, each], axis=1))
        for each in (scores, scores**2)
    )
    found = by_metric(first, second, (0.5, 0.5), resamples=50)
    assert found["auroc"].verdict == found["sensitivity"].verdict == UNDEFINED
    assert found["specificity"].verdict == NO_CLEAR_DIFFERENCE or found["specificity"].method == "bootstrap"


def test_more_than_two_classes(predictions_of):
    names = ("a", "b", "c")
    first, second = (predictions_of(strength, seed=2, classes=names) for strength in (3, 1))
    found = by_metric(first, second, (None, None), resamples=100)
    assert found["accuracy"].verdict == found["auroc"].verdict == BETTER


def test_other_records_are_refused(predictions_of):
    with pytest.raises(ValueError, match="same records"):
        differences(predictions_of(2), predictions_of(2, records=100), AT)
