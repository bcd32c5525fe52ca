import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from trainer.evaluation import metrics
from trainer.evaluation.intervals import estimates, point_values
from trainer.evaluation.predictions import Predictions, Threshold, choose_threshold, decide, worst_mistakes

NAMES = ("COVID", "NORMAL")


def drawn(positive, records=200, seed=5):
    """COVID is class 0; scores are rounded, so that there are ties."""
    random = np.random.default_rng(seed)
    labels = (random.random(records) < 0.7).astype(np.int64)
    scores = np.round(1 / (1 + np.exp(-random.normal(1.2 * (2 * labels - 1), 1.5))), 2)
    ids = tuple(f"r{i}" for i in range(records))
    groups = tuple(f"g{i // 2}" for i in range(records))
    return Predictions(NAMES, ids, groups, labels, np.stack([1 - scores, scores], axis=1), positive)


def test_what_is_told_is_of_the_positive_class_as_scikit_learn_has_it():
    of_covid = drawn(0)
    y, score = of_covid.labels, of_covid.probabilities[:, 0]
    predicted = np.where(score >= 0.3, 0, 1)
    assert decide(of_covid, 0.3).tolist() == predicted.tolist()
    expected = {
        "auroc": sklearn_metrics.roc_auc_score(y == 0, score),
        "auprc": sklearn_metrics.average_precision_score(y == 0, score),
        "sensitivity": sklearn_metrics.recall_score(y, predicted, pos_label=0),
        "specificity": sklearn_metrics.recall_score(y, predicted, pos_label=1),
        "precision": sklearn_metrics.precision_score(y, predicted, pos_label=0),
        "f1": sklearn_metrics.f1_score(y, predicted, pos_label=0),
        "accuracy": sklearn_metrics.accuracy_score(y, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(y, predicted),
        "brier": sklearn_metrics.brier_score_loss(y == 0, score),
        "mcc": sklearn_metrics.matthews_corrcoef(y, predicted),
        "loss": sklearn_metrics.log_loss(y, of_covid.probabilities),
    }
    assert point_values(of_covid, 0.3) == pytest.approx(expected, abs=1e-12)
    assert estimates(of_covid, 0.3, resamples=20)["sensitivity"].value == pytest.approx(
        expected["sensitivity"]
    )
    tn, fp, fn, tp = sklearn_metrics.confusion_matrix(y, predicted, labels=[1, 0]).ravel().tolist()
    assert metrics.outcomes(of_covid, 0.3) == (tn, fp, fn, tp)
    # The matrix stays in the order of the classes.
    assert metrics.confusion(of_covid, 0.3).tolist() == [[tp, fn], [fp, tn]]


def test_the_classes_in_the_other_order_are_the_same_predictions():
    of_covid, there = drawn(0), drawn(1)
    turned = Predictions(
        NAMES[::-1], there.ids, there.groups, 1 - there.labels, there.probabilities[:, ::-1], positive=1
    )
    threshold = choose_threshold(of_covid)
    assert choose_threshold(turned) == threshold
    assert decide(turned, threshold).tolist() == (1 - decide(of_covid, threshold)).tolist()
    assert estimates(turned, threshold, resamples=50) == estimates(of_covid, threshold, resamples=50)
    assert worst_mistakes(turned, threshold, 9).tolist() == worst_mistakes(of_covid, threshold, 9).tolist()
    ours, theirs = (metrics.reliability_curve(p) for p in (of_covid, turned))
    assert ours.observed.tolist() == theirs.observed.tolist()


def test_the_threshold_of_either_class_has_the_highest_youden_index_of_scikit_learn():
    for positive in (0, 1):
        predictions = drawn(positive)
        truth = predictions.labels == positive
        fpr, tpr, _ = sklearn_metrics.roc_curve(truth, predictions.scores)
        tn, fp, fn, tp = metrics.outcomes(predictions, choose_threshold(predictions))
        assert tp / (tp + fn) - fp / (fp + tn) == pytest.approx((tpr - fpr).max())


def test_a_tie_is_the_finding():
    predictions = Predictions(
        NAMES, ("a", "b"), ("a", "b"), np.array([0, 1]), np.full((2, 2), 0.5), positive=0
    )
    assert decide(predictions, None).tolist() == [0, 0]


def test_a_threshold_keeps_what_it_was_chosen_on():
    predictions = drawn(1).of("COVID")
    assert (predictions.positive, predictions.positive_name) == (0, "COVID")
    assert predictions.of("").positive == 1
    groups = np.asarray(predictions.groups)
    each = tuple(len(set(groups[predictions.labels == k])) for k in (0, 1))
    assert Threshold.chosen(predictions) == Threshold(choose_threshold(predictions), 200, each, "COVID")
    three = Predictions(("A", "B", "C"), ("a",), ("a",), np.array([0]), np.full((1, 3), 1 / 3))
    assert (Threshold.chosen(three), three.positive_name) == (Threshold(None, 0, (), ""), "")


def test_a_positive_class_that_is_none_is_refused():
    with pytest.raises(ValueError, match="positive is 2"):
        drawn(2)
