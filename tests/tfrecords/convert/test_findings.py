"""What the closing summary says of the images, and what it does not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from image_files import png, saved
from PIL import Image

from tfrecords.augment import Augmentation
from tfrecords.convert.conversion import convert_images
from tfrecords.convert.findings import Findings
from tfrecords.convert.options import ConvertOptions
from tfrecords.convert.shards import (
    RESULT_SUFFIX,
    ImageJob,
    Rendering,
    finished_result,
    plan_split,
    write_shards,
)
from tfrecords.example import decode
from tfrecords.images.wide import Extent
from tfrecords.manifest import Manifest
from tfrecords.pool import Pool
from tfrecords.records import read_records


def noise(number, mode="L"):
    values = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def twelve_bits(number):
    values = np.random.default_rng(number).integers(0, 4096, (20, 20)).astype(np.uint16)
    values[values > 4000] = 4000
    values[0, :2] = 0, 4000 + number
    return Image.fromarray(values)


@pytest.fixture
def convert(tmp_path):
    """Writes images, {name: bytes}, as two classes of sixteen, and converts them in this process."""

    def run(files, **options):
        root = tmp_path / "images"
        for number in range(32):
            name = f"{'AB'[number % 2]}/{number:02}.png"
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.get(number) or saved(noise(number)))
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        return convert_images(ConvertOptions(root, out, size=(20, 20), workers=1, **options))

    return run


def test_ordinary_images_have_no_note(convert):
    assert convert({}).notes == ()
    grey_as_colour = {number: saved(noise(number).convert("RGB"), "JPEG") for number in range(32)}
    assert convert(grey_as_colour).notes == ()


def test_images_of_one_colour_are_counted_and_named(convert, tmp_path):
    files = {number: saved(Image.new("L", (20, 20), number)) for number in (3, 8)}
    (note,) = convert(files).notes
    assert note == "2 images have a single colour and were converted all the same: A/08.png, B/03.png"
    key = tmp_path / "group.key"
    key.write_bytes(bytes(range(32)))
    (note,) = convert(files, group_key_file=key).notes
    assert note == "2 images have a single colour and were converted all the same: A, file 5, B, file 2"
    (note,) = convert(
        dict.fromkeys((3, 8), saved(Image.new("L", (20, 5)))), resize="pad", duplicates="keep"
    ).notes
    assert note.startswith("2 images have a single colour")


def test_many_of_one_colour_are_not_all_named(convert):
    (note,) = convert({n: saved(Image.new("L", (20, 20), n)) for n in range(12)}).notes
    assert note.startswith("12 images have a single colour")
    assert note.endswith("B/07.png and 2 more")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_colour_that_is_dropped_is_told(convert, kind):
    files = {number: saved(noise(number, "RGB"), kind) for number in range(0, 32, 2)}
    (note,) = convert(files).notes
    looked_at = {"PNG": 16, "JPEG": 3}[kind]  # one in a shard, and there are three
    assert note.startswith(
        f"16 of 32 images are stored in colour, and {looked_at} of the {looked_at} checked ones show colour"
    )
    assert "--channels=3" in note
    assert convert(files, channels=3).notes == ()


def test_the_range_that_was_seen_is_told(convert):
    files = {number: saved(twelve_bits(number)) for number in range(32)}
    (note,) = convert(files).notes
    for fact in ("32 images", "from 0 to 4031 of 65535", "17 of 256 grey levels", "--value_range=0:4095"):
        assert fact in note
    done = convert(files, value_range="0:4095")
    (note,) = done.notes
    assert note.endswith("values from 0 to 4031 of 65535, scaled by --value_range=0:4095")
    assert done.manifest.value_range == "0:4095"
    (note,) = convert(files, value_range="100:3000").notes
    assert "32 images, are clipped" in note


def test_a_range_that_is_used_is_told_without_advice(convert):
    values = np.linspace(0, 60_000, 400).astype(np.uint16).reshape(20, 20)
    (note,) = convert({5: saved(Image.fromarray(values))}).notes
    assert note == "grayscale of more than 8 bits (1 image): values from 0 to 60000 of 65535"


def test_a_narrow_range_high_up_gets_its_own_advice(convert):
    values = np.linspace(32_768, 36_863, 400).astype(np.uint16).reshape(20, 20)
    (note,) = convert({5: saved(Image.fromarray(values))}).notes
    assert "--value_range=32768:36863" in note


def test_colour_of_16_bits_with_few_levels_is_told(convert):
    rows = b"".join(b"\0" + bytes([0, value] * 60) for value in range(20))
    (note,) = convert({5: png(20, 20, 16, 2, rows)}, duplicates="keep", channels=3).notes[-1:]
    for fact in ("1 image", " 1 of 256 levels", "8 bits"):
        assert fact in note


def test_a_range_without_such_images_changes_nothing(convert):
    plain = convert({}).manifest
    done = convert({}, value_range="0:4095")
    assert done.notes == (
        "--value_range=0:4095: has no effect, because no image is grayscale of more than 8 bits",
    )
    assert [s.sha256 for s in done.manifest.split("train").shards] == [
        s.sha256 for s in plain.split("train").shards
    ]


def test_auto_takes_the_bits_in_use_of_all_images(convert):
    files = {number: saved(twelve_bits(number)) for number in range(0, 32, 2)}
    by_hand, found = convert(files, value_range="0:4095"), convert(files, value_range="auto")
    assert found.manifest == by_hand.manifest  # plan and all
    assert found.manifest.plan != convert(files).manifest.plan
    assert convert({}, value_range="auto").manifest == convert({}).manifest


def test_auto_again_finds_all_done(convert, tmp_path):
    root = tmp_path / "images"
    convert({number: saved(twelve_bits(number)) for number in range(32)})
    options = ConvertOptions(
        root, tmp_path / "auto", size=(20, 20), value_range="auto", resize="crop", workers=1
    )
    assert not convert_images(options).was_complete
    assert convert_images(options).was_complete
    manifest = Manifest.load(options.out)
    assert (manifest.resize, manifest.value_range) == ("crop", "0:4095")


def test_the_same_pixels_are_found_as_they_are_shown(convert):
    """Two images that differ below what 8 bits of the full range show are the same, and with a range not."""
    first, second = (np.full((20, 20), 1000, np.uint16) for _ in "ab")
    first[:10], second[:10] = 2000, 2001
    files = {0: saved(Image.fromarray(first)), 2: saved(Image.fromarray(second))}
    assert convert(files, duplicates="drop").manifest.split_quality.dropped_duplicates == 1
    assert (
        convert(files, duplicates="drop", value_range="1990:2010").manifest.split_quality.dropped_duplicates
        == 0
    )


def jobs_in(root):
    files = [saved(noise(0)), saved(Image.new("L", (9, 9))), saved(twelve_bits(1)), saved(noise(3, "RGB"))]
    for number, data in enumerate(files):
        (root / f"{number}.png").write_bytes(data)
    images = [ImageJob(f"{n}.png", f"{n}.png", 0, n, f"{n:016x}") for n in range(len(files))]
    return plan_split("x", "train", images, copies=1, rendering=RENDERING, shard_size=1 << 20)


RENDERING = Rendering((20, 20, 1), "raw", Augmentation(), seed=0)
FOUND = Findings([1], Extent(0, 4001, 65535), None, 0, 1, 1, 1)


def test_what_was_found_is_kept_beside_a_shard(tmp_path):
    (job,) = jobs_in(tmp_path)
    with Pool(1) as pool:
        (result,) = write_shards(tmp_path, tmp_path, [job], RENDERING, pool=pool)
    facts = result.findings.facts
    assert sorted(number for number, *_ in facts) == [0, 1, 2, 3]
    assert result.findings == replace(FOUND, facts=facts)
    assert finished_result(tmp_path, job) == result
    path = tmp_path / (job.name + RESULT_SUFFIX)
    values = json.loads(path.read_bytes())
    del values["findings"]  # as a version before wrote it
    path.write_text(json.dumps(values))
    older = finished_result(tmp_path, job)
    assert older.findings == Findings()
    assert (older.shard, older.hashes) == (result.shard, result.hashes)


def test_the_findings_of_several_shards():
    other = Findings([9, 4], Extent(2, 5000, 4095), Extent(0, 255, 65535), 1, 2, 1, 0)
    assert Findings.of_all([other, FOUND]) == Findings(
        [1, 4, 9], Extent(0, 5000, 65535, 2), Extent(0, 255, 65535), 1, 3, 2, 1
    )
    assert Findings.of_all([]) == Findings()


def test_a_plan_with_the_defaults_is_that_of_before():
    assert list(RENDERING.to_json()) == ["shape", "encoding", "augmentation", "seed"]
    assert "gamma" not in RENDERING.to_json()["augmentation"]
    other = Rendering((20, 20, 1), "raw", Augmentation(), 0, "pad", "0:4095")
    assert other.to_json() == RENDERING.to_json() | {"resize": "pad", "value_range": "0:4095"}


def test_records_show_what_the_rendering_says(tmp_path):
    (tmp_path / "0.png").write_bytes(saved(Image.fromarray(np.full((10, 20), 1024, np.uint16))))
    for resize, value_range, expected in (
        ("stretch", "full", [4] * 4),  # 1024 * 255 / 65535
        ("pad", "0:4096", [0, 64, 64, 0]),  # 1024 * 255 / 4096
        ("crop", "0:1024", [255] * 4),
    ):
        rendering = Rendering((4, 4, 1), "raw", Augmentation(), 0, resize, value_range)
        out = tmp_path / resize
        out.mkdir()
        image = ImageJob("0.png", "0.png", 0, 0, "0" * 16)
        (job,) = plan_split("x", "train", [image], copies=0, rendering=rendering, shard_size=1 << 20)
        with Pool(1) as pool:
            write_shards(tmp_path, out, [job], rendering, pool=pool)
        (record,) = map(decode, read_records(out / job.name))
        assert list(record.image[::4]) == expected
