import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import beta

from data_pipeline.step.soft_targets import SoftTargets, mixed_pairs, own_shares, upper_quantiles

KEYS = tf.constant(np.random.default_rng(0).integers(0, 2**62, 8))


def cross_entropy(targets, logits):
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -(targets * log).sum(1)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothing_spreads_a_share_of_each_label_over_all_classes(smoothing):
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 2], np.int32)
    image = tf.zeros([4, 2, 2, 1], tf.uint8)
    soft = SoftTargets.of(3, smoothing, 0.0)
    same, shares = soft({"label": labels}, image)
    assert same is image
    targets = np.full((4, 3), smoothing / 3)
    targets[np.arange(4), labels] += 1 - smoothing
    assert soft.loss(shares, logits).numpy() == pytest.approx(cross_entropy(targets, logits), rel=1e-5)


def test_without_smoothing_and_mixup_the_labels_are_the_targets():
    assert SoftTargets.of(2, 0.0, 0.0) is None


def test_rows_of_a_pair_mix_images_and_labels_in_the_same_shares():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (8, 3, 2, 1), np.uint8)
    label = np.array([0, 1, 1, 1, 2, 0, 0, 0], np.int32)
    mixed, shares = SoftTargets(3, 0.0, 1.0)({"label": label, "key": KEYS}, tf.constant(image))
    own = own_shares(KEYS, 1.0).numpy()
    partner = np.arange(8) ^ 1
    assert np.array_equal(own, own[partner])
    assert len(set(own)) == 4
    assert (own >= 0.5).all()
    assert (own < 1).all()
    one_hot, each = np.eye(3)[label], own[:, None, None, None]
    expected = each * image + (1 - each) * image[partner]
    assert mixed.dtype == tf.uint8
    assert np.abs(mixed.numpy() - expected).max() <= 0.5 + 1e-4
    assert shares.numpy() == pytest.approx(own[:, None] * one_hot + (1 - own[:, None]) * one_hot[partner])


@pytest.mark.parametrize("rows", [2, 4])
def test_a_batch_mixes_alike_for_any_number_of_replicas(rows):
    """The weights of a run must not depend on how its global batch is divided."""
    values = tf.constant(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    whole = mixed_pairs(values, own_shares(KEYS, 0.4))
    parts = [
        mixed_pairs(values[at : at + rows], own_shares(KEYS[at : at + rows], 0.4)) for at in range(0, 8, rows)
    ]
    assert np.array_equal(whole, tf.concat(parts, 0))


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 8.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha):
    values = np.asarray(upper_quantiles(alpha))
    assert (np.diff(values) >= 0).all()
    for point in (0.5, 0.6, 0.75, 0.9, 0.99):  # of max(lambda, 1 - lambda): twice the upper half
        assert (values <= point).mean() == pytest.approx(2 * beta.cdf(point, alpha, alpha) - 1, abs=1e-3)
    keys = tf.constant(np.random.default_rng(1).integers(0, 2**62, 8000))
    drawn = own_shares(keys, alpha).numpy()[::2]
    assert drawn.mean() == pytest.approx(values.mean(), abs=5 * values.std() / 4000**0.5)
