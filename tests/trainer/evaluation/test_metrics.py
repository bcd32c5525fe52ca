import re
import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.preprocessing import label_binarize

from tfrecords.errors import InputError
from trainer.evaluation import intervals, metrics
from trainer.evaluation.intervals import class_ranking, estimates, point_values
from trainer.evaluation.predictions import Predictions, choose_threshold, decide, worst_mistakes

NAMES = ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")


def binary(scores, labels, groups=None):
    scores = np.asarray(scores, np.float64)
    ids = tuple(f"r{i}" for i in range(len(scores)))
    rows = np.stack([1 - scores, scores], axis=1)
    return Predictions(NAMES[:2], ids, tuple(groups or ids), np.asarray(labels), rows)


def drawn(records, classes, *, decimals=None, seed=0, groups=None):
    """Predictions better than chance; few decimals make ties."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=records)
    logits = random.normal(size=(records, classes))
    logits[np.arange(records), labels] += 1
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if decimals is not None:
        rows = np.round(rows, decimals) + 0.01
        rows /= rows.sum(axis=1, keepdims=True)
    ids = tuple(f"r{i}" for i in range(records))
    members = random.integers(groups, size=records) if groups else ids
    return Predictions(NAMES[:classes], ids, tuple(f"g{g}" for g in members), labels, rows)


def by_sklearn(p, threshold):
    y, predicted = p.labels, decide(p, threshold)
    classes = range(len(p.class_names))
    recalls = sklearn_metrics.recall_score(y, predicted, average=None, labels=classes)
    each = sklearn_metrics.multilabel_confusion_matrix(y, predicted, labels=classes)
    specificities = each[:, 0, 0] / each[:, 0].sum(axis=1)
    averaged = {"average": "binary" if p.binary else "macro", "zero_division": 0}
    scores = p.scores if p.binary else p.probabilities
    one_hot = y if p.binary else label_binarize(y, classes=classes)
    return {
        "accuracy": sklearn_metrics.accuracy_score(y, predicted),
        "auroc": sklearn_metrics.roc_auc_score(y, scores, multi_class="ovr"),
        "auprc": sklearn_metrics.average_precision_score(one_hot, scores),
        "sensitivity": recalls[1] if p.binary else recalls.mean(),
        "specificity": specificities[1] if p.binary else specificities.mean(),
        "precision": sklearn_metrics.precision_score(y, predicted, **averaged),
        "f1": sklearn_metrics.f1_score(y, predicted, **averaged),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(y, predicted),
        # scikit-learn gives 0 where it is undefined.
        "mcc": np.nan if len(set(predicted)) == 1 else sklearn_metrics.matthews_corrcoef(y, predicted),
        "loss": sklearn_metrics.log_loss(y, p.probabilities),
        "brier": sklearn_metrics.brier_score_loss(y, scores),
    }


@pytest.mark.parametrize(
    ("predictions", "threshold"),
    [
        (drawn(200, 2), None),
        (drawn(200, 2), 0.3),
        (drawn(201, 2, decimals=1, seed=1), 0.5),  # Many ties.
        (drawn(50, 2, decimals=0, seed=2, groups=9), 0.7),  # Hardly more than two scores.
        (binary([0.4, 0.4, 0.4], [0, 1, 1]), 0.5),  # One score, nothing predicted: precision is 0.
        (binary([0.9, 0.1], [0, 1]), 0.5),  # All wrong.
        (binary([0.0, 1.0, 1.0], [0, 1, 0]), 0.5),  # The loss is clipped.
        (drawn(300, 3), None),
        (drawn(300, 3, decimals=1, seed=3, groups=20), None),
    ],
)
def test_values_are_scikit_learns(predictions, threshold):
    expected = by_sklearn(predictions, threshold)
    found = estimates(predictions, threshold, resamples=50)
    assert {name: e.value for name, e in found.items()} == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert point_values(predictions, threshold) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    matrix = sklearn_metrics.confusion_matrix(predictions.labels, decide(predictions, threshold))
    np.testing.assert_array_equal(metrics.confusion(predictions, threshold), matrix)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_are_those_of_scikit_learn_on_the_resampled_records(classes):
    predictions = drawn(360, classes, decimals=1, groups=120)
    names = sorted(set(predictions.groups))
    members = {name: np.flatnonzero(np.asarray(predictions.groups) == name) for name in names}
    generator, samples = np.random.default_rng(7), []
    for _ in range(40):
        picked = [names[i] for i in generator.integers(len(names), size=len(names))]
        rows = np.concatenate([members[name] for name in picked])
        ids = tuple(str(i) for i in range(len(rows)))
        labels, probabilities = predictions.labels[rows], predictions.probabilities[rows]
        samples.append(
            by_sklearn(Predictions(predictions.class_names, ids, ids, labels, probabilities), None)
        )
    for name, estimate in estimates(predictions, None, resamples=40, seed=7).items():
        expected = np.percentile([sample[name] for sample in samples], (2.5, 97.5))
        assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=1e-9), name
        assert estimate.undefined == 0


def test_copies_of_records_inside_a_group_do_not_narrow_its_intervals():
    once = drawn(150, 2)
    again = Predictions(
        once.class_names,
        tuple(f"{record}/{copy}" for copy in range(4) for record in once.ids),
        once.groups * 4,
        np.tile(once.labels, 4),
        np.tile(once.probabilities, (4, 1)),
    )
    independent = Predictions(again.class_names, again.ids, again.ids, again.labels, again.probabilities)
    by_group, plain = estimates(again, 0.5), estimates(independent, 0.5)
    for name, original in estimates(once, 0.5).items():
        assert by_group[name].high - by_group[name].low == pytest.approx(original.high - original.low)
        ratio = (by_group[name].high - by_group[name].low) / (plain[name].high - plain[name].low)
        assert ratio == pytest.approx(2, rel=0.15), name  # The square root of four copies.


def test_the_seed_decides_the_intervals(monkeypatch):
    predictions = drawn(300, 2, groups=100)
    first = estimates(predictions, 0.4, resamples=200, seed=3)
    assert estimates(predictions, 0.4, resamples=200, seed=3) == first
    assert estimates(predictions, 0.4, resamples=200, seed=4) != first
    monkeypatch.setattr(intervals, "_CHUNK_CELLS", 1000)  # Three resamples at once, not all 200.
    for name, estimate in estimates(predictions, 0.4, resamples=200, seed=3).items():
        assert (estimate.low, estimate.high) == pytest.approx((first[name].low, first[name].high))


@pytest.mark.slow
def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        labels = np.random.default_rng(seed).random(200) < 0.8  # "Always PNEUMONIA" is right 80%.
        estimate = estimates(binary(np.full(200, 0.9), labels.astype(int)), 0.5, resamples=300)
        covered += estimate["accuracy"].low <= 0.8 <= estimate["accuracy"].high
    assert 88 <= covered <= 100


def test_a_class_without_records_leaves_its_metrics_undefined():
    found = estimates(binary([0.8, 0.3, 0.6], [1, 1, 1]), 0.5, resamples=50)
    undefined = {name for name, estimate in found.items() if np.isnan(estimate.value)}
    assert undefined == {"auroc", "specificity", "balanced_accuracy", "mcc"}
    assert all(found[name].undefined == 50 and np.isnan(found[name].low) for name in undefined)
    assert found["sensitivity"].value == pytest.approx(2 / 3)


def test_resamples_without_a_class_are_counted_and_left_out():
    found = estimates(binary([0.8, 0.3, 0.6, 0.1], [1, 0, 1, 0]), 0.5, resamples=2000)
    # All four of one class: 2 x (1/2)^4 of the resamples.
    assert found["auroc"].undefined == pytest.approx(250, abs=60)
    assert found["sensitivity"].undefined == pytest.approx(125, abs=45)
    assert found["accuracy"].undefined == 0
    assert found["auroc"].high == 1


@pytest.mark.slow
def test_thousands_of_resamples_take_little_memory():
    predictions = drawn(5000, 2, groups=3000)
    tracemalloc.start()
    estimates(predictions, 0.5, resamples=2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.1, 0.2, 0.6, 0.8], [0, 0, 1, 1], 0.4),  # The middle of the gap that separates all.
        ([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1], 0.6),  # J 0.5 at 0.15 and at 0.6: the wider gap.
        ([0.7, 0.2, 0.2, 0.9], [0, 0, 1, 1], 0.8),  # A tie of both classes is not split.
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.5),  # Worse than chance: nothing to choose.
        ([0.3, 0.3], [0, 1], 0.5),  # One score.
        ([0.02, 0.01, 0.03, 0.04], [0, 0, 1, 1], 0.025),  # Far from 0.5, as class weights make it.
        ([0.5, np.nextafter(0.5, 1)], [0, 1], np.nextafter(0.5, 1)),  # No float in between.
    ],
)
def test_threshold_maximises_youden(scores, labels, expected):
    predictions = binary(scores, labels)
    assert choose_threshold(predictions) == pytest.approx(expected, rel=0, abs=1e-16)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_higher_youden(seed):
    predictions = drawn(150, 2, decimals=2, seed=seed)
    fpr, tpr, _ = sklearn_metrics.roc_curve(predictions.labels, predictions.scores)
    (tn, fp), (fn, tp) = metrics.confusion(predictions, choose_threshold(predictions))
    assert tp / (tp + fn) - fp / (fp + tn) == pytest.approx((tpr - fpr).max())


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.75, None])
def test_a_probability_that_equals_the_threshold_is_the_finding(threshold):
    exact = 0.5 if threshold is None else threshold
    predictions = binary([np.nextafter(exact, 0), exact, np.nextafter(exact, 1)], [0, 1, 1])
    assert decide(predictions, threshold).tolist() == [0, 1, 1]
    assert metrics.confusion(predictions, threshold).tolist() == [[1, 0], [0, 2]]
    assert point_values(predictions, threshold)["accuracy"] == 1
    assert worst_mistakes(predictions, threshold, 3).tolist() == []


def test_neighbouring_scores_are_separated_by_the_upper_one():
    """They have no number between them, so the threshold is a score itself."""
    low = 0.5
    high = np.nextafter(low, 1)
    threshold = choose_threshold(binary([low, high], [0, 1]))
    assert threshold == high
    assert decide(binary([low, high], [0, 1]), threshold).tolist() == [0, 1]


def test_a_threshold_needs_two_classes_with_records(facts):
    with pytest.raises(InputError, match="a threshold needs exactly two classes"):
        choose_threshold(drawn(30, 3))
    with pytest.raises(InputError) as caught:
        choose_threshold(binary([0.1, 0.2], [0, 0]))
    assert re.search(
        facts(
            "cannot choose a threshold from records per class {'NORMAL': 2, 'PNEUMONIA': 0}; both classes "
            "are needed: use a larger validation split, or decide at 0.5"
        ),
        str(caught.value),
    )
    with pytest.raises(InputError, match=r"threshold is 0\.5, but there are 3 classes"):
        decide(drawn(30, 3), 0.5)
    with pytest.raises(InputError, match=r"threshold is 1\.5; it must be a probability from 0 to 1"):
        estimates(drawn(30, 2), 1.5)


def test_ties_are_called_positive():
    predictions = binary([0.5, 0.25, 0.75], [0, 0, 0])
    assert decide(predictions, None).tolist() == [1, 0, 1]
    assert decide(predictions, 0.25).tolist() == [1, 1, 1]
    assert decide(predictions, 0.75).tolist() == [0, 0, 1]


def test_worst_mistakes_come_first():
    predictions = binary([0.9, 0.6, 0.2, 0.05, 0.9, 0.9], [0, 0, 1, 1, 1, 0])
    assert worst_mistakes(predictions, 0.5, 10).tolist() == [3, 0, 5, 2, 1]
    assert worst_mistakes(predictions, 0.15, 2).tolist() == [3, 0]


def test_curves_are_those_of_every_class():
    predictions = drawn(200, 3, decimals=1)
    for index in range(3):
        area, average = class_ranking(predictions, index)
        assert sklearn_metrics.auc(*metrics.roc_curve(predictions, index)) == pytest.approx(area)
        recall, precision = metrics.pr_curve(predictions, index)
        assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(average)


def test_reliability_bins():
    curve = metrics.reliability_curve(binary([0.0, 0.04, 0.5, 0.55, 0.58, 1.0], [0, 0, 1, 0, 1, 1]))
    assert curve.counts.tolist() == [2, 3, 1]
    assert curve.predicted == pytest.approx([0.02, 0.54333333, 1.0])
    assert curve.observed == pytest.approx([0, 2 / 3, 1])
    assert curve.error == pytest.approx((2 * 0.02 + 3 * (2 / 3 - 0.54333333)) / 6)
    # Wilson's interval of 2 in 3, as published in any table of it.
    assert (curve.low[1], curve.high[1]) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    # With two records a group it is that of as many groups.
    twice = metrics.reliability_curve(
        binary([0.5, 0.55, 0.58] * 2, [1, 0, 1] * 2, groups=["a", "b", "c"] * 2)
    )
    assert (twice.low[0], twice.high[0]) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert (curve.low >= 0).all()
    assert (curve.high <= 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("ONE",)}, "2 records of classes ('ONE',); needs >= 1 of >= 2"),
        (
            {"groups": ("g",)},
            "2 ids of 2 classes, but 1 groups, labels (2,) and probabilities (2, 2); all must agree",
        ),
        ({"labels": np.array([0, 2])}, "labels are int64 from 0 to 2; they must be integers in [0, 2)"),
        (
            {"labels": np.array([0.0, 1.0])},
            "labels are float64 from 0.0 to 1.0; they must be integers in [0, 2)",
        ),
        (
            {"probabilities": np.array([[0.5, 0.5], [2.5, -1.5]])},
            "probabilities of record 'b' are [2.5, -1.5]; they must be finite, in [0, 1] and sum to 1 "
            "(pass softmax outputs, not logits)",
        ),
        (
            {"probabilities": np.array([[np.nan, 0.5], [0.5, 0.5]])},
            "probabilities of record 'a' are [nan, 0.5]; they must be finite, in [0, 1] and sum to 1 "
            "(pass softmax outputs, not logits)",
        ),
    ],
)
def test_predictions_that_make_no_sense_are_refused(change, message, facts):
    good = {
        "class_names": ("A", "B"),
        "ids": ("a", "b"),
        "groups": ("g", "h"),
        "labels": np.array([0, 1]),
        "probabilities": np.full((2, 2), 0.5),
    }
    Predictions(**good)
    with pytest.raises(ValueError, match=facts(message)):
        Predictions(**{**good, **change})


def test_a_models_float32_and_int32_are_taken():
    logits = np.random.default_rng(0).normal(size=(64, 40)).astype(np.float32)
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = tuple(str(i) for i in range(64))
    names = tuple(f"class {i}" for i in range(40))
    predictions = Predictions(names, ids, ids, np.arange(64, dtype=np.int32) % 40, rows)
    assert predictions.probabilities.dtype == np.float64
    assert predictions.labels.dtype == np.int64
