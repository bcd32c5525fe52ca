import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import windows
from data_pipeline.order import window_shuffled

KEYS = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (3, 5, -1), (2**32 - 1, 1 << 40, 7)]


def interleaved(records, turn, cycle, block, parallel):
    """Returns (shard, record) as tf.data reads them."""
    counts = tf.constant(records, tf.int64)
    found = tf.data.Dataset.from_tensor_slices(tf.constant(turn, tf.int64)).interleave(
        lambda shard: tf.data.Dataset.range(counts[shard]).map(lambda record: (shard, record)),
        cycle_length=cycle,
        block_length=block,
        num_parallel_calls=parallel,
        deterministic=True,
    )
    return [(int(shard), int(record)) for shard, record in found.as_numpy_iterator()]


@pytest.mark.parametrize("seed", range(12))
def test_shards_side_by_side_are_what_tf_data_reads(seed):
    """Shards that end in mid-block, at a block's end, all at once; fewer and more of them than slots."""
    random = np.random.default_rng(seed)
    count, cycle, block = (int(random.integers(low, high)) for low, high in ((1, 14), (2, 5), (1, 5)))
    records = (random.integers(1, 12, count) * (block if seed % 3 == 0 else 1)).tolist()
    turn = random.permutation(count).tolist()
    ours = windows.interleaved(records, turn, cycle=cycle, block=block)
    pairs = zip(*(part.tolist() for part in ours.at(np.arange(sum(records)))), strict=True)
    assert list(pairs) == interleaved(records, turn, cycle, block, tf.data.AUTOTUNE)


def test_any_part_of_an_epoch_is_part_of_the_whole():
    ours = windows.interleaved([5, 40, 17, 33, 2, 64, 16, 1, 9, 100], [3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    shard, record = ours.at(np.arange(287))
    for first, end in ((0, 1), (16, 40), (100, 287), (286, 287)):
        part = ours.at(np.arange(first, end))
        assert part[0].tolist() == shard[first:end].tolist()
        assert part[1].tolist() == record[first:end].tolist()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("size", [1, 2, 17, 1000])
def test_both_ways_permute_alike(key, size):
    seed, epoch, window = key
    order = windows.permutation(size, seed=seed, epoch=epoch, window=window)
    assert sorted(order.tolist()) == list(range(size))
    graph = tf.function(window_shuffled)(
        tf.constant(size), seed=seed, epoch=tf.constant(epoch, tf.int64), window=tf.constant(window, tf.int64)
    )
    assert graph.numpy().tolist() == order.tolist()


def test_orders_differ():
    orders = {tuple(windows.permutation(50, seed=s, epoch=e, window=w).tolist()) for s, e, w in KEYS}
    assert len(orders) == len(KEYS)


def test_golden_order():
    """Pinned: a run resumed with another version of this code must go on in its order."""
    assert windows.permutation(8, seed=3, epoch=5, window=2).tolist() == [3, 2, 7, 5, 6, 0, 4, 1]
