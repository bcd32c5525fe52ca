import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.stream import portable
from data_pipeline.windows import BLOCK, CYCLE
from tfrecords.example import decode


@pytest.fixture
def epoch_keys(converted):
    """Returns the positions, in the order of the shards, of the records of a streamed epoch."""
    data = converted("raw", 3)
    place = {(r.id, r.copy): at for at, r in enumerate(data.records("train"))}
    described = data.manifest.split("train")
    mean = sum(shard.bytes for shard in described.shards) // described.records

    def keys(window=0, seed=0, epoch=0):
        stream = portable.epoch_records(
            data.directory,
            data.manifest,
            "train",
            window=window * mean,
            seed=seed,
            epoch=tf.constant(epoch, tf.int64),
        )
        records = [decode(one) for one in stream.as_numpy_iterator()]
        return [place[record.id, record.copy] for record in records]

    return keys


@pytest.mark.parametrize("window", [0, 1, 16, 1 << 40])
def test_an_epoch_has_every_record_once(epoch_keys, converted, window):
    count = converted("raw", 3).manifest.split("train").records
    assert sorted(epoch_keys(window)) == list(range(count))


@pytest.mark.slow
def test_the_order_follows_from_seed_and_epoch(epoch_keys):
    order = epoch_keys(16, seed=1, epoch=2)
    assert epoch_keys(16, seed=1, epoch=2) == order
    for seed, epoch in ((1, 3), (2, 2), (2, 1), (0, 0)):
        assert epoch_keys(16, seed, epoch) != order


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 1), (5, 3)])
def test_the_order_is_no_matter_of_the_programs_seed(epoch_keys, seed, epoch):
    """Workers that were seeded differently must still cut the same global batches."""
    orders = []
    for program in (0, 1, 2):
        tf.random.set_seed(program)
        orders.append(epoch_keys(16, seed, epoch))
    assert orders[0] == orders[1] == orders[2]


def test_golden_order(epoch_keys):
    """Pinned: a run resumed with another version of this code or of TensorFlow must go on in its order."""
    assert epoch_keys(16, seed=3, epoch=5)[:12] == [49, 42, 47, 52, 40, 46, 44, 50, 54, 48, 45, 41]


def test_shards_are_read_side_by_side_and_in_a_new_order_each_epoch(epoch_keys, converted):
    shards = converted("raw", 3).manifest.split("train").shards
    assert len(shards) > CYCLE
    shard_of = np.repeat(range(len(shards)), [shard.records for shard in shards])
    starts = []
    for epoch in range(4):
        read = shard_of[epoch_keys(1, epoch=epoch)]  # a window of one record: as it is read
        turns = read[: CYCLE * BLOCK]
        assert len(set(turns)) == CYCLE
        starts.append(tuple(dict.fromkeys(turns.tolist())))
    assert len(set(starts)) == 4


@pytest.mark.parametrize("window", [2, 16, 64])
def test_the_window_is_in_bytes_of_undecoded_records(epoch_keys, window):
    """A record comes at most `window - 1` places early, and a window of records is well mixed."""
    read = {key: at for at, key in enumerate(epoch_keys(1, seed=4))}
    early = [read[key] - at for at, key in enumerate(epoch_keys(window, seed=4))]
    assert max(early) <= window - 1
    assert max(early) >= window // 2


@pytest.mark.slow
def test_a_window_over_all_shuffles_all(epoch_keys):
    orders = np.array([epoch_keys(1 << 40, seed, epoch) for seed in range(3) for epoch in range(3)], float)
    size = orders.shape[1]
    scaled = (orders - (size - 1) / 2) / orders.std(1, keepdims=True)
    pairs = (scaled @ scaled.T / np.sqrt(size))[np.triu_indices(len(orders), 1)]
    with_place = scaled @ np.sort(scaled[0]) / np.sqrt(size)
    assert max(np.abs(pairs).max(), np.abs(with_place).max()) < 4.5  # standard deviations
    assert (np.abs(np.diff(orders)) == 1).sum(1).max() < 14  # neighbours: Poisson with mean 2


def test_ordered_records_are_in_the_order_of_the_shards(data):
    stream = portable.ordered_records(data.directory, data.manifest, "train")
    assert [decode(one) for one in stream.as_numpy_iterator()] == data.records("train")
