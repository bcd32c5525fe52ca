from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.dataset import epoch_steps, make_dataset
from data_pipeline.options import PipelineOptions, Worker
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


class Runs:
    """Batches of a data set with the keys that say which records these are, and their draws."""

    def __init__(self, data):
        self._data = data

    def options(self, cache, copies="all", last_batch="wrap", batch=24):
        return PipelineOptions(
            global_batch_size=batch,
            cache=cache,
            last_batch=last_batch,
            copies=copies,
            augment="standard",
            shuffle_window=24 << 10,  # some 18 records
            seed=3,
        )

    def steps(self, options):
        return epoch_steps(self._data.manifest, "train", options, training=True)

    def batches(self, options, count, *, start_step=0, workers=1):
        """Returns `count` global batches as lists of (source, copy, key), put together from all workers."""
        parts = [
            make_dataset(
                self._data.directory,
                self._data.manifest,
                "train",
                options,
                training=True,
                start_step=start_step,
                worker=Worker(index, workers),
                fields=("source", "copy"),
            )
            .take(count)
            .as_numpy_iterator()
            for index in range(workers)
        ]
        return [
            [
                row
                for part in step
                for row in zip(*(part[name].tolist() for name in ("source", "copy", "key")), strict=True)
            ]
            for step in zip(*parts, strict=True)
        ]


@pytest.fixture
def runs(data):
    return Runs(data)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["memory", "stream"])
@pytest.mark.parametrize(
    ("copies", "last_batch", "others"),
    [("all", "wrap", (2, 3, 8)), ("one", "drop", (3,)), ("none", "wrap", (2,))],
)
def test_epochs_are_exact_for_any_number_of_workers(runs, data, cache, copies, last_batch, others):
    """Each epoch's multiset of records; the same global batches, to the row, of 1, 2, 3 and 8 workers."""
    options = runs.options(cache, copies, last_batch)
    steps, epochs = runs.steps(options), 3
    whole = runs.batches(options, epochs * steps)
    records = [(record.source, record.copy) for record in data.records("train")]
    size = len(records) if copies == "all" else data.manifest.split("train").images
    for epoch in range(epochs):
        rows = [row for batch in whole[epoch * steps : (epoch + 1) * steps] for row in batch]
        once = rows[: size if last_batch == "wrap" else steps * 24]
        shown = Counter((source, copy) for source, copy, _ in once)
        expected = Counter(pair for pair in records if copies != "none" or pair[1] == 0)
        if copies == "one":  # test_copies.py says which one
            assert shown <= expected
            shown = Counter(source for source, *_ in once)
            expected = Counter({source for source, _ in records})
        assert shown <= expected
        assert expected.total() == size
        assert size - shown.total() == (0 if last_batch == "wrap" else size % 24)
        assert rows[len(once) :] == rows[: len(rows) - len(once)]  # "wrap": with this epoch's draws
    for workers in others:
        assert runs.batches(options, epochs * steps, workers=workers) == whole


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_any_start_goes_on_exactly(runs, cache):
    """Resumed at 20 random steps of three epochs, now and then with another number of workers."""
    options = runs.options(cache, "one")
    steps = 3 * runs.steps(options)
    whole = runs.batches(options, steps + 2)
    starts = np.random.default_rng(0).integers(0, steps, 20).tolist()
    for start, workers in zip(starts, [2, 3] + [1] * 18, strict=True):
        assert runs.batches(options, 2, start_step=start, workers=workers) == whole[start : start + 2]


@pytest.mark.slow
@pytest.mark.parametrize("copies", ["all", "one", "none"])
def test_tiers_show_the_same_records_with_the_same_draws(runs, copies):
    epochs = []
    for cache in ("memory", "stream"):
        options = runs.options(cache, copies, batch=20)
        steps = runs.steps(options)
        found = runs.batches(options, 2 * steps)
        epochs.append([{row for batch in found[at : at + steps] for row in batch} for at in (0, steps)])
    assert epochs[0] == epochs[1]
    assert {key for *_, key in epochs[0][0]}.isdisjoint({key for *_, key in epochs[0][1]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cache", "copies", "rows"),
    [
        ("memory", "all", [(11, 3), (33, 1), (26, 1), (23, 2), (33, 0), (7, 1), (55, 3), (53, 3)]),
        ("memory", "one", [(0, 3), (10, 3), (24, 1), (47, 2), (53, 3), (19, 2), (30, 0), (14, 3)]),
        ("memory", "none", [(0, 0), (10, 0), (24, 0), (47, 0), (53, 0), (19, 0), (30, 0), (14, 0)]),
        ("stream", "all", [(56, 1), (54, 2), (21, 2), (39, 0), (56, 2), (15, 0), (6, 0), (33, 2)]),
        ("stream", "one", [(55, 2), (33, 0), (10, 3), (51, 1), (45, 0), (43, 1), (32, 0), (19, 2)]),
        ("stream", "none", [(25, 0), (54, 0), (47, 0), (23, 0), (45, 0), (24, 0), (21, 0), (33, 0)]),
    ],
)
def test_golden_batches(runs, cache, copies, rows):
    """Pinned, from the second epoch: (source, copy); keys are pinned in test_augment.py."""
    options = runs.options(cache, copies)
    [batch] = runs.batches(options, 1, start_step=runs.steps(options) + 1)
    assert [row[:2] for row in batch[: len(rows)]] == rows
