"""One shard: damaged, cut, or with records that are not those of the data set."""

import io
import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
from checked import SIZE, check, flip, frames, put, rebuild, shard_names
from PIL import Image

from tfrecords.encoding import encode_image
from tfrecords.example import decode
from tfrecords.records import read_records


@pytest.mark.slow
def test_every_flipped_bit_is_found_and_its_file_named(data):
    chance = random.Random(7)
    names = ["manifest.json", "sources.csv", *shard_names(data)]
    for turn in range(60):
        path = data / names[turn % len(names)]
        bit = chance.randrange(8 * path.stat().st_size)
        flip(path, bit)
        for quick in (True, False):
            assert any(problem.startswith(f"{path}: ") for problem in check(data, quick=quick)), (path, bit)
        flip(path, bit)
    assert check(data) == []


def test_a_flipped_bit_is_traced_to_its_record(data):
    path = data / shard_names(data)[1]
    start = sum(map(len, frames(path)[:3]))
    flip(path, 8 * (start + 500))
    assert check(data) == [
        f"{path}: its SHA-256 is not the manifest's",
        f"{path}: record 3 at byte {start} has damaged data (CRC mismatch); convert again",
    ]
    assert check(data, quick=True) == [f"{path}: its SHA-256 is not the manifest's"]


@pytest.mark.parametrize("quick", [True, False])
def test_cut_in_mid_record(data, quick):
    path = data / shard_names(data)[0]
    whole = frames(path)
    size, start = path.stat().st_size, sum(map(len, whole[:-1]))
    os.truncate(path, size - 100)
    expected = [f"{path}: has {size - 100} bytes, the manifest says {size}"]
    if not quick:
        announced = len(whole[-1]) - 16
        expected += [
            f"{path}: record {len(whole) - 1} at byte {start} is cut: {announced} bytes announced; "
            f"convert again"
        ]
    assert check(data, quick=quick) == expected


def test_cut_at_a_record_boundary(data):
    path = data / shard_names(data)[0]
    whole = frames(path)
    gone = decode(list(read_records(path))[-1])
    size, left = path.stat().st_size, path.stat().st_size - len(whole[-1])
    os.truncate(path, left)
    assert check(data) == [
        f"{path}: has {left} bytes, the manifest says {size}",
        f"{path}: has {len(whole) - 1} records, the manifest says {len(whole)}",
        f"{data}: {gone.id.decode()}, copy {gone.copy}, is missing in train",
    ]


def test_rebuilt_unchanged_is_sound(data):
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    rebuild(data, lambda _: None)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    assert check(data) == []


@pytest.mark.parametrize(
    ("shard", "changes", "message"),
    [
        (1, {"label": lambda r: 1 - r.label}, "it says "),
        (0, {"label": 2}, "label 2, but there are 2 classes"),
        (0, {"label": 2**63}, f"label {2**63}, but there are 2 classes"),
        (-1, {"copy": 1}, "copy 1, but test has 0 of each image of "),
        (0, {"copy": 3}, "copy 3, but train has 2 of each image of "),
        (0, {"copy": 2**63 - 1}, f"copy {2**63 - 1}, but train has 2 of each image of "),
        (0, {"id": b"NORMAL/nobody.png"}, "it says NORMAL/nobody.png ("),
        (0, {"id": b"\xff\xfe"}, "it says \\xff\\xfe ("),
        (0, {"source": 60}, "source 60, but sources.csv has 60"),
        (0, {"source": 2**63}, f"source {2**63}, but sources.csv has 60"),
        (0, {"group": b"0123456789abcdef"}, "it says "),
        (0, {"image": b"x" * 100}, "its image has 100 bytes, raw of 40x48x1 has 1920"),
        (0, {"image": b""}, "its image has 0 bytes, "),
    ],
)
def test_a_record_that_is_wrong(data, shard, changes, message):
    rebuild(data, put(shard, 4, **changes))
    assert check(data, quick=True) == []
    path = data / shard_names(data)[shard]
    problems = check(data)
    assert problems[0].startswith(f"{path}: record 4: {message}"), problems
    assert "Traceback" not in "".join(problems)


def test_the_whole_message_of_a_wrong_label(data):
    path = data / shard_names(data)[0]
    record = decode(next(read_records(path)))
    classes, group = ("NORMAL", "PNEUMONIA"), record.group.decode()
    rebuild(data, put(0, 0, label=1 - record.label))
    assert check(data) == [
        f"{path}: record 0: it says {record.id.decode()} ({classes[1 - record.label]}, train, group "
        f"{group}), sources.csv says {record.id.decode()} ({classes[record.label]}, train, group {group}) "
        f"for source {record.source}"
    ]


def test_a_record_in_another_splits_shard(data):
    def change(it):
        first, last = next(iter(it.shards)), list(it.shards)[-1]
        it.shards[first][0], it.shards[last][0] = it.shards[last][0], it.shards[first][0]

    rebuild(data, change)
    names = shard_names(data)
    problems = check(data)
    for name in (names[0], names[-1]):
        assert any(problem.startswith(f"{data / name}: record 0: ") for problem in problems), problems


def as_file(kind, pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def png_with_a_wrong_crc(record):
    at = record.image.index(b"IDAT") - 4
    length = int.from_bytes(record.image[at : at + 4], "big")
    damaged = bytearray(record.image)
    damaged[at + 8 + length] ^= 1
    return bytes(damaged)


GREY = np.zeros(SIZE, np.uint8)


@pytest.mark.parametrize(
    ("encoding", "image", "message"),
    [
        ("png", lambda r: r.image[:-30], "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("png", lambda r: r.image[:40], "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("png", png_with_a_wrong_crc, "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("png", lambda _: b"", "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("png", lambda _: as_file("PNG", GREY.T), "its image has 48x40 pixels of mode L, allowed is png of "),
        ("png", lambda _: as_file("PNG", GREY[:20]), "its image has 20x48 pixels of mode L, allowed is "),
        (
            "png",
            lambda _: as_file("PNG", np.zeros((*SIZE, 3), np.uint8)),
            "its image has 40x48 pixels of mode RGB",
        ),
        ("png", lambda _: as_file("JPEG", GREY), "its image cannot be decoded, allowed is png of 40x48x1: "),
        ("jpeg", lambda _: as_file("PNG", GREY), "its image cannot be decoded, allowed is jpeg of 40x48x1: "),
        ("jpeg", lambda r: r.image[: len(r.image) // 2], "its image cannot be decoded, allowed is jpeg of "),
        (
            "jpeg",
            lambda _: as_file("JPEG", GREY.T),
            "its image has 48x40 pixels of mode L, allowed is jpeg of ",
        ),
    ],
)
def test_an_image_that_is_wrong(encoded, tmp_path, encoding, image, message):
    data = shutil.copytree(encoded[encoding, 1], tmp_path / "data")
    rebuild(data, put(0, 2, image=image))
    assert check(data, quick=True) == []
    path = data / shard_names(data)[0]
    (problem,) = check(data)
    assert problem.startswith(f"{path}: record 2: {message}")
    assert " at 0x" not in problem


def test_encode_image_is_what_the_records_hold(encoded):
    """The damages above start from images that are right."""
    data = encoded["png", 1]
    record = decode(next(read_records(data / shard_names(data)[0])))
    with Image.open(io.BytesIO(record.image)) as image:
        assert encode_image(np.asarray(image)[..., None], "png") == record.image


def test_many_problems_of_a_shard_are_counted(data):
    def change(it):
        name = next(iter(it.shards))
        it.shards[name] = [replace(record, label=9) for record in it.shards[name]]

    rebuild(data, change)
    path = data / shard_names(data)[0]
    problems = check(data)
    assert problems[:5] == [f"{path}: record {n}: label 9, but there are 2 classes" for n in range(5)]
    assert problems[5] == f"{path}: {len(frames(path)) - 5} more problems"
    assert len(problems) == 6
