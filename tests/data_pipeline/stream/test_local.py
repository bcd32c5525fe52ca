"""Streams read in place, beside those that tf.data makes of the same shards."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from dataset_batches import assert_same

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.request import Request
from data_pipeline.stream import in_place
from data_pipeline.stream.local import LocalShards
from tfrecords.errors import InputError
from tfrecords.example import FIELDS, decode
from tfrecords.records import frame, read_records

pytestmark = pytest.mark.slow

ALL = ("image", "label", "weight", "id", "copy", "source", "group")


def batches(data, count=None, *, start_step=0, worker=None, **options):
    options = {"global_batch_size": 24, "cache": "stream", "shuffle_window": 64 << 10, "seed": 3} | options
    found = make_dataset(
        data.directory,
        data.manifest,
        "train",
        PipelineOptions(**options),
        training=count is not None,
        start_step=start_step,
        worker=worker,
        fields=ALL,
    )
    return list((found if count is None else found.take(count)).as_numpy_iterator())


@pytest.fixture
def by_tf_data(monkeypatch):
    """Makes batches as `batches` does, but by tf.data alone."""

    def made(*request, **options):
        with monkeypatch.context() as patch:
            patch.setattr(Request, "in_place", False)
            return batches(*request, **options)

    return made


@pytest.mark.parametrize(("encoding", "channels"), [("raw", 1), ("raw", 3), ("png", 1), ("jpeg", 3)])
@pytest.mark.parametrize("window", [0, 24 << 10, 1 << 30])
def test_both_ways_show_the_same(converted, by_tf_data, encoding, channels, window):
    """Two epochs and more, element by element, and an evaluation."""
    data, options = converted(encoding, channels), {"shuffle_window": window, "augment": "light"}
    assert_same(batches(data, 17, **options), by_tf_data(data, 17, **options))
    found, expected = batches(data, **options), by_tf_data(data, **options)
    for one in found + expected:  # what fills the last batch may differ, its weight is 0
        there = one["weight"] == 1
        for name in ALL:
            one[name] = one[name][there]
    assert_same(found, expected)


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_any_start_and_number_of_workers(data, by_tf_data, workers):
    whole = by_tf_data(data, 24)
    for start in np.random.default_rng(workers).integers(0, 20, 4).tolist():
        parts = [batches(data, 3, start_step=start, worker=Worker(one, workers)) for one in range(workers)]
        joined = [
            {name: np.concatenate([part[name] for part in step]) for name in ALL}
            for step in zip(*parts, strict=True)
        ]
        assert_same(joined, whole[start : start + 3])


@pytest.mark.parametrize("options", [{"copies": "one"}, {"copies": "none"}, {"copies": "all"}])
def test_what_is_read_in_place(data, monkeypatch, options):
    """A choice of copies is left to tf.data."""
    made = []
    monkeypatch.setattr(in_place, "LocalShards", lambda *a, **k: made.append(1) or LocalShards(*a, **k))
    batches(data, 2, **options)
    assert len(made) == (options["copies"] == "all")


def test_positions_may_be_asked_for_in_any_order(data):
    """What is kept makes it fast, and nothing else."""
    shards = LocalShards(data.directory, data.manifest, "train", window=24 << 10, seed=1)
    names = tuple(FIELDS)
    asked = [(epoch, np.arange(first, first + 40)) for epoch in (0, 1) for first in (0, 40, 80, 120)]
    first = [shards.parsed(*one, names) for one in asked]
    kept = [{name: values.copy() for name, values in one.items()} for one in first]
    for place in np.random.default_rng(0).permutation(len(asked)):
        assert_same([shards.parsed(*asked[place], names)], [kept[place]])
    assert_same(first, kept)  # no batch was written over while somebody held it


def rewritten(data, directory, serialize):
    """Returns the data set with each train record written in another way."""
    shards = []
    for path, shard in zip(data.paths("train"), data.manifest.split("train").shards, strict=True):
        content = b"".join(frame(serialize(decode(one))) for one in read_records(path))
        (directory / shard.name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        shards.append(replace(shard, bytes=len(content), sha256=digest))
    train = replace(data.manifest.split("train"), shards=tuple(shards))
    manifest = replace(data.manifest, splits={"train": train})
    return type(data)(directory, manifest)


def by_tensorflow(record, names):
    """Returns an Example as TensorFlow writes it, its fields in this order."""
    whole = b""
    for name in names:
        example, value = tf.train.Example(), getattr(record, name)
        feature = example.features.feature[name]
        (feature.int64_list if FIELDS[name] == "int64" else feature.bytes_list).value.append(value)
        whole += example.SerializeToString()  # messages one after another are merged
    return whole


@pytest.mark.parametrize("names", [sorted(FIELDS), sorted(FIELDS)[::-1], sorted(FIELDS, key=len)])
def test_records_laid_out_in_another_way_are_read_all_the_same(data, tmp_path, names):
    other = rewritten(data, tmp_path, lambda record: by_tensorflow(record, names))
    assert other.records("train") == data.records("train")
    size = sum(shard.bytes for shard in other.manifest.split("train").shards)
    options = {"shuffle_window": size}  # all: what the mean record takes does not matter
    assert_same(batches(other, 9, **options), batches(data, 9, **options))


def test_memory_is_used_again_when_its_last_view_is_gone_and_never_before(data):
    shards = LocalShards(data.directory, data.manifest, "train", window=1 << 20, seed=0)

    def read(epoch):
        return shards.parsed(epoch, np.arange(8), ("image",))["image"]

    def place(images):
        return images.__array_interface__["data"][0]

    first = read(0)
    kept, was = first[3:, 1:], first[3:, 1:].copy()  # a view of a view
    where = place(first)
    del first
    others = [read(epoch) for epoch in range(1, 6)]
    assert where not in [place(images) for images in others]
    assert len({place(images) for images in others}) == 5
    assert np.array_equal(kept, was)
    del kept
    assert place(read(6)) == where


def test_a_record_without_a_field_is_named(data, tmp_path):
    names = [name for name in FIELDS if name != "label"]
    other = rewritten(data, tmp_path, lambda record: by_tensorflow(record, names))
    with pytest.raises(InputError) as caught, named_damage(other.directory, other.manifest, "train"):
        batches(other, 1)
    assert str(caught.value).startswith(f"{other.paths('train')[0]}: record 0: cannot be used (")


def test_an_image_of_another_size_is_named(data, tmp_path):
    other = rewritten(data, tmp_path, lambda r: by_tensorflow(replace(r, image=r.image[:-1]), FIELDS))
    with pytest.raises(InputError) as caught, named_damage(other.directory, other.manifest, "train"):
        batches(other, 1)
    assert str(caught.value).startswith(f"{other.paths('train')[0]}: record 0: cannot be used (")


def test_a_start_in_mid_epoch_reads_no_image_of_what_was_shown(harmed):
    """Damage in what comes before is not met; in what follows it is."""
    options = {"last_batch": "drop"}  # the epoch's first records are not shown once more at its end
    whole = batches(harmed, 6, **options)
    first = {key for one in whole[:2] for key in zip(one["id"].tolist(), one["copy"].tolist(), strict=True)}
    records = harmed.records("train")
    for path in harmed.paths("train"):
        content = bytearray(path.read_bytes())
        for record in records:
            key = (record.id, record.copy)
            place = content.find(record.image)
            if key in first and place >= 0:
                content[place] ^= 1
        path.write_bytes(content)
    assert_same(batches(harmed, 4, start_step=2, **options), whole[2:])
    with pytest.raises(tf.errors.OpError):
        batches(harmed, 1, **options)


MEMORY = """
import sys
from pathlib import Path
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.manifest import Manifest

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

directory = Path(sys.argv[1])
options = PipelineOptions(global_batch_size=8, cache="stream", shuffle_window=32 << 20)
batches = iter(make_dataset(directory, Manifest.load(directory), "train", options, training=True))
for _ in range(25):
    next(batches)
before, most = resident(), 0
for _ in range(6 * 25):
    next(batches)
    most = max(most, resident())
print(most - before)
"""


def test_memory_is_flat_over_epochs(large, tmp_path, run_python):
    """Six epochs of 200 MB after the first: the process grows by less than the 64 MB of eight batches.

    In a process of its own, which must also end by itself while batches are being made.
    """
    done = run_python("-c", MEMORY, large.directory, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 << 20
