"""Images that change behind a finished conversion, or under one that is under way."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tfrecords.convert.changed import STAT_NAME
from tfrecords.convert.conversion import convert_images, convert_task
from tfrecords.convert.engines import Engine
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records
from tfrecords.sources.rejection import MaxRejects

NAMES = [f"{label}/{number}.bmp" for label in "ab" for number in range(6)]  # BMP: any pixels, one size


def drawn(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path):
    root = tmp_path / "images"
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        drawn(root / name, number)
    return root


@pytest.fixture
def done(images, tmp_path):
    """The options of a conversion that is finished."""
    options = ConvertOptions(images, tmp_path / "data", size=(8, 8), copies=0, workers=1)
    convert_images(options)
    return options


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pixels_of(data):
    """Returns the raw image of each record by its id."""
    shards = [shard.name for split in Manifest.load(data).splits.values() for shard in split.shards]
    records = [decode(record) for name in shards for record in read_records(data / name)]
    return {record.id.decode(): record.image for record in records}


def rows_of(data):
    """Returns the header of sources.stat, and [(size, mtime, ctime, inode, digest)]."""
    head, _, rows = (data / STAT_NAME).read_bytes().partition(b"\n")
    kind = np.dtype([("facts", "<u8", 4), ("digest", "V16")])
    return json.loads(head), [(*facts.tolist(), bytes(d)) for facts, d in np.frombuffer(rows, kind)]


# ---- what changes, and what is said of it


def in_place(path, spare):
    """Other pixels, the old modification time: only the system's own change time tells."""
    before = path.stat()
    drawn(path, 99)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def moved_over(path, spare):
    os.utime(spare, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    spare.replace(path)


def hard_linked(path, spare):
    os.utime(spare, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    path.unlink()
    path.hardlink_to(spare)


def linked(path, spare):
    os.utime(spare, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    path.unlink()
    path.symlink_to(spare)


@pytest.mark.parametrize("change", [in_place, moved_over, hard_linked, linked])
def test_another_image_of_the_same_size_and_time_is_named_and_overwrite_takes_it(
    done, images, tmp_path, change, facts
):
    path, spare, before = images / "b/2.bmp", tmp_path / "spare.bmp", content(done.out)
    drawn(spare, 99)
    size, time = path.stat().st_size, path.stat().st_mtime_ns
    change(path, spare)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, time)
    message = facts(f"--out={done.out}: 1 of 12: b/2.bmp; --overwrite")
    for options in (done, replace(done, engine=Engine(finish=True))):
        with pytest.raises(InputError, match=message):
            convert_images(options)
    assert content(done.out) == before
    assert not convert_images(replace(done, overwrite=True)).was_complete
    with Image.open(path) as image:
        assert pixels_of(done.out)["b/2.bmp"] == image.tobytes()
    assert convert_images(done).was_complete
    fresh = replace(done, out=tmp_path / "fresh")
    convert_images(fresh)
    assert content(fresh.out) == content(done.out)


def test_images_of_other_sizes_are_named_too(done, images, facts):
    for name in ("a/0.bmp", "a/5.bmp"):
        with (images / name).open("ab") as file:
            file.write(b" ")
    with pytest.raises(InputError, match=facts(f"--out={done.out}: 2 of 12: a/0.bmp, a/5.bmp; --overwrite")):
        convert_images(done)


def test_ten_are_named_and_all_are_counted(done, images):
    for number, name in enumerate(NAMES):
        drawn(images / name, 100 + number)
    with pytest.raises(InputError) as caught:
        convert_images(done)
    assert "12 of 12 have" in str(caught.value)
    assert [name in str(caught.value) for name in NAMES] == [True] * 10 + [False] * 2


def test_the_same_images_copied_touched_or_linked_are_read_once(done, images, tmp_path, monkeypatch):
    copy = shutil.copytree(images, tmp_path / "copy" / "images")
    for name in NAMES[:3]:
        os.utime(copy / name, ns=(1, 1))
    (tmp_path / "link").hardlink_to(copy / NAMES[5])
    moved, read = replace(done, images=copy, duplicates="keep"), []  # "keep" itself reads nothing
    before = content(done.out)
    real = hashlib.blake2b

    def counted(data=b"", **values):
        read.extend([data] * (len(data) == (copy / NAMES[0]).stat().st_size))
        return real(data, **values)

    monkeypatch.setattr(hashlib, "blake2b", counted)
    for files in (12, 0):  # the record was brought up to date
        read.clear()
        assert convert_images(moved).was_complete
        assert sum(data.startswith(b"BM") for data in read) == files
    after = content(done.out)
    assert after.pop(STAT_NAME) != before.pop(STAT_NAME)
    assert after == before


def test_check_sources_reads_what_seems_to_be_the_same(done, images, facts, monkeypatch):
    head, rows = rows_of(done.out)
    assert convert_images(replace(done, check_sources=True)).was_complete
    drawn(images / "a/3.bmp", 99)
    # A record that says what the system says now of the changed file, as where its clock was set back.
    status = (images / "a/3.bmp").stat()
    rows[3] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, rows[3][4])
    data = b"".join(np.array(row[:4], "<u8").tobytes() + row[4] for row in rows)
    head["sha256"] = hashlib.sha256(data).hexdigest()
    (done.out / STAT_NAME).write_bytes(json.dumps(head).encode() + b"\n" + data)
    assert convert_images(done).was_complete
    with pytest.raises(InputError, match=facts(f"--out={done.out}: 1 of 12: a/3.bmp; --overwrite")):
        convert_images(replace(done, check_sources=True))


@pytest.mark.parametrize("harm", ["removed", "cut", "of another data set"])
def test_a_data_set_without_a_record_is_left_alone_and_that_is_said(done, tmp_path, harm):
    record = done.out / STAT_NAME
    if harm == "removed":
        record.unlink()
    elif harm == "cut":
        record.write_bytes(record.read_bytes()[:-7])
    else:
        other = replace(done, out=tmp_path / "other", seed=1)
        convert_images(other)
        shutil.copy(other.out / STAT_NAME, record)
    again = convert_images(done)
    assert again.was_complete
    assert any(STAT_NAME in note and "--overwrite" in note for note in again.notes)
    with pytest.raises(InputError, match=r"--check_sources: .*--overwrite"):
        convert_images(replace(done, check_sources=True))
    assert not convert_images(replace(done, overwrite=True)).was_complete
    assert convert_images(replace(done, check_sources=True, overwrite=True)).was_complete
    assert convert_images(done).notes == ()


# ---- what the record holds


def test_the_record_holds_what_the_system_tells_and_a_digest(done, images):
    head, rows = rows_of(done.out)
    assert head["manifest"] == json.loads((done.out / "manifest.json").read_bytes())["sha256"]
    for name, row in zip(NAMES, rows, strict=True):
        status, data = (images / name).stat(), (images / name).read_bytes()
        digest = hashlib.blake2b(data, digest_size=16).digest()
        assert row == (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, digest)


def test_with_a_key_the_record_names_no_file_and_has_no_bare_digest(images, tmp_path, facts):
    (tmp_path / "key").write_bytes(bytes(range(32)))
    options = ConvertOptions(
        images, tmp_path / "data", size=(8, 8), copies=0, workers=1, group_key_file=tmp_path / "key"
    )
    convert_images(options)
    record = (options.out / STAT_NAME).read_bytes()
    for name in NAMES:
        data = (images / name).read_bytes()
        assert hashlib.blake2b(data, digest_size=16).digest() not in record
        assert name.encode() not in record
    in_place(images / "b/4.bmp", None)
    message = facts(f"--out={options.out}: 1 of 12: b, file 5; --overwrite")
    with pytest.raises(InputError, match=message) as caught:
        convert_images(options)
    assert "4.bmp" not in str(caught.value)


def test_an_image_that_was_left_out_is_watched_too(images, tmp_path, facts):
    for name in ("a/1.bmp", "b/1.bmp"):
        data = (images / name).read_bytes()
        (images / name).write_bytes(data[:-10] if name[0] == "a" else bytes(len(data)))
    options = ConvertOptions(
        images,
        tmp_path / "data",
        size=(8, 8),
        copies=0,
        test_fraction=0.0,
        workers=1,
        max_rejects=MaxRejects(2),
    )
    assert len(convert_images(options).manifest.rejected) == 2
    for name in ("a/1.bmp", "b/1.bmp"):
        os.utime(images / name, ns=(1, 1))
    assert convert_images(options).was_complete
    (images / "a/1.bmp").write_bytes(b"BM" + bytes(len((images / "a/1.bmp").read_bytes()) - 2))
    with pytest.raises(InputError):
        convert_images(options)


# ---- under way


@pytest.fixture
def half(images, tmp_path):
    """Options of a conversion of which one of two tasks is done."""
    options = ConvertOptions(images, tmp_path / "data", size=(8, 8), copies=0, workers=1)
    convert_task(replace(options, engine=Engine(task=(0, 2))))
    return options


def shards_in(out):
    return [path for path in out.iterdir() if ".tfrecord-" in path.name and path.suffix != ".json"]


def done_images(out):
    """Returns the ids in the shards that are there."""
    return sorted({decode(r).id.decode() for path in shards_in(out) for r in read_records(path)})


@pytest.mark.parametrize("change", [in_place, moved_over])
def test_one_that_changes_before_the_end_is_written_anew(half, images, tmp_path, change, capsys):
    drawn(tmp_path / "spare.bmp", 99)
    name = done_images(half.out)[0]
    change(images / name, tmp_path / "spare.bmp")
    convert_images(half)
    assert f"1 image changed since the conversion began: {name};" in capsys.readouterr().err
    with Image.open(images / name) as image:
        assert pixels_of(half.out)[name] == image.tobytes()
    fresh = replace(half, out=tmp_path / "fresh")
    convert_images(fresh)
    assert content(fresh.out) == content(half.out)


def test_a_machine_with_copies_of_the_images_takes_part(half, images, tmp_path, capsys):
    """Copies that keep the time have other change times and inodes: their content is compared."""
    copy = shutil.copytree(images, tmp_path / "copy" / "images")
    stamps = {path.name: path.stat().st_ino for path in shards_in(half.out)}
    assert convert_task(replace(half, images=copy, engine=Engine(task=(1, 2)))) == 1
    convert_images(replace(half, images=copy, engine=Engine(finish=True)))
    assert "changed" not in capsys.readouterr().err
    assert stamps.items() <= {path.name: path.stat().st_ino for path in half.out.iterdir()}.items()


def test_a_task_of_a_finished_conversion_looks_at_its_own_images(half, images, facts):
    convert_images(half)
    name = pixels_of(half.out).keys() & set(NAMES)
    own = Manifest.load(half.out).split("val").shards[0].name  # the second of three shards
    of_second = {decode(record).id.decode() for record in read_records(half.out / own)}
    changed = sorted(of_second & name)[0]
    in_place(images / changed, None)
    assert convert_task(replace(half, engine=Engine(task=(0, 2)))) == 2
    with pytest.raises(InputError, match=facts(f"--out={half.out}: 1 of 12: {changed}")):
        convert_task(replace(half, engine=Engine(task=(1, 2))))
