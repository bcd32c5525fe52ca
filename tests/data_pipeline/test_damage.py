"""Shards that are damaged are named; shards without records change nothing."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
from dataset_batches import (
    KEYS,
    assert_same,
    batches,
    global_batches,
    keys,
    options_of,
    stored,
)

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset
from data_pipeline.stream import portable
from data_pipeline.tiers import decoded_file, decoding
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest, Shard
from tfrecords.records import read_records


def frames(path):
    """Returns the byte at which each record starts, and the end."""
    starts = [0]
    for record in read_records(path):
        starts.append(starts[-1] + len(record) + 16)  # length, two CRCs
    return starts


def flipped_byte(data):
    path = data.paths("train")[1]
    start = frames(path)[7]
    content = bytearray(path.read_bytes())
    content[start + 600] ^= 1
    path.write_bytes(content)
    return data, f"{path}: record 7 at byte {start} has damaged data (CRC mismatch); convert again"


def flipped_length(data):
    path = data.paths("train")[2]
    start = frames(path)[3]
    content = bytearray(path.read_bytes())
    content[start + 6] ^= 1
    path.write_bytes(content)
    return data, f"{path}: record 3 at byte {start} has a damaged length (CRC mismatch); convert again"


def cut(data):
    path = data.paths("train")[1]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size - 100])
    return data, (
        f"{path}: the shard has {size - 100} bytes, the manifest says {size}; restore it or convert again "
        f"with --overwrite"
    )


def cut_in_a_record(data):
    path = data.paths("train")[1]
    starts = frames(path)
    path.write_bytes(path.read_bytes()[: starts[-1] - 100])
    length = starts[-1] - starts[-2] - 16
    return data.patched("train", 1, bytes=starts[-1] - 100), (
        f"{path}: record {len(starts) - 2} at byte {starts[-2]} is cut: {length} bytes announced; "
        f"convert again"
    )


def cut_between_records(data):
    path = data.paths("train")[0]
    starts = frames(path)
    path.write_bytes(path.read_bytes()[: starts[-2]])
    return data.patched("train", 0, bytes=starts[-2]), (
        f"{path}: has {len(starts) - 2} records, the manifest says {len(starts) - 1}; restore it or convert "
        f"again with --overwrite"
    )


def one_record_more(data):
    path = data.paths("train")[2]
    starts = frames(path)
    content = path.read_bytes()
    path.write_bytes(content + content[: starts[1]])
    return data.patched("train", 2, bytes=starts[-1] + starts[1]), (
        f"{path}: has {len(starts)} records, the manifest says {len(starts) - 1}; restore it or convert "
        f"again with --overwrite"
    )


def many_records_more(data):
    path = data.paths("train")[0]
    starts = frames(path)
    content = path.read_bytes()
    path.write_bytes(content * 10)
    return data.patched("train", 0, bytes=starts[-1] * 10), (
        f"{path}: has {10 * (len(starts) - 1)} records, the manifest says {len(starts) - 1}; restore it or "
        f"convert again with --overwrite"
    )


def removed(data):
    path = data.paths("train")[1]
    path.unlink()
    return data, f"{path}: the shard is missing; restore it or convert again with --overwrite"


def emptied(data):
    path = data.paths("train")[0]
    path.write_bytes(b"")
    count = data.manifest.split("train").shards[0].records
    return data.patched("train", 0, bytes=0), (
        f"{path}: has 0 records, the manifest says {count}; restore it or convert again with --overwrite"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "harm",
    [
        flipped_byte,
        flipped_length,
        cut,
        cut_in_a_record,
        cut_between_records,
        one_record_more,
        many_records_more,
        removed,
        emptied,
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_damage_is_named(harmed, harm, training, facts):
    data, message = harm(harmed)
    request = {"training": training, "fields": KEYS}
    with pytest.raises(InputError) as caught:  # data in memory is read when the dataset is made
        make_dataset(data.directory, data.manifest, "train", options_of("memory", 32), **request)
    assert re.search(facts(message), str(caught.value))
    stream = make_dataset(data.directory, data.manifest, "train", options_of("stream", 32), **request)
    with pytest.raises(InputError) as caught, named_damage(data.directory, data.manifest, "train"):
        list(stream.take(6))  # of 5 steps an epoch
    assert re.search(facts(message), str(caught.value))


@pytest.fixture(params=["around each", "all but one"])
def hollow(converted, tmp_path, request):
    """A PNG data set, and the same records with shards without any beside theirs."""
    data, folder = converted("png", 3), tmp_path / "hollow"
    folder.mkdir()
    none, splits = (b"", 0), {}
    for name, split in data.manifest.splits.items():
        kept = [((data.directory / shard.name).read_bytes(), shard.records) for shard in split.shards]
        if request.param == "all but one":
            contents = [*[none] * 3, (b"".join(content for content, _ in kept), split.records), *[none] * 10]
        else:
            contents = [none, none, *(one for shard in kept for one in (shard, none))]
        shards = []
        for number, (content, records) in enumerate(contents):
            shard = f"e-{name}.tfrecord-{number:05d}-of-{len(contents):05d}"
            (folder / shard).write_bytes(content)
            shards.append(Shard(shard, records, len(content), hashlib.sha256(content).hexdigest()))
        splits[name] = replace(split, shards=tuple(shards))
    replace(data.manifest, splits=splits).save(folder)
    return data, type(data)(folder, Manifest.load(folder))


@pytest.mark.slow
def test_shards_without_records_change_nothing_that_is_held(hollow, tmp_path):
    data, hollow = hollow
    fields = ("image", "label", "id", "copy", "source", "group")
    for split in ("train", "val"):
        expected = decoding.load(data.directory, data.manifest, split, fields)
        for found in (
            decoding.load(hollow.directory, hollow.manifest, split, fields),
            decoded_file.load(hollow.directory, hollow.manifest, split, fields, str(tmp_path)),
        ):
            for name, values in expected.items():
                assert found[name].dtype == values.dtype
                np.testing.assert_array_equal(found[name].numpy(), values.numpy())


@pytest.mark.slow
def test_a_stream_of_shards_without_records_has_each_record_once(hollow, monkeypatch):
    data, hollow = hollow
    monkeypatch.setattr(portable, "open_file_systems", lambda: None)
    whole = hollow.manifest.split("train").records
    local = options_of("stream", 8)
    found = batches(hollow, local, whole // 8)
    assert len(set(keys(found))) == whole // 8 * 8
    assert set(keys(found)) <= set(stored(data, "train"))
    by_tensorflow = replace(local, shards_at=str(hollow.directory))
    assert_same(batches(hollow, by_tensorflow, whole // 8), found)
    assert_same(global_batches(hollow, local, 2, 1, whole // 8), found)
    assert keys(batches(hollow, local, split="val"))[: len(stored(data, "val"))] == stored(data, "val")
