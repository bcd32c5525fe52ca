import hashlib
import itertools
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tfrecords.augment import Augmentation, apply, draw
from tfrecords.decode import decode as decode_image
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.records import read_records
from tfrecords.shards import ImageJob, Rendering, encode_image, plan_split, write_shards

RAW = Rendering((8, 9, 1), "raw", Augmentation(), seed=5)
# An image in three is NORMAL, and they come first, as in a sorted listing.
IMAGES = [ImageJob(f"{n}.png", f"{n}.png", int(n >= 100), n, f"{n // 3:016x}") for n in range(300)]


def plan(images=IMAGES, *, copies=1, rendering=RAW, shard_size=72 * 60, split="train"):
    return plan_split("xray", split, images, copies=copies, rendering=rendering, shard_size=shard_size)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def write(root, out, jobs, rendering=RAW, *, workers=1):
    done = []
    out.mkdir(exist_ok=True)
    shards = write_shards(root, out, jobs, rendering, workers=workers, progress=done.append)
    return shards, sum(done)


def test_every_image_is_planned_once():
    jobs = plan()
    assert [job.name for job in jobs] == [f"xray-train.tfrecord-{i:05d}-of-00010" for i in range(10)]
    planned = [image for job in jobs for image in job.images]
    assert Counter(planned) == Counter(IMAGES)
    assert planned != IMAGES
    assert {len(job.images) for job in jobs} == {30}
    assert {(job.split, job.copies, job.records) for job in jobs} == {("train", 1, 60)}


def test_each_shard_mixes_classes():
    for job in plan():
        assert 3 <= sum(image.label == 0 for image in job.images) <= 18  # 10 are expected


@pytest.mark.parametrize(
    ("copies", "encoding", "shape", "shard_size", "count"),
    [
        (0, "raw", (8, 9, 1), 72 * 300, 1),
        (1, "raw", (8, 9, 1), 72 * 300, 2),
        (4, "raw", (8, 9, 1), 72 * 300, 5),
        (0, "raw", (8, 9, 3), 72 * 300, 3),
        (4, "png", (8, 9, 1), 72 * 300, 3),
        (4, "jpeg", (8, 9, 1), 72 * 300, 1),
        (0, "raw", (8, 9, 1), 1 << 40, 1),
        (9, "raw", (8, 9, 1), 1, 300),
    ],
)
def test_number_of_shards(copies, encoding, shape, shard_size, count):
    rendering = Rendering(shape, encoding, Augmentation(), 0)
    jobs = plan(copies=copies, rendering=rendering, shard_size=shard_size)
    assert len(jobs) == count
    assert sum(job.records for job in jobs) == 300 * (1 + copies)
    assert all(job.images for job in jobs)


def test_the_order_follows_from_seed_and_ids_alone():
    assert plan(IMAGES[::-1]) == plan(IMAGES)
    assert plan(rendering=Rendering(RAW.shape, "raw", Augmentation(), seed=6)) != plan()


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_variants_stand_apart(root, tmp_path, copies):
    (job,) = plan(IMAGES[:20], copies=copies, shard_size=1 << 20)
    write(root, tmp_path, [job])
    records = [decode(data) for data in read_records(tmp_path / job.name)]
    assert Counter((r.source, r.copy) for r in records) == Counter(
        itertools.product(range(20), range(1 + copies))
    )
    for start in range(0, len(records), 20):
        turn = records[start : start + 20]
        assert [r.source for r in turn] == [image.source for image in job.images]  # so exactly 20 apart
        if copies:
            assert len({r.copy > 0 for r in turn}) == 2  # each turn has originals and copies


def test_a_record_is_its_image(root, tmp_path):
    jobs = plan(IMAGES[:20], copies=2, shard_size=72 * 20)
    assert len(jobs) == 3
    write(root, tmp_path, jobs)
    for record in (decode(data) for job in jobs for data in read_records(tmp_path / job.name)):
        pixels = decode_image((root / record.id.decode()).read_bytes(), height=8, width=9, channels=1)
        if record.copy:
            key = {"seed": 5, "record_id": record.id.decode(), "copy": record.copy}
            pixels = apply(pixels, draw(Augmentation(), **key, height=8, width=9))
        np.testing.assert_array_equal(np.frombuffer(record.image, np.uint8).reshape(8, 9, 1), pixels)
        assert (record.label, record.group) == (0, f"{record.source // 3:016x}".encode())


def test_the_fill_that_was_asked_for(root, tmp_path):
    found = {}
    for fill in ("reflect", "edge"):
        rendering = Rendering((8, 9, 1), "raw", Augmentation(rotation=45.0, translation=0.5, fill=fill), 5)
        jobs = plan(IMAGES[:5], rendering=rendering, shard_size=1 << 20)
        write(root, tmp_path / fill, jobs, rendering)
        found[fill] = [decode(data) for data in read_records(tmp_path / fill / jobs[0].name)]
    differ = [r.copy for r, e in zip(*found.values(), strict=True) if r.image != e.image]
    assert len(differ) >= 3  # of 5 copies; one that happens to stay inside the image has no fill
    assert 0 not in differ


def test_what_is_told_of_a_shard(root, tmp_path):
    jobs = plan(IMAGES[:20], shard_size=72 * 10)
    for workers in (1, 2):
        shards, done = write(root, tmp_path / str(workers), jobs, workers=workers)
        assert done == 40
        assert [(shard.name, shard.records) for shard in shards] == [(job.name, job.records) for job in jobs]
        for shard in shards:
            data = (tmp_path / str(workers) / shard.name).read_bytes()
            assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert sorted(p.name for p in (tmp_path / str(workers)).iterdir()) == [job.name for job in jobs]


def test_a_shard_that_is_there_is_kept(root, tmp_path):
    jobs = plan(IMAGES[:20], shard_size=72 * 10)
    fresh, _ = write(root, tmp_path, jobs)
    kept = tmp_path / jobs[1].name
    os.utime(kept, (1, 1))
    (tmp_path / jobs[0].name).unlink()
    again, done = write(root, tmp_path, jobs)
    assert (again, done) == (fresh, 40)
    assert kept.stat().st_mtime == 1


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot be decoded: "),
        (lambda path: path.write_bytes(b""), "the file is empty (0 bytes); "),
        (lambda path: path.unlink(), "cannot be read: No such file or directory; it was there when"),
    ],
)
def test_a_bad_image_stops_with_its_path_and_leaves_whole_shards(root, tmp_path, workers, harm, reason):
    harmed = tmp_path / "images"
    harmed.mkdir()
    for path in root.iterdir():
        (harmed / path.name).write_bytes(path.read_bytes())
    jobs = plan(IMAGES[:20], shard_size=72 * 4)
    last = harmed / jobs[-1].images[0].path
    harm(last)
    with pytest.raises(InputError) as caught:
        write(harmed, tmp_path / "out", jobs, workers=workers)
    assert str(caught.value).startswith(f"{last}: {reason}")
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found <= {job.name for job in jobs[:-1]}
    assert workers > 1 or len(found) == len(jobs) - 1
    write(root, tmp_path / "whole", jobs)
    for name in found:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("shape", [(8, 9, 1), (8, 9, 3)])
def test_encodings(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert encode_image(pixels, "raw") == pixels.tobytes()
    found = decode_image(encode_image(pixels, "png"), height=8, width=9, channels=shape[2])
    np.testing.assert_array_equal(found, pixels)
    smooth = np.broadcast_to(np.linspace(20, 220, 9).astype(np.uint8)[None, :, None], shape)
    jpeg = encode_image(np.ascontiguousarray(smooth), "jpeg")
    assert jpeg.startswith(b"\xff\xd8\xff")
    found = decode_image(jpeg, height=8, width=9, channels=shape[2])
    np.testing.assert_allclose(found.astype(int), smooth, atol=6)
