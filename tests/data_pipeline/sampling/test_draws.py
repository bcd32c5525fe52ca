import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.order import shuffled
from data_pipeline.sampling.draws import drawn
from data_pipeline.sampling.shares import WHOLE, Shares, shares_of

EPOCHS = 60
GOLDEN = [[2, 2, 5, 5, 1, 3, 3, 3], [3, 3, 1, 1, 5, 2, 2, 0]]


def epoch_of(shares, size, epoch, seed=3):
    unit, repeat = drawn(shares, size=size, seed=seed, epoch=tf.constant(epoch, tf.int64))
    return unit.numpy(), repeat.numpy()


def made_of(weights):
    """Returns the shares of images of these weights, in one block."""
    share = np.rint(np.asarray(weights) / np.sum(weights) * WHOLE).astype(np.int64)
    share[share.argmax()] += WHOLE - share.sum()
    place = tf.range(len(share), dtype=tf.int64)
    return Shares(tf.constant(share), tf.zeros_like(place), place, 1, len(share))


@pytest.fixture(scope="module")
def columns():
    """A fifth of 97 records is of class 1; groups have 1 to 9 records."""
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(25), 1 + np.arange(25) % 9)[:97]
    return {
        "source": np.arange(97),
        "label": (random.random(97) < 0.2).astype(int),
        "group": np.array([f"{number:02d}".encode() for number in group], object),
    }


@pytest.mark.parametrize("sampling", ["class", "group"])
@pytest.mark.parametrize("size", [97, 40, 211])
def test_each_epoch_has_floor_or_ceil_of_what_is_expected(columns, sampling, size):
    shares = shares_of(sampling, columns, "train")
    expected = shares.share.numpy() / WHOLE * size
    total = np.zeros(97)
    for epoch in range(EPOCHS):
        unit, _ = epoch_of(shares, size, epoch)
        counts = np.bincount(unit, minlength=97)
        assert (counts >= np.floor(expected)).all()
        assert (counts <= np.ceil(expected)).all()
        per_block = np.bincount(shares.block.numpy(), counts)
        assert (np.abs(per_block - size / shares.blocks) < 1).all()
        total += counts
    part = expected % 1
    deviation = np.sqrt(part * (1 - part) / EPOCHS)  # of the mean of Bernoulli numbers
    assert (np.abs(total / EPOCHS - expected) <= 4.5 * deviation + 1e-9).all()


def test_weights_say_how_often_each_comes_and_never_at_0():
    weights = np.random.default_rng(1).gamma(0.5, size=300)
    weights[:20] = 0
    shares = made_of(weights)
    expected = weights / weights.sum() * 300
    counts = np.stack(
        [np.bincount(epoch_of(shares, 300, epoch)[0], minlength=300) for epoch in range(EPOCHS)]
    )
    assert (counts >= np.floor(expected)).all()
    assert (counts <= np.ceil(expected)).all()
    part = expected % 1
    assert (np.abs(counts.mean(0) - expected) <= 4.5 * np.sqrt(part * (1 - part) / EPOCHS) + 1e-9).all()
    # Which of the rare ones come is drawn anew each epoch, one apart from another.
    rare = counts[:, (part > 0.2) & (part < 0.8) & (expected < 1)].astype(float)
    pairs = np.corrcoef(rare.T)[np.triu_indices(rare.shape[1], 1)]
    assert np.abs(pairs).max() < 0.75
    assert np.abs(pairs.mean()) < 0.05


def test_a_repeat_is_numbered():
    unit, repeat = epoch_of(made_of([1, 5, 2]), 16, 0)
    for each in range(3):
        assert repeat[unit == each].tolist() == list(range(2 * (1, 5, 2)[each]))


def test_equal_shares_are_drawn_once_each_and_do_not_undo_the_epochs_order():
    """If one permutation gave the line and then the positions, an epoch would be in the shards' order."""
    shares = made_of(np.ones(64))
    unit, repeat = epoch_of(shares, 64, 5)
    assert sorted(unit) == list(range(64))
    assert not repeat.any()
    position = tf.range(64, dtype=tf.int64)
    order = unit[shuffled(position, seed=3, epoch=tf.constant(5, tf.int64), size=64).numpy()]
    assert (np.abs(np.diff(order)) == 1).sum() < 12  # Poisson with mean 2
    assert (order == np.arange(64)).sum() < 10  # Poisson with mean 1


@pytest.mark.parametrize("size", [1, 2**16])
def test_no_product_overflows(size):
    unit, _ = epoch_of(made_of([1, 2**30]), size, 0, seed=2**32 - 1)
    assert np.bincount(unit, minlength=2)[1] >= size - 1


def test_golden_draws():
    """Pinned: a run resumed with another version of this code or TensorFlow must go on with its draws."""
    shares = made_of([1, 2, 3, 4, 0, 2.5])
    assert [epoch_of(shares, 8, epoch)[0].tolist() for epoch in (0, 1)] == GOLDEN
    in_a_graph = tf.function(lambda epoch: drawn(shares, size=8, seed=3, epoch=epoch)[0])
    assert in_a_graph(tf.constant(1, tf.int64)).numpy().tolist() == GOLDEN[1]
