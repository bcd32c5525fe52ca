import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.order import shuffled, steps_per_epoch

CHEST_XRAY = 10_464  # records of train as converted by default


def epoch_order(size, seed=0, epoch=0):
    return shuffled(tf.range(size, dtype=tf.int64), seed=seed, epoch=epoch, size=size).numpy()


@pytest.mark.parametrize(
    ("records", "global_batch_size", "last_batch", "steps"),
    [
        (64, 32, "wrap", 2),
        (64, 32, "drop", 2),
        (65, 32, "wrap", 3),
        (65, 32, "pad", 3),
        (65, 32, "drop", 2),
        (95, 32, "drop", 2),
        (1, 32, "wrap", 1),
        (1, 32, "pad", 1),
        (1, 32, "drop", 0),  # the caller refuses it
        (7, 1, "wrap", 7),
        (7, 1, "drop", 7),
    ],
)
def test_steps_per_epoch(records, global_batch_size, last_batch, steps):
    assert steps_per_epoch(records, global_batch_size, last_batch) == steps


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000, 1 << 12])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_every_epoch_is_a_permutation(size, seed):
    for epoch in (0, 1, 2, 1000):
        order = epoch_order(size, seed, epoch)
        assert order.dtype == np.int64
        assert sorted(order) == list(range(size))


@pytest.mark.parametrize(
    ("size", "seed", "epoch", "order"),
    [
        (7, 0, 0, [1, 3, 0, 4, 6, 2, 5]),
        (7, 0, 1, [5, 4, 1, 2, 6, 3, 0]),
        (7, 1, 0, [0, 3, 2, 6, 5, 1, 4]),
        (1000, 3, 5, [2, 812, 125, 644, 89, 525, 546, 652]),
    ],
)
def test_golden_orders(size, seed, epoch, order):
    """Pinned: a run resumed with another version of this code or of TensorFlow must go on in its order."""
    assert epoch_order(size, seed, epoch)[: len(order)].tolist() == order


def test_the_order_is_pure():
    """Any part of an epoch, asked for in any program state, is the same part of the same order."""
    whole = epoch_order(1000, 3, 5)
    tf.random.set_seed(1)
    tf.random.uniform([3])
    positions = tf.constant([999, 0, 500, 0], tf.int64)
    part = tf.function(shuffled)(positions, seed=3, epoch=tf.constant(5, tf.int64), size=1000)
    assert part.numpy().tolist() == whole[[999, 0, 500, 0]].tolist()


@pytest.mark.parametrize("size", [100, 1000, CHEST_XRAY])
def test_the_shuffle_is_as_good_as_a_random_one(size):
    """Against the moments of uniform permutations, at more than 5 standard deviations.

    With the 4 rounds of `tf.random.experimental.index_shuffle` all of these fail: some epochs keep
    more than a tenth of the neighbours, and those of the real data set's size resemble each other.
    """
    keys = [(0, epoch) for epoch in range(40)] + [(seed, epoch) for seed in range(1, 21) for epoch in (0, 1)]
    orders = np.stack([epoch_order(size, *key) for key in keys]).astype(float)
    place = np.arange(size)

    displacement = np.abs(orders - place).mean(1)  # n / 3 each, deviation n / sqrt(22.5 n)
    assert np.abs(displacement / size - 1 / 3).max() < 5.5 / np.sqrt(22.5 * size)

    neighbours = np.abs(np.diff(orders)) == 1  # Poisson with mean 2
    assert neighbours.sum(1).max() < 14
    assert 1.2 < neighbours.sum(1).mean() < 2.8
    runs = neighbours[:, 2:] & neighbours[:, 1:-1] & neighbours[:, :-2]  # four neighbours in a row
    assert runs.sum() <= 2

    # Rank correlations of uniform permutations: mean 0, deviation 1 / sqrt(n - 1).
    scaled = (orders - (size - 1) / 2) / orders.std(1, keepdims=True)
    with_place = scaled @ (place - (size - 1) / 2) / place.std() / np.sqrt(size)
    assert np.abs(with_place).max() < 5.5
    pairs = (scaled @ scaled.T / np.sqrt(size))[np.triu_indices(len(keys), 1)]
    assert np.abs(pairs).max() < 5.5
    assert 0.9 < pairs.std() < 1.1

    agreement = (orders[:, None, ::7] == orders[None, :, ::7]).sum(2)[np.triu_indices(len(keys), 1)]
    assert agreement.max() < 12  # Poisson with mean 1 / 7
