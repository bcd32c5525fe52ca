import csv
import hashlib
import itertools
import json
import os
import re
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from converted import (
    SIZE,
    SMALL,
    all_records,
    content,
    data_in,
    records_of,
    sources_of,
)
from PIL import Image

from tfrecords.convert import conversion
from tfrecords.convert.changed import STAT_NAME
from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.convert.source_facts import FACTS
from tfrecords.errors import InputError
from tfrecords.images.decode import decode as decode_image
from tfrecords.interop.tfds import TFDS_NAMES
from tfrecords.manifest import Manifest


def test_only_whole_files_with_final_names(data):
    manifest = Manifest.load(data)
    names = {shard.name for split in manifest.splits.values() for shard in split.shards}
    assert content(data).keys() == names | {"manifest.json", "sources.csv", STAT_NAME, *TFDS_NAMES}
    assert list(manifest.splits) == ["train", "val", "test"]
    for name, split in manifest.splits.items():
        count = len(split.shards)
        assert [shard.name for shard in split.shards] == [
            f"chest_xray-{name}.tfrecord-{i:05d}-of-{count:05d}" for i in range(count)
        ]
    assert len(manifest.split("train").shards) > 3


def test_the_manifest_counts_what_is_there(data, image_folder):
    manifest = Manifest.load(data)
    assert (manifest.name, manifest.class_names) == ("chest_xray", ("NORMAL", "PNEUMONIA"))
    assert (manifest.image_shape, manifest.encoding, manifest.copies) == ((*SIZE, 1), "raw", 2)
    assert (manifest.seed, manifest.rejected, manifest.record_schema) == (0, (), 1)
    assert manifest.augmentation == {
        "flip": 0.5, "rotation": 10.0, "zoom": 0.1, "crop": 0.1, "translation": 0.05, "brightness": 0.1,
        "contrast": 0.15, "fill": "reflect",
    }  # fmt: skip
    assert manifest.versions.keys() == {"numpy", "pillow"}
    assert manifest.sources_sha256 == hashlib.sha256((data / "sources.csv").read_bytes()).hexdigest()
    for name, split in manifest.splits.items():
        shards = records_of(data, name)
        records = list(itertools.chain.from_iterable(shards))
        assert [shard.records for shard in split.shards] == [len(shard) for shard in shards]
        assert split.records == len(records)
        assert split.images == len({record.source for record in records})
        assert split.groups == len({record.group for record in records})
        assert split.records_per_class == tuple(
            sum(record.label == label for record in records) for label in (0, 1)
        )
        for shard in split.shards:
            found = (data / shard.name).read_bytes()
            assert (shard.bytes, shard.sha256) == (len(found), hashlib.sha256(found).hexdigest())
    assert sum(split.images for split in manifest.splits.values()) == 60
    assert str(image_folder) not in (data / "manifest.json").read_text()


def test_every_image_is_there_with_its_copies_in_train_only(data):
    splits = {int(row["source"]): row["split"] for row in sources_of(data)}
    expected = Counter(
        (split, source, copy)
        for source, split in splits.items()
        for copy in range(3 if split == "train" else 1)
    )
    assert Counter((split, r.source, r.copy) for split, r in all_records(data)) == expected
    assert len(splits) == 60


def test_sources_csv_agrees_with_the_records(data, image_folder):
    rows = sources_of(data)
    assert list(rows[0]) == ["source", "id", "class", "split", "group", *FACTS]
    files = sorted(path.relative_to(image_folder).as_posix() for path in image_folder.rglob("*.*"))
    assert [row["id"] for row in rows] == files
    assert [int(row["source"]) for row in rows] == list(range(60))
    assert {row["class"] == row["id"].split("/")[0] for row in rows} == {True}
    for split, record in all_records(data):
        row = rows[record.source]
        assert (row["id"], row["split"], row["group"]) == (record.id.decode(), split, record.group.decode())
        assert row["class"] == ("NORMAL", "PNEUMONIA")[record.label]


def test_sources_csv_says_how_each_file_was_made(data, image_folder):
    for row in sources_of(data):
        file = image_folder / row["id"]
        with Image.open(file) as image:
            expected = (image.height, image.width, file.stat().st_size, image.format)
        assert tuple(row[name] for name in FACTS[:4]) == tuple(map(str, expected))


def test_a_shard_of_an_older_version_is_kept_and_its_facts_stay_empty(image_folder, tmp_path, monkeypatch):
    """Its result has no facts of source files; the conversion goes on as if that were all."""
    options = ConvertOptions(image_folder, tmp_path / "data", size=(72, 60), shard_size=1 << 16, workers=1)

    def stop(*_, **__):
        raise InputError("stopped before the manifest")

    with monkeypatch.context() as patched:
        patched.setattr(conversion, "render_sources", stop)
        with pytest.raises(InputError):
            convert_images(options)
    result = min((tmp_path / "data").glob("*.result.json"))
    values = json.loads(result.read_text())
    older = {fact[0] for fact in values["findings"].pop("facts")}
    result.write_text(json.dumps(values))
    shard = result.with_name(result.name.removesuffix(".result.json"))
    before = shard.stat().st_mtime_ns
    convert_images(options)
    assert shard.stat().st_mtime_ns == before
    rows = sources_of(tmp_path / "data")
    assert {int(row["source"]) for row in rows if not any(row[name] for name in FACTS)} == older
    assert 0 < len(older) < len(rows)


def test_no_group_is_in_two_splits_and_none_is_named(data):
    splits = defaultdict(set)
    raw_names = defaultdict(set)
    for split, record in all_records(data):
        assert re.fullmatch(rb"[0-9a-f]{16}", record.group)
        splits[record.group].add(split)
        name = record.id.decode().split("/")[1]
        raw_names[record.group].add(re.match(r"person\d+_[a-z]+|(NORMAL2-)?IM-\d+", name)[0])
    assert len(splits) == 24
    assert {len(found) for found in splits.values()} == {1}
    assert {len(found) for found in raw_names.values()} == {1}
    assert len({next(iter(found)) for found in raw_names.values()}) == 24


@pytest.mark.slow
def test_the_group_hash_is_keyed(convert, image_folder, data, tmp_path):
    assert convert(image_folder, tmp_path / "data", *SMALL, "--seed=1", "--copies=0").returncode == 0
    groups = [{row["id"]: row["group"] for row in sources_of(folder)} for folder in (data, tmp_path / "data")]
    assert groups[0].keys() == groups[1].keys()
    assert not set(groups[0].values()) & set(groups[1].values())
    plain = {
        hashlib.blake2b(b"IM-0000", digest_size=8).hexdigest(),
        hashlib.sha256(b"IM-0000").hexdigest()[:16],
    }
    assert not plain & set(groups[0].values())


def test_originals_are_what_decode_gives(data, image_folder):
    for _, record in all_records(data):
        if record.copy == 0:
            source = (image_folder / record.id.decode()).read_bytes()
            expected = decode_image(source, height=SIZE[0], width=SIZE[1], channels=1)
            assert record.image == expected.tobytes()


def test_copies_are_alike_but_changed(data):
    originals = {r.source: np.frombuffer(r.image, np.uint8) for _, r in all_records(data) if r.copy == 0}
    copies = defaultdict(list)
    for _, record in all_records(data):
        if record.copy:
            copies[record.source].append(record.image)
            assert len(record.image) == SIZE[0] * SIZE[1]
            assert np.frombuffer(record.image, np.uint8).min() > 0 or originals[record.source].min() < 30
    for source, found in copies.items():
        assert len({originals[source].tobytes(), *found}) == 3


def test_shards_mix_classes_and_part_copies(data):
    for shard in records_of(data, "train"):
        images = len(shard) // 3
        sources = [record.source for record in shard]
        assert sources == sources[:images] * 3  # so the variants of an image are exactly `images` apart
        for turn in range(3):
            part = shard[turn * images : (turn + 1) * images]
            assert {record.label for record in part} == {0, 1}
            assert len({record.copy for record in part}) > 1


@pytest.mark.slow
def test_workers_do_not_change_a_byte(convert, image_folder, data, tmp_path):
    done = convert(image_folder, tmp_path / "data", *SMALL, "--workers=3", "--copies=2")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "data") == content(data)


@pytest.mark.slow
def test_place_and_time_do_not_change_a_byte(convert, images, data, tmp_path):
    for path in images.rglob("*"):
        os.utime(path, (1, 1))
    done = convert("chest_xray", "data", *SMALL, "--copies=2", cwd=tmp_path, PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stderr
    assert data_in(tmp_path / "data") == data_in(data)


@pytest.mark.parametrize("group_regex", [None, "(.*)"], ids=["patients", "each image a group"])
def test_another_seed_draws_other_splits_copies_and_places(image_folder, tmp_path, group_regex):
    found = []
    for seed in (1, 2):
        out = tmp_path / str(seed)
        options = {"size": SIZE, "seed": seed, "workers": 1, "group_regex": group_regex}
        convert_images(ConvertOptions(image_folder, out, **options))
        rows = csv.DictReader((out / "sources.csv").read_text().splitlines())
        splits = {row["id"]: row["split"] for row in rows}
        records = [record for _, record in all_records(out)]
        copies = {record.id: record.image for record in records if record.copy == 1}
        found.append((splits, copies, [(record.id, record.copy) for record in records]))
    (splits, copies, places), (other_splits, other_copies, other_places) = found
    assert splits.keys() == other_splits.keys()
    assert splits != other_splits
    both = copies.keys() & other_copies.keys()
    assert len(both) > 10
    assert not [name for name in both if copies[name] == other_copies[name]]
    assert places != other_places


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_encodings(image_folder, tmp_path, encoding, channels):
    out = {}
    for kind in ("raw", encoding):
        options = ConvertOptions(
            image_folder, tmp_path / kind, size=(24, 20), channels=channels, encoding=kind
        )
        convert_images(options)
        assert Manifest.load(tmp_path / kind).encoding == kind
        out[kind] = {(r.source, r.copy): r.image for _, r in all_records(tmp_path / kind)}
    assert out["raw"].keys() == out[encoding].keys()
    for key, image in out[encoding].items():
        assert image.startswith({"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff"}[encoding])
        found = decode_image(image, height=24, width=20, channels=channels)
        raw = np.frombuffer(out["raw"][key], np.uint8).reshape(24, 20, channels)
        difference = np.abs(found.astype(int) - raw)
        assert difference.max() == 0 if encoding == "png" else difference.mean() < 6


@pytest.mark.slow
def test_given_splits_and_names(convert, image_folder, tmp_path):
    images = tmp_path / "My Scans (2)"
    for split, part in (("train", "0[0-3]*"), ("test", "0[45]*")):
        for path in [
            *image_folder.glob(f"NORMAL/*IM-00{part}"),
            *image_folder.glob(f"PNEUMONIA/person{part[1:]}"),
        ]:
            target = images / split / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    done = convert(images, tmp_path / "data", "--size=24", "--copies=0", "--name=")
    assert done.returncode == 0, done.stderr
    manifest = Manifest.load(tmp_path / "data")
    assert (manifest.name, list(manifest.splits)) == ("my_scans_2", ["train", "val", "test"])
    assert manifest.split("train").shards[0].name == "my_scans_2-train.tfrecord-00000-of-00001"
    assert manifest.split("train").records == manifest.split("train").images
    for row in sources_of(tmp_path / "data"):
        assert (row["split"] == "test") == row["id"].startswith("test/")


def test_odd_file_names_arrive(tmp_path):
    for label in "AB":
        for number, name in enumerate(
            [b"a b.png", b"new\nline.png", "Röntgen.png".encode(), b"latin\xe9.png"]
        ):
            path = Path(os.fsdecode(bytes(tmp_path / "images" / label) + b"/" + name))
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9), 10 * number + ord(label)).save(path)
    options = ConvertOptions(
        tmp_path / "images", tmp_path / "data", size=(4, 4), test_fraction=0.0, workers=1
    )
    convert_images(options)
    assert sorted(r.id for _, r in all_records(tmp_path / "data") if r.copy == 0) == sorted(
        f"{label}/{name}".encode()
        for label in "AB"
        for name in ("a b.png", "new%0Aline.png", "R%C3%B6ntgen.png", "latin%E9.png")
    )


def test_the_positive_class_changes_no_shard_and_may_be_given_later(image_folder, tmp_path):
    options = ConvertOptions(image_folder, tmp_path / "out", size=(24, 24), workers=1)
    plain = convert_images(options).manifest
    before = content(options.out)
    assert plain.positive == ""
    chosen = convert_images(replace(options, positive="NORMAL"))
    assert chosen.was_complete
    assert chosen.manifest == Manifest.load(options.out) == replace(plain, positive="NORMAL")
    after = content(options.out)
    assert sorted(name for name in before if after[name] != before[name]) == ["manifest.json", STAT_NAME]
    assert chosen.notes == ()  # the record of the sources belongs to the new manifest, too
    assert convert_images(options).manifest.positive == "NORMAL"  # not asked, not changed
    assert content(options.out) == after
    with pytest.raises(InputError, match=r"--positive=COVID: .*NORMAL, PNEUMONIA"):
        convert_images(replace(options, positive="COVID"))
    assert content(options.out) == after
    other = convert_images(replace(options, out=tmp_path / "other", positive="PNEUMONIA")).manifest
    assert other == replace(plain, positive="PNEUMONIA")


def test_more_than_two_classes_have_no_positive_one(image_folder, tmp_path):
    images = shutil.copytree(image_folder, tmp_path / "images")
    shutil.copytree(images / "NORMAL", images / "OTHER")
    options = ConvertOptions(images, tmp_path / "out", size=(24, 24), workers=1, positive="NORMAL")
    with pytest.raises(InputError, match="--positive=NORMAL: is for two classes, but there are 3"):
        convert_images(options)
    assert not options.out.exists()
