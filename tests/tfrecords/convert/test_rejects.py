"""Images that cannot be used: refused, or left out and listed."""

import csv
import itertools
import re
import shutil
import struct
import zlib
from collections import Counter

import pytest
from converted import (
    LONG,
    SIZE,
    SMALL,
    all_records,
    content,
    data_in,
    members,
    records_of,
    sources_of,
    stamps,
    whole_shards,
)

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest, is_shard
from tfrecords.sources.rejection import MaxRejects


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_corrupt_image_stops_and_once_repaired_the_same_command_goes_on(
    convert, images, data, tmp_path, workers
):
    out = tmp_path / "data"
    last = records_of(data, "test")[-1][-1].id.decode()  # test is written last: whole shards are there before
    sound = (images / last).read_bytes()
    (images / last).write_bytes(sound[: len(sound) // 2])
    arguments = (*SMALL, "--copies=2", f"--workers={workers}")
    done = convert(images, out, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        rf"^error: {re.escape(str(images / last))}: cannot be decoded: .*repair it.*--max_rejects"
        r".*--overwrite\n\Z",
        done.stderr,
        re.MULTILINE,
    )
    assert "Traceback" not in done.stderr
    assert not (out / "manifest.json").exists()
    kept = {name: stamp for name, stamp in stamps(out).items() if is_shard(name)}
    assert len(kept) > 3
    (images / last).write_bytes(sound)
    done = convert(images, out, *arguments)
    assert done.returncode == 0, done.stderr
    assert data_in(out) == data_in(data)
    assert {name: stamps(out)[name] for name in kept} == kept


EMPTY, BOMB = "NORMAL/IM-0001-0001.jpeg", "PNEUMONIA/person2_bacteria_0.bmp"  # by their headers


CUT = (
    "NORMAL/NORMAL2-IM-0003-0001.jpeg",
    "PNEUMONIA/person4_virus_0.bmp",
    "PNEUMONIA/person5_bacteria_0.jpeg",
)


BAD = sorted([EMPTY, BOMB, *CUT])


def bomb():
    """Returns a PNG of a few bytes that announces 400 megapixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.fixture
def spoiled(images):
    """A copy of the image folder with five images that cannot be used."""
    assert all((images / name).exists() for name in BAD)
    (images / EMPTY).write_bytes(b"")
    (images / BOMB).write_bytes(bomb())
    for name in CUT:
        (images / name).write_bytes((images / name).read_bytes()[:-100])
    return images


def rejected_in(out):
    with (out / "rejected.csv").open(newline="") as file:
        return [(row["id"], row["reason"]) for row in csv.DictReader(file)]


REJECTING = (*SMALL, "--copies=2")


@pytest.mark.slow
def test_rejected_images_are_listed_and_nowhere_else(convert, run_command, spoiled, data, tmp_path):
    out = tmp_path / "data"
    done = convert(spoiled, out, *REJECTING, "--max_rejects=5", "--workers=1")
    assert done.returncode == 0, done.stderr
    manifest = Manifest.load(out)
    assert [name for name, _ in manifest.rejected] == BAD
    reasons = dict(manifest.rejected)
    assert reasons[EMPTY] == "the file is empty (0 bytes)"
    assert "400000000 pixels" in reasons[BOMB] or "20000x20000 pixels" in reasons[BOMB]
    assert all(reasons[name].startswith("cannot be decoded: ") for name in CUT)
    assert rejected_in(out) == list(manifest.rejected)
    assert "5 images rejected" in done.stdout
    lines = "".join(f"  {name}: {reasons[name]}\n" for name in BAD)
    assert f"\nLeft out, all in rejected.csv:\n{lines}" in done.stdout

    rows = sources_of(out)
    assert [row["id"] for row in rows] == [row["id"] for row in sources_of(data)]  # numbers stay
    assert [row["id"] for row in rows if row["split"] == "rejected"] == BAD
    live = {int(row["source"]): row["split"] for row in rows if row["split"] != "rejected"}
    assert Counter((split, r.source, r.copy) for split, r in all_records(out)) == Counter(
        (split, source, copy)
        for source, split in live.items()
        for copy in range(3 if split == "train" else 1)
    )
    originals = {r.id: r.image for _, r in all_records(data) if r.copy == 0}
    assert all(r.image == originals[r.id] for _, r in all_records(out) if r.copy == 0)
    for name, split in manifest.splits.items():
        records = list(itertools.chain.from_iterable(records_of(out, name)))
        assert (split.records, split.images) == (len(records), len({r.source for r in records}))
        assert split.groups == len({r.group for r in records})
        assert split.records_per_class == tuple(sum(r.label == label for r in records) for label in (0, 1))
    done = run_command("tfrecords.verify", f"--data={out}")
    assert done.returncode == 0, done.stderr

    done = convert(spoiled, tmp_path / "percent", *REJECTING, "--max_rejects=8.4%", "--workers=3")  # 5 of 60
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "percent") == content(out)


@pytest.mark.slow
def test_all_that_the_headers_tell_is_told_before_any_work(convert, spoiled, tmp_path):
    done = convert(spoiled, tmp_path / "data", *REJECTING, "--max_rejects=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: {spoiled}: 2 of 60 files in class folders cannot be used (--max_rejects=1 allows 1):\n"
        f"  {EMPTY}: the file is empty (0 bytes)\n  {BOMB}: "
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_too_many_rejected_in_decoding_keep_the_shards_that_are_whole(convert, spoiled, tmp_path, workers):
    out = tmp_path / "data"
    done = convert(spoiled, out, *REJECTING, "--max_rejects=4", f"--workers={workers}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {spoiled}: 5 images cannot be used, --max_rejects allows 4:\n" in done.stderr
    assert all(f"\n  {name}: " in done.stderr for name in BAD)
    assert "Traceback" not in done.stderr
    assert not (out / "manifest.json").exists()
    kept = {name: stamp for name, stamp in stamps(out).items() if is_shard(name)}
    assert kept
    assert convert(spoiled, out, *REJECTING, "--max_rejects=5").returncode == 0
    assert {name: stamps(out)[name] for name in kept} == kept
    done = convert(spoiled, tmp_path / "fresh", *REJECTING, "--max_rejects=60")
    assert done.returncode == 0, done.stderr
    assert content(out) == content(tmp_path / "fresh")
    before = stamps(out)
    done = convert(spoiled, out, *REJECTING, "--max_rejects=4")  # complete, but not under this limit
    assert done.returncode == 2
    assert "5 images cannot be used, --max_rejects allows 4" in done.stderr
    assert stamps(out) == before


@pytest.mark.slow
@pytest.mark.stops
def test_killed_with_rejected_images_and_started_again(begin, wait_until, convert, spoiled, tmp_path):
    arguments = (*LONG, "--max_rejects=5")
    done = convert(spoiled, tmp_path / "whole", *arguments)
    assert done.returncode == 0, done.stderr
    whole, out = content(tmp_path / "whole"), tmp_path / "data"
    shards = len(whole_shards(tmp_path / "whole"))
    for least in (1, shards // 2, shards - 1):
        process = begin(spoiled, out, arguments)
        wait_until(lambda n=least: len(whole_shards(out)) >= n, f"{least} shards")
        process.kill()
        process.wait()
        wait_until(lambda s=process.pid: members(s) == [], "the workers end with their parent")
    kept = {name: stamp for name, stamp in stamps(out).items() if is_shard(name)}
    done = convert(spoiled, out, *arguments)
    assert done.returncode == 0, done.stderr
    assert content(out) == whole
    assert {name: stamps(out)[name] for name in kept} == kept


def test_a_repaired_image_is_rejected_no_more(images, image_folder, tmp_path):
    options = {"size": SIZE, "shard_size": 1 << 16, "workers": 1, "max_rejects": MaxRejects(1)}
    for name in CUT[:2]:
        (images / name).write_bytes((images / name).read_bytes()[:-100])
    out = tmp_path / "data"
    with pytest.raises(InputError, match="2 images cannot be used, --max_rejects allows 1"):
        convert_images(ConvertOptions(images, out, **options))
    (out / "rejected.csv").write_text("id,reason\n")  # as if it was killed just before the manifest
    for name in CUT[:2]:
        shutil.copy(image_folder / name, images / name)
    manifest = convert_images(ConvertOptions(images, out, **options)).manifest
    assert manifest.rejected == ()
    convert_images(ConvertOptions(image_folder, tmp_path / "fresh", **options))
    assert data_in(out) == data_in(tmp_path / "fresh")


def test_a_split_that_loses_a_class_is_refused(image_folder, tmp_path, facts):
    images = tmp_path / "chest_xray"
    for split, patients in (("train", "[0-3]"), ("test", "4")):
        for pattern in (f"NORMAL/IM-000{patients}-*", f"PNEUMONIA/person{patients}_*"):
            for path in image_folder.glob(pattern):
                target = images / split / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    for path in (images / "test" / "NORMAL").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    options = ConvertOptions(
        images, tmp_path / "data", size=(8, 8), val_fraction=0.0, max_rejects=MaxRejects(9), workers=1
    )
    with pytest.raises(InputError) as caught:
        convert_images(options)
    assert re.search(
        facts(
            "--max_rejects=9: 2 images were left out, and split 'test' has none of class 'NORMAL' any more; "
            "repair some of them or add others"
        ),
        str(caught.value),
    )
    assert not (tmp_path / "data" / "manifest.json").exists()
