import re
from dataclasses import replace

import numpy as np
import pytest

from tfrecords.encoding import encode_image
from tfrecords.errors import InputError
from tfrecords.example import Record, encode
from tfrecords.manifest import Manifest, Shard, Split
from tfrecords.records import frame, read_records
from tfrecords.show.contact_sheet import contact_sheet, sheet_names
from tfrecords.stored_image import pixels

BLUE = (38, 92, 158)


def build(folder, *, shape=(30, 20, 1), encoding="raw", copies=1, images=6):
    """Writes one train shard of flat images: image n is 20 n + 10 grey, its copies one more each."""
    records = [
        Record(
            image=encode_image(np.full(shape, 20 * number + 10 + copy, np.uint8), encoding),
            label=number % 2,
            id=f"{'A' if number % 2 == 0 else 'B'}/{number}.png".encode(),
            source=number,
            copy=copy,
            group=b"0",
        )
        for copy in reversed(range(1 + copies))
        for number in range(images)
    ]
    data = b"".join(frame(encode(record)) for record in records)
    name = "flat-train.tfrecord-00000-of-00001"
    (folder / name).write_bytes(data)
    split = Split((Shard(name, len(records), len(data), "-"),), len(records), images, images, (0, 0))
    return Manifest(
        name="flat", class_names=("A", "B"), image_shape=shape, encoding=encoding, splits={"train": split},
        copies=copies, augmentation={}, seed=0, sources_sha256="", plan="", rejected=(), versions={},
    )  # fmt: skip


def greys(sheet):
    """Returns the grey values of the pictures' pixels on a sheet with their counts."""
    values, counts = np.unique(np.asarray(sheet).reshape(-1, 3), axis=0, return_counts=True)
    return {int(v[0]): int(n) for v, n in zip(values, counts, strict=True) if v[0] == v[1] == v[2]}


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_is_on_the_sheet(tmp_path, encoding, channels):
    manifest = build(tmp_path, shape=(30, 20, channels), encoding=encoding)
    found = greys(contact_sheet(tmp_path, manifest, split="train", count=6))
    for number in range(6):
        assert found[20 * number + 10] == 120 * 180  # originals: the longer side is 180 pixels
        assert found[20 * number + 11] == (120 - 4) * (180 - 4)  # copies have a frame of 2 pixels


def test_copies_are_framed(tmp_path):
    sheet = contact_sheet(tmp_path, build(tmp_path, copies=2), split="train", count=3)
    frames = (np.asarray(sheet) == BLUE).all(axis=-1).sum()
    assert frames == 3 * 2 * (120 * 180 - 116 * 176)
    without = contact_sheet(tmp_path, build(tmp_path, copies=0), split="train", count=3)
    assert not (np.asarray(without) == BLUE).all(axis=-1).any()


def test_classes_take_turns(tmp_path):
    manifest = build(tmp_path, copies=0)
    assert {10, 30} <= greys(contact_sheet(tmp_path, manifest, split="train", count=2)).keys()
    found = greys(contact_sheet(tmp_path, manifest, split="train", count=3))
    assert 50 in found
    assert 70 not in found


def test_more_than_there_is(tmp_path):
    manifest = build(tmp_path)
    many = contact_sheet(tmp_path, manifest, split="train", count=1000)
    assert many.tobytes() == contact_sheet(tmp_path, manifest, split="train", count=6).tobytes()


@pytest.mark.parametrize("count", [1, 3, 6])
def test_shards_of_one_image_or_none_make_the_same_sheet(tmp_path, count):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = build(tmp_path / "whole", copies=0)
    (shard,) = whole.split("train").shards
    parts: list[bytes] = []
    for record in read_records(tmp_path / "whole" / shard.name):
        parts += [b"", frame(record), b""]
    for number, data in enumerate(parts):
        (tmp_path / "parts" / f"{number}").write_bytes(data)
    shards = tuple(Shard(str(number), bool(data), len(data), "-") for number, data in enumerate(parts))
    split = replace(whole.split("train"), shards=shards)
    found = contact_sheet(
        tmp_path / "parts", replace(whole, splits={"train": split}), split="train", count=count
    )
    expected = contact_sheet(tmp_path / "whole", whole, split="train", count=count)
    if count in (1, 6):  # else those of the first class come before those of the second
        assert found.tobytes() == expected.tobytes()
    assert found.size == expected.size


def test_a_sheet_is_not_too_wide(tmp_path):
    sheet = contact_sheet(tmp_path, build(tmp_path, images=12), split="train", count=12)
    assert sheet.width <= 1500
    assert sheet.height > 2 * 180


@pytest.mark.parametrize(
    ("split", "count", "message"),
    [
        ("train", 0, "--count=0: must be 1 or more"),
        ("val", 3, "split 'val' is not in data set 'flat'; it has train: "),
    ],
)
def test_what_cannot_be_drawn(tmp_path, split, count, message):
    manifest = build(tmp_path)
    with pytest.raises(InputError) as caught:
        contact_sheet(tmp_path, manifest, split=split, count=count)
    assert str(caught.value).startswith(message)


def test_a_damaged_shard_is_named(tmp_path, facts):
    manifest = build(tmp_path)
    path = tmp_path / manifest.splits["train"].shards[0].name
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        contact_sheet(tmp_path, manifest, split="train", count=3)
    assert re.search(
        facts(f"{path}: record 0 at byte 0 has damaged data (CRC mismatch); convert again"), str(caught.value)
    )


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_pixels_of_a_record(tmp_path, encoding):
    manifest = build(tmp_path, shape=(4, 5, 3), encoding=encoding)
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    record = Record(encode_image(image, encoding), 0, b"", 0, 0, b"")
    np.testing.assert_array_equal(pixels(record, manifest), image)


def sheet_of(folder, names, **changes):
    manifest = replace(build(folder), class_names=names, **changes)
    return manifest, contact_sheet(folder, manifest, split="train", count=2)


def test_long_names_go_on_in_the_next_line_and_nothing_leaves_the_sheet(tmp_path):
    _, short = sheet_of(tmp_path, ("A", "B"))
    _, long = sheet_of(tmp_path, ("A" * 60, "B"), name="flat " * 20)
    assert (long.width, long.height >= short.height + 25 + 17) == (short.width, True)
    edge = np.asarray(long)[:, -10:]
    assert (edge == edge[0, 0]).all()


def test_a_class_that_no_font_has_is_numbered(tmp_path, no_fonts):
    manifest, sheet = sheet_of(tmp_path, ("正常", "B"), name="数据")
    assert sheet_names(manifest) == ["class 0", "B"]
    assert sheet == sheet_of(tmp_path, ("class 0", "B"), name="据数")[1]  # nor is the name of the data drawn


def test_a_class_that_an_installed_font_has_is_drawn_in_it(tmp_path, installed):
    installed("正常", "Some Sans")
    manifest, sheet = sheet_of(tmp_path, ("正常", "B"))
    assert sheet_names(manifest) == ["正常", "B"]
    assert sheet == sheet_of(tmp_path, ("常正", "B"))[1]  # of which each letter is the same box
    assert sheet != sheet_of(tmp_path, ("class 0", "B"))[1]
    inked = (np.asarray(sheet)[:90] == (24, 28, 33)).all(axis=-1).sum()
    without = (np.asarray(sheet_of(tmp_path, ("", "B"))[1])[:90] == (24, 28, 33)).all(axis=-1).sum()
    assert inked - without >= 2 * 10 * 8  # two full boxes of 0.8 x 0.7 em at 14 pixels
