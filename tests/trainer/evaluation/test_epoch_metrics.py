import numpy as np
import pytest

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
    assert plain == {"loss": 1.5, "accuracy": pytest.approx(2 / 3), "auc": pytest.approx(0.75)}
    assert both == plain | {"weighted_loss": pytest.approx((0.5 + 3 * 1.0 + 3 * 3.0) / 7)}


def test_what_a_version_before_kept_is_taken_as_its_weighted_loss():
    kept = np.concatenate([np.ravel(each) for each in of_two(False).sums])[None]
    assert of_two(False).of_before(kept) is kept
    taken = of_two(True).of_before(kept)
    assert np.array_equal(taken, [[*kept[0], *kept[0, :2]]])
    assert of_two(True).of_before(taken) is taken
