"""One shard, its records read by their numbers."""

import os
from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.stream.frames import ShardFile
from data_pipeline.stream.layout import before_image
from data_pipeline.stream.local import LocalShards
from tfrecords.example import Record, decode, encode
from tfrecords.records import frame, read_records


def opened(data, pixels):
    return ShardFile(data.paths("train")[0], data.manifest.split("train").shards[0], pixels)


@pytest.fixture
def pixels(data):
    return int(np.prod(data.manifest.image_shape))


def test_any_records_in_any_order_of_calls(data, pixels):
    whole = list(read_records(data.paths("train")[0]))
    file, random = opened(data, pixels), np.random.default_rng(0)
    for _ in range(40):
        record = np.sort(random.choice(len(whole), random.integers(1, len(whole) + 1), replace=False))
        assert list(file.read(record)) == [whole[number] for number in record]
        rows = np.zeros((len(record), pixels), np.uint8)
        read, around = file.read_images(record, list(rows))
        assert read.tolist() == list(range(len(record)))
        for row, number in enumerate(record.tolist()):
            assert rows[row].tobytes() == decode(whole[number]).image
            start, before, behind = around.start[row], around.before[row], around.behind[row]
            rest = around.data[start : start + before + behind].tobytes()
            assert rest[:before] + rows[row].tobytes() + rest[before:] == whole[number]


def test_no_flipped_bit_goes_unseen(harmed, pixels):
    path = harmed.paths("train")[0]
    content, random = path.read_bytes(), np.random.default_rng(0)
    count = harmed.manifest.split("train").shards[0].records
    every = np.arange(count)
    size = len(content) // count
    # Of one frame each byte around its image and some of it; of the others any.
    for place in [*range(size - pixels), *random.integers(0, len(content), 100).tolist()]:
        changed = bytearray(content)
        changed[place] ^= 1 << random.integers(8)
        path.write_bytes(changed)

        def read_whole():
            list(opened(harmed, 0).read(every))

        def read_apart():
            file = opened(harmed, pixels)
            read, _ = file.read_images(every, list(np.empty((count, pixels), np.uint8)))
            list(file.read(np.delete(every, read)))  # what looks as if it were written in another way

        for read in (read_whole, read_apart):
            with pytest.raises(ValueError, match=path.name):
                read()


@pytest.mark.parametrize("harm", [lambda content: content[:-1], lambda content: content + content[:2000]])
def test_a_shard_of_another_length_is_told(harmed, pixels, harm):
    path = harmed.paths("train")[0]
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(ValueError, match=path.name):
        list(opened(harmed, pixels).read(np.arange(harmed.manifest.split("train").shards[0].records)))


def test_a_shard_that_changes_while_it_is_read_is_told(harmed, pixels):
    path, file = harmed.paths("train")[0], opened(harmed, pixels)
    assert list(file.read(np.arange(2)))
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match="was changed while it was read"):
        list(file.read(np.arange(2)))


def test_an_id_that_looks_like_an_image_does_not_mislead(harmed, pixels):
    path, shard = harmed.paths("train")[0], harmed.manifest.split("train").shards[0]
    image = np.random.default_rng(0).integers(0, 256, pixels, np.uint8).tobytes()
    named = [b"plain", before_image(pixels), b"x" + before_image(pixels) + b"y" * 9, b"z" * 600]
    records = [Record(image, label=1, id=name, source=3, copy=2, group=b"g") for name in named]
    path.write_bytes(b"".join(frame(encode(record)) for record in records))
    described = replace(shard, records=len(records), bytes=path.stat().st_size)
    split = replace(harmed.manifest.split("train"), shards=(described,))
    manifest = replace(harmed.manifest, splits={"train": split})
    shards = LocalShards(harmed.directory, manifest, "train", window=1 << 20, seed=0, shuffle=False)
    found = shards.parsed(0, np.arange(len(records)), ("image", "label", "id", "source", "copy", "group"))
    for row, record in enumerate(records):
        for name, column in found.items():
            value = column[row].tobytes() if name == "image" else column[row]
            assert value == getattr(record, name), (row, name)
