"""Folders that version 0.1.0 wrote: manifest.json of schema 1, and conversions that it did not finish."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tfrecords.convert import shards
from tfrecords.convert.changed import STAT_NAME, rebind_record
from tfrecords.convert.conversion import convert_images, convert_task
from tfrecords.convert.engines import Engine
from tfrecords.convert.options import ConvertOptions
from tfrecords.convert.remote import convert_remote
from tfrecords.manifest import MANIFEST_NAME, Manifest
from tfrecords.manifest_schema import MANIFEST_SCHEMA
from tfrecords.verification.data_set import verify


@pytest.fixture
def options(tmp_path):
    images = tmp_path / "images"
    for number in range(12):
        path = images / "ab"[number % 2] / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(path)
    return ConvertOptions(images, tmp_path / "data", size=(8, 8), copies=0, workers=1)


@pytest.fixture
def earlier(options):
    """The options of a finished conversion, whose manifest is of schema 1."""
    make_earlier(options, convert_images(options).manifest)
    return options


def make_earlier(options, manifest):
    first = replace(manifest, schema=1)
    record = options.out / STAT_NAME
    head, _, rows = record.read_bytes().partition(b"\n")
    record.write_bytes(json.dumps(json.loads(head) | {"manifest": first.sha256}).encode() + b"\n" + rows)
    first.save(options.out)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without_manifest(folder):
    return {name: data for name, data in content(folder).items() if name not in (MANIFEST_NAME, STAT_NAME)}


def schema_in(folder):
    return json.loads((folder / MANIFEST_NAME).read_bytes())["schema"]


def test_the_same_conversion_writes_the_manifest_anew_and_reads_no_image(earlier, monkeypatch):
    before = content(earlier.out)
    stamps = {path.name: path.stat().st_mtime_ns for path in earlier.out.glob("*.tfrecord-*")}
    monkeypatch.setattr(shards, "decode_fingerprinted", lambda *_, **__: pytest.fail("an image was read"))
    done = convert_images(earlier)
    assert done.was_complete
    assert (Manifest.load(earlier.out), done.manifest.schema) == (done.manifest, MANIFEST_SCHEMA)
    assert [note for note in done.notes if MANIFEST_NAME in note and "schema 1" in note]
    after = content(earlier.out)
    assert sorted(name for name in before if after[name] != before[name]) == [MANIFEST_NAME, STAT_NAME]
    assert stamps == {path.name: path.stat().st_mtime_ns for path in earlier.out.glob("*.tfrecord-*")}
    assert json.loads(after[MANIFEST_NAME])["plan"] == json.loads(before[MANIFEST_NAME])["plan"]
    assert verify(earlier.out) == []
    again = convert_images(replace(earlier, check_sources=True))  # the record of the sources is kept
    assert (again.was_complete, again.notes) == (True, ())
    assert content(earlier.out) == after


def test_it_is_the_manifest_of_a_new_conversion(earlier, tmp_path):
    convert_images(earlier)
    fresh = replace(earlier, out=tmp_path / "fresh")
    convert_images(fresh)
    assert content(fresh.out)[MANIFEST_NAME] == content(earlier.out)[MANIFEST_NAME]


def test_a_positive_class_and_an_index_may_be_given_at_the_same_time(earlier):
    done = convert_images(replace(earlier, positive="a", dali_index=True))
    assert (done.manifest.positive, schema_in(earlier.out)) == ("a", MANIFEST_SCHEMA)
    assert (earlier.out / "index").is_dir()
    assert verify(earlier.out) == []


def test_a_kill_between_the_record_and_the_manifest_loses_nothing(earlier):
    first = Manifest.load(earlier.out)
    rebind_record(earlier.out, first, first.in_current_schema())
    assert schema_in(earlier.out) == 1
    done = convert_images(replace(earlier, check_sources=True))
    assert done.was_complete
    assert not [note for note in done.notes if STAT_NAME in note]
    assert schema_in(earlier.out) == MANIFEST_SCHEMA


def test_a_changed_image_is_found_first(earlier):
    os.utime(earlier.images / "a/0.bmp", ns=(1, 1))
    assert convert_images(earlier).was_complete  # only touched
    make_earlier(earlier, Manifest.load(earlier.out))
    (earlier.images / "a/0.bmp").write_bytes((earlier.images / "a/2.bmp").read_bytes())
    with pytest.raises(ValueError, match="1 of 12"):
        convert_images(replace(earlier, duplicates="keep"))
    assert schema_in(earlier.out) == 1


def test_tasks_find_it_complete_and_finish_writes_the_manifest(earlier):
    for task in range(2):
        convert_task(replace(earlier, engine=Engine(task=(task, 2))))
    assert schema_in(earlier.out) == 1
    assert convert_images(replace(earlier, engine=Engine(finish=True))).was_complete
    assert schema_in(earlier.out) == MANIFEST_SCHEMA


def test_behind_a_url_the_manifest_is_uploaded_anew(earlier, tmp_path):
    pytest.importorskip("fsspec")
    before = without_manifest(earlier.out)
    places = {"images": str(earlier.images), "out": f"file://{earlier.out}", "work": tmp_path / "work"}
    done = convert_remote(replace(earlier, check_sources=True), **places)
    assert (done.was_complete, done.manifest) == (True, Manifest.load(earlier.out))
    assert schema_in(earlier.out) == MANIFEST_SCHEMA
    assert [note for note in done.notes if MANIFEST_NAME in note and "schema 1" in note]
    assert without_manifest(earlier.out) == before
    assert convert_remote(replace(earlier, check_sources=True), **places).notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["verify", "show"])
def test_other_commands_read_it(earlier, run_command, command):
    before = content(earlier.out)
    done = run_command(f"tfrecords.{command}", f"--data={earlier.out}")
    assert done.returncode == 0, done.stderr
    assert before.items() <= content(earlier.out).items()


def test_an_unfinished_conversion_goes_on(options, tmp_path):
    """0.1.0 called the perceptual hashes looks, in the file beside each shard."""
    convert_task(replace(options, engine=Engine(task=(0, 2))))
    results = sorted(options.out.glob("*.result.json"))
    for path in results:
        values = json.loads(path.read_bytes())
        values["looks"] = values.pop("perceptual_hashes")
        path.write_text(json.dumps(values))
    inodes = {path.name: path.stat().st_ino for path in options.out.glob("*.tfrecord-*-of-?????")}
    assert len(inodes) == len(results) > 0
    convert_images(options)
    assert inodes.items() <= {path.name: path.stat().st_ino for path in options.out.iterdir()}.items()
    fresh = replace(options, out=tmp_path / "fresh")
    convert_images(fresh)
    assert content(fresh.out) == content(options.out)
