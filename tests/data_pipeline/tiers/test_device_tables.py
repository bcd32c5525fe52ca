import re

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.tiers import device_tables
from data_pipeline.tiers.device import DeviceTier
from data_pipeline.tiers.tier import Machine
from tfrecords.errors import InputError


def batches(data, cache, steps=12, **request):
    options = PipelineOptions(global_batch_size=24, cache=cache, seed=3)
    dataset = make_dataset(data.directory, data.manifest, "train", options, training=True, **request)
    return list(dataset.take(steps))


@pytest.mark.parametrize("start", [0, 9])
@pytest.mark.parametrize("worker", [Worker(), Worker(1, 2, 2)])
def test_what_is_looked_up_is_what_memory_gives(data, worker, start):
    (table,) = device_tables.load(data.directory, data.manifest, "train", ["CPU:0"])
    expected = batches(data, "memory", worker=worker, start_step=start)
    found = batches(data, "device", worker=worker, start_step=start)
    for one, other in zip(found, expected, strict=True):
        assert set(one) == {"index", "weight"}  # all that the host makes of a batch
        assert one["index"].dtype == tf.int64
        complete = device_tables.look_up(one, table)
        assert set(complete) == set(other)
        for name, values in other.items():
            assert complete[name].dtype == values.dtype
            np.testing.assert_array_equal(complete[name], values)


def test_a_complete_batch_stays_as_it_is(data):
    (batch,) = batches(data, "memory", 1)
    assert device_tables.look_up(batch, None) is batch


def test_each_device_has_all_of_the_split(data):
    tables = device_tables.load(data.directory, data.manifest, "train", ["CPU:0", "CPU:0"])
    records = data.records("train")
    for table in tables:
        assert table["label"].numpy().tolist() == [record.label for record in records]
        assert table["image"].shape == (len(records), 32, 40, 1)
        assert table["image"].device.endswith("CPU:0")


def test_what_a_cpu_has_free_is_its_part_of_the_machines_memory(monkeypatch):
    monkeypatch.setattr(device_tables, "free_memory", lambda: 1200)
    assert device_tables.free_on(["CPU:0"]) == 1200
    assert device_tables.free_on(["/job:localhost/replica:0/task:0/device:CPU:0", "CPU:1", "CPU:2"]) == 400
    assert device_tables.machine_of(["CPU:0", "CPU:1"], 3) == Machine(3, 200, gpu=False)


def test_a_split_too_large_for_the_devices_is_refused(facts):
    DeviceTier().require_room("train", 2_000_000, Machine(device_free=2_000_000))
    with pytest.raises(InputError) as caught:
        DeviceTier().require_room("train", 2_000_000, Machine(device_free=1_500_000))
    assert re.search(
        facts(
            "--cache=device: split 'train' has 2.0 MB decoded, and each device must hold all of it; 1.5 MB "
            "are free there: use --cache=memory or --cache=auto"
        ),
        str(caught.value),
    )
