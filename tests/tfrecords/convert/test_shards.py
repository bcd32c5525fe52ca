import hashlib
import itertools
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tfrecords.augment import Augmentation, apply_transform, draw_transform
from tfrecords.convert.shards import (
    RESULT_SUFFIX,
    ImageJob,
    Rendering,
    plan_split,
    write_shards,
)
from tfrecords.encoding import encode_image
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.images.decode import decode as decode_image
from tfrecords.images.decode import decode_fingerprinted
from tfrecords.pool import Pool
from tfrecords.records import read_records

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


def write(root, out, jobs, rendering=RAW, *, workers=1, **options):
    done = []
    out.mkdir(exist_ok=True)
    with Pool(workers) as pool:
        results = write_shards(root, out, jobs, rendering, pool=pool, progress=done.append, **options)
    return results, sum(done)


def files_of(jobs):
    return {job.name + suffix for job in jobs for suffix in ("", RESULT_SUFFIX)}


def test_every_image_is_planned_once():
    jobs = plan()
    assert [job.name for job in jobs] == [f"xray-train.tfrecord-{i:05d}-of-00010" for i in range(10)]
    planned = [image for job in jobs for image in job.images]
    assert Counter(planned) == Counter(IMAGES)
    assert planned != IMAGES
    assert {len(job.images) for job in jobs} == {30}
    assert {(job.split, job.copies, job.records) for job in jobs} == {("train", 1, 60)}


@pytest.mark.parametrize(
    ("images", "size", "count"),
    [(49, 180, 1), (99, 180, 1), (100, 180, 2), (799, 180, 15), (5000, 28, 16), (5000, 512, 20)],
)
def test_without_a_size_there_are_shards_for_all_processes(images, size, count):
    many = [ImageJob(f"{n}.png", f"{n}.png", 0, n, f"{n:016x}") for n in range(images)]
    rendering = Rendering((size, size, 1), "raw", Augmentation(), seed=5)
    assert len(plan(many, copies=0, rendering=rendering, shard_size=0)) == count


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
            pixels = apply_transform(pixels, draw_transform(Augmentation(), **key, height=8, width=9))
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


@pytest.mark.slow
def test_what_is_told_of_a_shard(root, tmp_path):
    jobs = plan(IMAGES[:20], shard_size=72 * 10)
    for workers in (1, 2):
        results, done = write(root, tmp_path / str(workers), jobs, workers=workers)
        assert done == 40
        shards = [result.shard for result in results]
        assert [(shard.name, shard.records) for shard in shards] == [(job.name, job.records) for job in jobs]
        for shard in shards:
            data = (tmp_path / str(workers) / shard.name).read_bytes()
            assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert {p.name for p in (tmp_path / str(workers)).iterdir()} == files_of(jobs)
        for job, result in zip(jobs, results, strict=True):
            files = [(root / image.path).read_bytes() for image in job.images]
            found = [decode_fingerprinted(data, height=8, width=9, channels=1) for data in files]
            assert result.hashes == tuple(one.fingerprint for one in found)
            assert result.rejected == ()


def test_a_shard_that_is_there_is_kept(root, tmp_path):
    jobs = plan(IMAGES[:20], shard_size=72 * 10)
    fresh, _ = write(root, tmp_path, jobs)
    kept = tmp_path / jobs[1].name
    os.utime(kept, (1, 1))
    (tmp_path / jobs[0].name).unlink()
    again, done = write(root, tmp_path, jobs)
    assert (again, done) == (fresh, 40)
    assert kept.stat().st_mtime == 1


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def flip(path):
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harmed", "harm"),
    [
        ("", lambda path: path.unlink()),
        ("", cut),
        ("", flip),
        ("", lambda path: path.write_bytes(b"")),
        (RESULT_SUFFIX, lambda path: path.unlink()),
        (RESULT_SUFFIX, cut),
        (RESULT_SUFFIX, lambda path: path.write_bytes(b"{}")),
        (RESULT_SUFFIX, lambda path: path.write_bytes(b"[]")),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_shard_that_was_harmed_meanwhile_is_written_again(root, tmp_path, workers, harmed, harm):
    jobs = plan(IMAGES[:20], shard_size=72 * 10)
    fresh, _ = write(root, tmp_path, jobs)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    harm(tmp_path / (jobs[1].name + harmed))
    os.utime(tmp_path / jobs[0].name, (1, 1))
    again, done = write(root, tmp_path, jobs, workers=workers)
    assert (again, done) == (fresh, 40)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole
    assert (tmp_path / jobs[0].name).stat().st_mtime == 1


def test_a_result_of_another_plan_is_not_taken(root, tmp_path):
    (job,) = plan(IMAGES[:20], shard_size=1 << 20)
    (few,) = plan(IMAGES[:10], shard_size=1 << 20)
    assert job.name == few.name
    write(root, tmp_path, [few])
    (result,), _ = write(root, tmp_path, [job])
    assert (result.shard.records, len(result.hashes)) == (40, 20)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "cannot be decoded: "),
        (lambda path: path.write_bytes(b""), "the file is empty (0 bytes); "),
        (lambda path: path.unlink(), "cannot be read: No such file or directory; it existed when"),
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
    assert found <= files_of(jobs[:-1])
    assert workers > 1 or found == files_of(jobs[:-1])
    write(root, tmp_path / "whole", jobs)
    for name in found:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# ---- images that are left out


@pytest.fixture
def harmed(root, tmp_path):
    """The images with four that cannot be decoded: 3 and 11 cut, 7 damaged in its header, 16 of words."""
    folder = tmp_path / "harmed"
    folder.mkdir()
    for path in root.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for number in (3, 11):
        path = folder / f"{number}.png"
        path.write_bytes(path.read_bytes()[:-60])
    path = folder / "7.png"
    path.write_bytes(path.read_bytes()[:8] + b"\0" * 40)
    (folder / "16.png").write_bytes(b"words")
    return folder


def left_out(results):
    return sorted(number for result in results for number, _ in result.rejected)


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_images_are_left_out_and_told(root, harmed, tmp_path, workers):
    jobs = plan(IMAGES[:20], copies=2, shard_size=72 * 15)
    assert len(jobs) == 4
    whole, _ = write(root, tmp_path / "whole", jobs)
    results, done = write(harmed, tmp_path / "out", jobs, workers=workers, max_rejects=4)
    assert done == 60
    assert left_out(results) == [3, 7, 11, 16]
    reasons = {number: reason for result in results for number, reason in result.rejected}
    assert reasons[3].startswith("cannot be decoded: ")
    assert reasons[7].startswith("cannot be decoded: ")
    assert "0x" not in reasons[7]  # an address in memory would differ from run to run
    assert reasons[16].startswith("text, not an image: it starts with b'words'")
    for job, before, result in zip(jobs, whole, results, strict=True):
        bad = {number for number, _ in result.rejected}
        assert result.hashes == tuple(
            "" if image.source in bad else hashed
            for image, hashed in zip(job.images, before.hashes, strict=True)
        )
        expected = [
            data for data in read_records(tmp_path / "whole" / job.name) if decode(data).source not in bad
        ]
        assert list(read_records(tmp_path / "out" / job.name)) == expected  # the others are as they were
        assert result.shard.records == len(expected) == 3 * (len(job.images) - len(bad))


def test_what_was_left_out_is_known_when_it_goes_on(harmed, tmp_path):
    jobs = plan(IMAGES[:20], shard_size=72 * 10)
    fresh, _ = write(harmed, tmp_path / "out", jobs, max_rejects=4)
    (tmp_path / "out" / jobs[2].name).unlink()
    again, done = write(harmed, tmp_path / "out", jobs, max_rejects=4)
    assert (again, done) == (fresh, 40)
    with pytest.raises(InputError, match="4 images cannot be used, --max_rejects allows 3:"):
        write(harmed, tmp_path / "out", jobs, max_rejects=3)  # shards that are there count too


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("limit", [0, 1, 2, 3])
@pytest.mark.parametrize("shard_size", [72 * 4, 1 << 20])
def test_more_than_allowed_stop_and_keep_whole_shards(root, harmed, tmp_path, workers, limit, shard_size):
    jobs = plan(IMAGES[:20], copies=0, shard_size=shard_size)
    out = tmp_path / "out"
    with pytest.raises(InputError) as caught:
        write(harmed, out, jobs, workers=workers, max_rejects=limit)
    message = str(caught.value)
    named = [f"{n}.png: " in message for n in (3, 7, 11, 16)]
    assert sum(named) == message.count(".png: ")
    assert sum(named) > limit
    if limit:
        assert message.startswith(
            f"{harmed}: {sum(named)} images cannot be used, --max_rejects allows {limit}:"
        )
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]
    there = [job for job in jobs if (out / job.name).exists()]
    kept = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    write(harmed, out, jobs, max_rejects=4)  # the shards that were there were whole, and stay
    for job in there:
        assert (out / job.name).stat().st_mtime_ns == kept[job.name]
    write(harmed, tmp_path / "fresh", jobs, max_rejects=4)
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "fresh" / path.name).read_bytes()


def test_those_left_out_before_count_and_are_named(harmed, tmp_path):
    jobs = plan(IMAGES[:20], shard_size=72 * 10)
    before = [("B/99.png", "the file is empty (0 bytes)")]
    write(harmed, tmp_path / "out", jobs, max_rejects=5, rejected=before)
    with pytest.raises(InputError) as caught:
        write(harmed, tmp_path / "again", jobs, max_rejects=4, rejected=before)
    assert str(caught.value).startswith(f"{harmed}: 5 images cannot be used, --max_rejects allows 4:\n")
    assert "\n  B/99.png: the file is empty (0 bytes)\n" in str(caught.value)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shard_may_lose_all_its_images(harmed, tmp_path, workers):
    jobs = plan([IMAGES[n] for n in (3, 7, 11, 16)], copies=1, shard_size=72 * 4)
    assert len(jobs) == 2
    results, done = write(harmed, tmp_path / "out", jobs, workers=workers, max_rejects=4)
    assert done == 8
    for job, result in zip(jobs, results, strict=True):
        assert (result.shard.records, result.shard.bytes) == (0, 0)
        assert list(read_records(tmp_path / "out" / job.name)) == []
    assert write(harmed, tmp_path / "out", jobs, max_rejects=4) == (results, 8)


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
