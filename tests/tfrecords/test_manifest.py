import dataclasses
import json
import re

import pytest

from tfrecords.errors import InputError
from tfrecords.manifest import _SINCE, Manifest, Shard, Split

MANIFEST = Manifest(
    name="xray",
    class_names=("NORMAL", "PNEUMONIA"),
    image_shape=(180, 240, 1),
    encoding="raw",
    splits={
        "train": Split(
            shards=(Shard("xray-train.tfrecord-00000-of-00002", 1500, 5, "aa"),
                    Shard("xray-train.tfrecord-00001-of-00002", 1500, 6, "bb")),
            records=3000, images=1500, groups=700, records_per_class=(1000, 2000)),
        "test": Split(shards=(Shard("xray-test.tfrecord-00000-of-00001", 4, 7, "cc"),),
                      records=4, images=4, groups=3, records_per_class=(3, 1)),
    },
    copies=1,
    augmentation={"flip": 0.5, "fill": "reflect"},
    seed=3,
    sources_sha256="dd",
    plan="ee",
    rejected=(("NORMAL/1.png", "the file is empty (0 bytes)"),),
    versions={"numpy": "2.4.6"},
)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """A folder with the manifest and shards of the right sizes."""
    MANIFEST.save(tmp_path)
    for split in MANIFEST.splits.values():
        for shard in split.shards:
            (tmp_path / shard.name).write_bytes(b"x" * shard.bytes)
    return tmp_path


def refusal(folder):
    with pytest.raises(InputError) as caught:
        Manifest.load(folder)
    return str(caught.value)


def test_what_is_saved_is_loaded(data):
    assert Manifest.load(data) == MANIFEST
    assert sorted(path.name for path in data.iterdir()) == sorted(
        ["manifest.json", *(shard.name for split in MANIFEST.splits.values() for shard in split.shards)]
    )


def test_a_folder_may_be_text(data):
    (data / "manifest.json").unlink()
    MANIFEST.save(str(data))
    assert Manifest.load(str(data)) == MANIFEST
    MANIFEST.check_shards(str(data), "test")
    for load in (Manifest.load, MANIFEST.check_shards):
        with pytest.raises(InputError, match=re.escape(f"{data}/nowhere")):
            load(str(data / "nowhere"))


def test_the_sha256_is_that_of_the_file(data):
    assert json.loads((data / "manifest.json").read_bytes())["sha256"] == MANIFEST.sha256


def test_the_file(data):
    values = json.loads((data / "manifest.json").read_bytes())
    fields = [field.name for field in dataclasses.fields(Manifest) if field.name not in _SINCE]
    assert list(values) == [*fields, "sha256"]
    assert values["schema"] == 1
    assert values["splits"]["test"] == {
        "shards": [{"name": "xray-test.tfrecord-00000-of-00001", "records": 4, "bytes": 7, "sha256": "cc"}],
        "records": 4,
        "images": 4,
        "groups": 3,
        "records_per_class": [3, 1],
    }


def test_what_came_later_is_in_the_file_only_where_it_is_not_as_before(tmp_path):
    """So that a data set made before is read to the byte, and one with all defaults by a version before."""
    later = dataclasses.replace(MANIFEST, positive="NORMAL", resize="pad", value_range="0:4095")
    later.save(tmp_path)
    values = json.loads((tmp_path / "manifest.json").read_bytes())
    assert {name: values[name] for name in _SINCE} == {
        "positive": "NORMAL",
        "resize": "pad",
        "value_range": "0:4095",
    }
    assert Manifest.load(tmp_path, check_shards=False) == later


def test_in_words():
    assert MANIFEST.describe() == (
        "xray: 180x240x1 raw, 1 augmented copies of each train image, seed 3\n"
        "split    groups   images  records    NORMAL PNEUMONIA\n"
        "train       700    1,500    3,000     1,000     2,000\n"
        "test          3        4        4         3         1"
    )


def test_many_classes_in_words():
    names = tuple(f"class{number:04d}" for number in range(2000))
    records = tuple(range(5, 2005))
    train = dataclasses.replace(MANIFEST.splits["train"], records_per_class=records)
    levelled = (2, *[1] * 1999)
    many = dataclasses.replace(
        MANIFEST, class_names=names, splits={"train": train}, copies_per_class=levelled
    )
    assert many.describe() == (
        "xray: 180x240x1 raw, 1 to 2 augmented copies of each train image, by its class, seed 3\n"
        "split    groups   images  records  of a class, least and most of 2,000\n"
        "train       700    1,500    3,000  5 (class0000) to 2,004 (class1999)"
    )


def test_a_split_by_name(facts):
    assert MANIFEST.split("test").images == 4
    with pytest.raises(InputError) as caught:
        MANIFEST.split("val")
    assert re.search(
        facts(
            "split 'val' is not in data set 'xray'; it has train, test: convert with --val_fraction and "
            "--test_fraction to carve what is missing"
        ),
        str(caught.value),
    )


def test_class_weights():
    weights = MANIFEST.class_weights()
    assert weights == (1.5, 0.75)
    # sklearn's "balanced": the weighted counts of the classes are equal and sum to the records
    assert [weight * count for weight, count in zip(weights, (1000, 2000), strict=True)] == [1500, 1500]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda folder: folder, "no such folder"),
        (lambda folder: folder.mkdir(), "no manifest.json in it, 0 shards: not a finished conversion"),
        (lambda folder: folder.write_text("x"), "not a folder"),
    ],
)
def test_no_manifest(tmp_path, make, found):
    folder = tmp_path / "data"
    make(folder)
    assert refusal(folder) == (
        f"{folder}: {found}; make the data set with\n"
        f"  python -m tfrecords.convert --images=IMAGE_FOLDER --out={folder}"
    )


def test_shards_without_a_manifest(data):
    (data / "manifest.json").unlink()
    assert refusal(data).startswith(f"{data}: no manifest.json in it, 3 shards: not a finished conversion; ")


@pytest.mark.parametrize(
    ("change", "found"),
    [({"schema": 2}, "2"), ({"schema": None}, "None"), ({"schema": "1"}, "'1'")],
)
def test_another_schema(data, change, found):
    path = data / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    assert refusal(data) == (
        f"{path}: schema {found} found, this version reads 1; convert the images again with this version"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path}: is no JSON (Expecting value: line 1 column 1 (char 0)); convert again"),
        (
            "[1]",
            "{path}: schema None found, this version reads 1; convert the images again with this version",
        ),
        ('{"schema": 1}', "{path}: is damaged (KeyError('splits')); convert again"),
        ('{"schema": 1, "splits": []}', "{path}: is damaged (AttributeError"),
        ('{"schema": 1, "splits": {"train": {"shards": [{"name": "a"}]}}}', "{path}: is damaged (TypeError"),
    ],
)
def test_a_damaged_manifest(data, text, message):
    path = data / "manifest.json"
    path.write_text(text)
    assert refusal(data).startswith(message.format(path=path))


def test_a_cut_manifest_is_never_read(data):
    path = data / "manifest.json"
    whole = path.read_bytes()
    for size in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:size])
        assert refusal(data).startswith(f"{path}: is no JSON (")


def test_a_field_too_many(data):
    path = data / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"colour": "red"}))
    assert refusal(data).startswith(f"{path}: is damaged (TypeError(")
    assert "'colour'" in refusal(data)


@pytest.mark.parametrize("name", [s.name for split in MANIFEST.splits.values() for s in split.shards])
def test_a_missing_shard(data, name):
    (data / name).unlink()
    assert refusal(data) == (
        f"{data}/{name}: the shard is missing; restore it or convert again with --overwrite"
    )


@pytest.mark.parametrize("size", [0, 5, 7])
def test_a_cut_shard(data, size):
    path = data / "xray-train.tfrecord-00001-of-00002"
    path.write_bytes(b"x" * size)
    assert refusal(data) == (
        f"{path}: the shard has {size} bytes, the manifest says 6; restore it or convert again with "
        f"--overwrite"
    )
