"""The batches of a data set, in each tier: shapes, order, shares of workers and replicas."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from dataset_batches import KEYS, assert_same, batches, global_batches, keys, options_of, stored

from data_pipeline.dataset import epoch_steps, make_dataset, tier_of
from data_pipeline.options import Worker
from tfrecords.errors import InputError

ALL = ("image", "label", "weight", "id", "copy", "source", "group")
TIERS = pytest.mark.parametrize("cache", ["memory", "disk", "stream"])


def assert_rows_belong_together(data, raw, split, found):
    """Checks each row's fields against the shards; `raw` is the raw data set with the same images."""
    records = {(record.id, record.copy): record for record in data.records(split)}
    images = {(record.id, record.copy): raw.pixels(record) for record in raw.records(split)}
    for batch in found:
        for row, key in enumerate(keys([batch])):
            np.testing.assert_array_equal(batch["image"][row], images[key])
            for name in ("label", "source", "group"):
                assert batch[name][row] == getattr(records[key], name)


@TIERS
@pytest.mark.parametrize(("channels", "worker"), [(1, Worker()), (3, Worker(1, 2, 2))])
@pytest.mark.parametrize("training", [True, False])
def test_shapes_are_static(converted, cache, channels, worker, training):
    data = converted("raw", channels)
    dataset = make_dataset(
        data.directory, data.manifest, "train", options_of(cache, 24), training=training, worker=worker
    )
    rows = 24 // (worker.count * worker.replicas)
    assert dataset.element_spec == {
        "image": tf.TensorSpec([rows, 32, 40, channels], tf.uint8),
        "label": tf.TensorSpec([rows], tf.int32),
        "weight": tf.TensorSpec([rows], tf.float32),
    }
    batch = next(iter(dataset))
    assert {name: (t.dtype, t.shape) for name, t in batch.items()} == {
        "image": (tf.uint8, (rows, 32, 40, channels)),
        "label": (tf.int32, (rows,)),
        "weight": (tf.float32, (rows,)),
    }


@TIERS
def test_further_fields_and_their_kinds(data, cache):
    spec = make_dataset(
        data.directory, data.manifest, "val", options_of(cache, 4), training=False, fields=ALL[3:]
    ).element_spec
    assert spec == {
        "id": tf.TensorSpec([4], tf.string),
        "copy": tf.TensorSpec([4], tf.int64),
        "source": tf.TensorSpec([4], tf.int64),
        "group": tf.TensorSpec([4], tf.string),
    }


@TIERS
def test_tf_data_keeps_the_order_and_leaves_the_sharding_to_us(data, cache):
    options = make_dataset(
        data.directory, data.manifest, "train", options_of(cache, 8), training=True
    ).options()
    assert options.deterministic is True
    assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.OFF


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "cache", "spare", "name"),
    [
        ("raw", "auto", 0, "memory"),
        ("raw", "auto", -1, "stream"),
        ("png", "auto", 0, "disk"),  # to decode once and not at each start
        ("png", "auto", -1, "stream"),
        ("png", "memory", -1, "memory"),
        ("png", "stream", 1 << 40, "stream"),
    ],
)
def test_the_tier_follows_the_decoded_size(converted, encoding, cache, spare, name):
    data, size = converted(encoding, 1), 160 * 32 * 40  # PNG takes less than that in its shards
    options = options_of(cache, 8, ram_budget=size + spare)
    tier = tier_of(data.manifest, "train", options)
    assert (tier.name, tier.need, tier.budget) == (name, size, size + spare)
    # Only a stream is shuffled by its window: the tiers are told apart so.
    found = keys(batches(data, replace(options, shuffle_window=0), 20))
    in_memory = keys(batches(data, options_of("memory", 8), 20))
    assert (found == in_memory) == (name != "stream")


@pytest.mark.slow
@TIERS
@pytest.mark.parametrize("batch", [1, 16, 33, 160])
def test_an_epoch_has_each_record_once_and_wraps_to_its_first(data, cache, batch):
    records, options = stored(data, "train"), options_of(cache, batch)
    steps = epoch_steps(data.manifest, "train", options, training=True)
    assert steps == -(-len(records) // batch)
    found = batches(data, options, 3 * steps)
    epochs = [keys(found[at : at + steps]) for at in range(0, 3 * steps, steps)]
    for epoch in epochs:
        assert sorted(epoch[: len(records)]) == sorted(records)
        assert epoch[len(records) :] == epoch[: steps * batch - len(records)]
        assert epoch[: len(records)] != records
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all((one["weight"] == 1).all() for one in found)


@TIERS
@pytest.mark.parametrize("batch", [400])
def test_a_training_batch_larger_than_the_split_goes_round(data, cache, batch):
    records, options = stored(data, "train"), options_of(cache, batch)
    assert epoch_steps(data.manifest, "train", options, training=True) == 1
    epochs = [keys([one]) for one in batches(data, options, 2)]
    for epoch in epochs:
        once = epoch[: len(records)]
        assert sorted(once) == sorted(records)
        assert epoch == (once * 3)[:batch]
    assert epochs[0] != epochs[1]


@TIERS
@pytest.mark.parametrize(("batch", "steps"), [(24, 6), (16, 10), (81, 1)])
def test_drop_leaves_out_less_than_a_batch(data, cache, batch, steps):
    records, options = stored(data, "train"), options_of(cache, batch, last_batch="drop")
    assert epoch_steps(data.manifest, "train", options, training=True) == steps
    found = batches(data, options, 3 * steps)
    left_out = set()
    for at in range(0, 3 * steps, steps):
        epoch = keys(found[at : at + steps])
        assert len(set(epoch)) == len(epoch) == steps * batch
        assert set(epoch) <= set(records)
        assert len(records) - len(epoch) < batch
        left_out.add(frozenset(records) - frozenset(epoch))
    assert len(left_out) == (1 if batch * steps == len(records) else 3)


def test_dropping_all_is_refused(data, facts):
    options = options_of("auto", 161, last_batch="drop")
    message = (
        "--global_batch_size=161: split 'train' has 160 records, so --last_batch=drop leaves no step; "
        "use --last_batch=wrap or a smaller batch"
    )
    with pytest.raises(InputError) as caught:
        epoch_steps(data.manifest, "train", options, training=True)
    assert re.search(facts(message), str(caught.value))
    with pytest.raises(InputError) as caught:
        make_dataset(data.directory, data.manifest, "train", options, training=True)
    assert re.search(facts(message), str(caught.value))
    assert epoch_steps(data.manifest, "train", options, training=False) == 1


@TIERS
def test_requests_that_cannot_be_met(data, cache, facts):
    with pytest.raises(InputError) as caught:
        batches(data, options_of(cache, 8), 1, split="holdout")
    assert str(caught.value).startswith("split 'holdout' is not in data set 'chest_xray'; it has train, val")
    with pytest.raises(InputError) as caught:
        batches(data, options_of(cache, 8), 1, worker=Worker(0, 1, 3))
    assert re.search(
        facts(
            "--global_batch_size=8: must be a multiple of the 3 replicas, so that each gets an equal part; "
            "for example 9"
        ),
        str(caught.value),
    )


@pytest.mark.slow
@TIERS
def test_the_seed_and_nothing_else_gives_the_order(data, cache):
    first = batches(data, options_of(cache, 16, seed=7), 25)
    tf.random.set_seed(99)
    assert_same(batches(data, options_of(cache, 16, seed=7, prefetch=0), 25), first)
    for other in (8, 2**32 - 1):
        assert keys(batches(data, options_of(cache, 16, seed=other), 25)) != keys(first)


@pytest.mark.slow
@TIERS
@pytest.mark.parametrize(
    "others",
    [
        {"parallel_reads": 1},
        {"parallel_reads": 3},
        {"threads": 1},
    ],
)
def test_options_of_speed_change_no_record(data, cache, others):
    plain, changed = options_of(cache, 16), options_of(cache, 16, **others)
    assert_same(batches(data, changed, 25, fields=ALL), batches(data, plain, 25, fields=ALL))
    of_replicas = {"worker": Worker(1, 2, 2), "start_step": 3}
    assert_same(batches(data, changed, 24, **of_replicas), batches(data, plain, 24, **of_replicas))
    assert_same(batches(data, changed), batches(data, plain))  # an evaluation


@pytest.mark.slow
@TIERS
@pytest.mark.parametrize("last_batch", ["wrap", "drop"])
def test_a_later_start_goes_on_in_the_same_stream(data, cache, last_batch):
    options = options_of(cache, 24, last_batch=last_batch, seed=5)
    steps = epoch_steps(data.manifest, "train", options, training=True)
    whole = batches(data, options, 3 * steps + 2)
    for start in (1, 3, steps - 1, steps, steps + 1, 2 * steps, 3 * steps - 1, 3 * steps):
        assert_same(batches(data, options, len(whole) - start, start_step=start), whole[start:])


@pytest.mark.slow
@TIERS
def test_a_later_start_of_two_workers_with_two_replicas(data, cache):
    options = options_of(cache, 24)
    whole = global_batches(data, options, 1, 1, 12)
    assert_same(global_batches(data, options, 2, 2, 7, start_step=5), whole[5:])


@pytest.mark.slow
@TIERS
@pytest.mark.parametrize(
    ("workers", "replicas", "last_batch"),
    [(1, 2, "wrap"), (2, 1, "wrap"), (2, 2, "wrap"), (3, 1, "wrap"), (3, 2, "wrap"), (2, 2, "drop")],
)
def test_global_batches_are_the_same_for_any_number_of_workers(data, cache, workers, replicas, last_batch):
    options = options_of(cache, 36, last_batch=last_batch)
    steps = epoch_steps(data.manifest, "train", options, training=True) + 2
    fields = ("image", "label", *KEYS)
    whole = batches(data, options, steps, fields=fields)
    assert_same(global_batches(data, options, workers, replicas, steps, fields=fields), whole)


@TIERS
@pytest.mark.parametrize(("encoding", "channels"), [("raw", 1), ("raw", 3), ("png", 3)])
def test_rows_of_training_belong_together(converted, cache, encoding, channels):
    data = converted(encoding, channels)
    found = batches(data, options_of(cache, 24), 9, fields=ALL)
    assert list(found[0]) == list(ALL)
    assert_rows_belong_together(data, converted("raw", channels), "train", found)
    assert any(key[1] for key in keys(found))


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_images_are_the_same_in_all_tiers(converted, channels):
    data = converted("jpeg", channels)
    images = [
        {
            key: image.tobytes()
            for batch in batches(data, options_of(cache, 20), split="train", fields=ALL)
            for key, image in zip(keys([batch]), batch["image"], strict=True)
        }
        for cache in ("memory", "disk", "stream")
    ]
    assert len(images[0]) == 160
    assert images[0] == images[1] == images[2]


@TIERS
@pytest.mark.parametrize(
    ("split", "batch"), [("train", 24), ("train", 32), ("val", 4), ("val", 1), ("val", 10), ("val", 64)]
)
def test_an_evaluation_is_one_pass_in_order(converted, cache, split, batch):
    data = converted("png", 1)
    records = stored(data, split)
    found = batches(data, options_of(cache, batch), split=split, fields=ALL)
    steps = epoch_steps(data.manifest, split, options_of(cache, batch, last_batch="drop"), training=False)
    assert len(found) == steps == -(-len(records) // batch)
    assert all(one["image"].shape == (batch, 32, 40, 1) for one in found)
    weight = np.concatenate([one["weight"] for one in found])
    assert weight.tolist() == [1.0] * len(records) + [0.0] * (len(weight) - len(records))
    assert keys(found)[: len(records)] == records
    # The filling is real records too: no NaN can come out of it.
    assert_rows_belong_together(data, converted(), split, found)


@pytest.mark.slow
@TIERS
@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (2, 2), (3, 1)])
@pytest.mark.parametrize(("split", "batch"), [("train", 36), ("val", 24)])
def test_an_evaluation_on_many_replicas(data, cache, workers, replicas, split, batch):
    fields = ("image", "label", *KEYS)
    whole = batches(data, options_of(cache, batch), split=split, fields=fields)
    shared = global_batches(data, options_of(cache, batch), workers, replicas, split=split, fields=fields)
    assert_same(shared, whole)
    counted = [
        key for one in shared for key, weight in zip(keys([one]), one["weight"], strict=True) if weight == 1
    ]
    assert counted == stored(data, split)


@TIERS
def test_an_evaluation_can_be_made_again(data, cache):
    dataset = make_dataset(
        data.directory, data.manifest, "val", options_of(cache, 4), training=False, fields=KEYS
    )
    passes = [list(dataset.as_numpy_iterator()) for _ in range(2)]
    assert_same(passes[0], passes[1])


MIRRORED = """
import json, sys
from pathlib import Path
import tensorflow as tf
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.stream import portable
from data_pipeline.tiers import decoded_file, decoding
from tfrecords.manifest import Manifest

tf.config.experimental.enable_op_determinism()  # as --deterministic does; the batches are the same
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
directory = Path(sys.argv[1])
manifest = Manifest.load(directory)


@tf.function
def step(batch):
    def sums(part):
        assert part["image"].shape == (12, 32, 40, 1), part["image"].shape
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        total = tf.reduce_sum(tf.cast(part["image"], tf.int64), [1, 2, 3])
        return replica, total, part["label"], part["weight"]
    return strategy.run(sums, [batch])


def run(cache, training):
    def of_worker(context):
        worker = Worker(context.input_pipeline_id, context.num_input_pipelines, context.num_replicas_in_sync)
        options = PipelineOptions(global_batch_size=24, cache=cache, shuffle_window=64 << 10)
        return make_dataset(directory, manifest, "train", options, training=training, worker=worker)

    found = []
    for batch in strategy.distribute_datasets_from_function(of_worker):
        parts = zip(*map(strategy.experimental_local_results, step(batch)))
        found.append([[value.numpy().tolist() for value in part] for part in parts])
        if training and len(found) == 9:
            break
    return found


print(json.dumps([run(cache, training) for cache in ("memory", "stream") for training in (True, False)]))
"""


@pytest.mark.slow
def test_mirrored_replicas_get_their_rows(data, tmp_path, run_python):
    """In a process of its own: logical devices must be made before anything else uses a device."""
    done = run_python("-c", MIRRORED, data.directory, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = iter(json.loads(done.stdout))
    for cache in ("memory", "stream"):
        for steps in (9, None):
            whole = batches(
                data, options_of(cache, 24), steps, split="train", fields=("image", "label", "weight")
            )
            assert next(found) == [
                [
                    [
                        replica,
                        batch["image"][rows].sum((1, 2, 3), dtype=np.int64).tolist(),
                        batch["label"][rows].tolist(),
                        batch["weight"][rows].tolist(),
                    ]
                    for replica, rows in enumerate((slice(0, 12), slice(12, 24)))
                ]
                for batch in whole
            ]


@TIERS
def test_a_folder_may_be_text(data, cache):
    options = options_of(cache, 8)
    by_text = make_dataset(str(data.directory), data.manifest, "val", options, training=False, fields=KEYS)
    assert_same(list(by_text.as_numpy_iterator()), batches(data, options, split="val"))
