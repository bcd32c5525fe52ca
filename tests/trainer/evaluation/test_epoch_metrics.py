import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from trainer.evaluation.epoch_metrics import EpochMetrics


def of_two(weighted_loss):
    """Three records and one of padding; the second class weighs three times as much."""
    meters = EpochMetrics(2, weighted_loss=weighted_loss)
    logits = np.array([[2, 0], [0, 2], [2, 0], [0, 0]], np.float32)  # right, right, wrong
    weight = np.array([1, 1, 1, 0], np.float32)
    loss = np.array([0.5, 1.0, 3.0, 9.0], np.float32)
    of_training = (weight * np.array([1, 3, 3, 1], np.float32),) if weighted_loss else ()
    meters.update(np.array([0, 1, 1, 0]), logits, loss, weight, *of_training)
    return meters


def test_each_record_counts_alike_and_the_loss_is_kept_by_weight_too():
    plain, both = of_two(False).take(), of_two(True).take()
    assert plain == {"loss": 1.5, "accuracy": pytest.approx(2 / 3), "auc": pytest.approx(0.75), "mcc": 0.5}
    assert both == plain | {"weighted_loss": pytest.approx((0.5 + 3 * 1.0 + 3 * 3.0) / 7)}


def test_what_a_version_before_kept_is_taken_as_its_weighted_loss():
    kept = np.concatenate([np.ravel(each) for each in of_two(False).sums])[None]
    assert of_two(False).of_before(kept) is kept
    without = kept[:, :-5]  # as a version had it that knew no MCC
    assert np.array_equal(of_two(False).of_before(without), [[*without[0], *np.zeros(5)]])
    taken = of_two(True).of_before(without)
    assert np.array_equal(taken, [[*without[0], *without[0, :2], *np.zeros(5)]])
    assert of_two(True).of_before(taken) is taken


@pytest.mark.parametrize("classes", [2, 4])
def test_the_correlation_is_scikit_learns_over_batches(classes):
    random, meters = np.random.default_rng(classes), EpochMetrics(classes)
    assert meters.take()["mcc"] == 0  # of no record
    labels, logits = random.integers(classes, size=60), random.normal(size=(60, classes)).astype(np.float32)
    logits[np.arange(60), labels] += 1
    for rows in (slice(0, 40), slice(40, 60)):
        ones = np.ones(len(labels[rows]), np.float32)
        meters.update(labels[rows], logits[rows], ones, ones)
    assert meters.take()["mcc"] == pytest.approx(matthews_corrcoef(labels, logits.argmax(axis=1)), abs=1e-6)
    meters.reset()
    constant = np.eye(classes, dtype=np.float32)[np.zeros(60, int)]
    meters.update(labels, constant, np.ones(60, np.float32), np.ones(60, np.float32))
    assert meters.take()["mcc"] == 0  # all are predicted as one class
