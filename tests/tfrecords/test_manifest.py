import dataclasses
import json
import re

import pytest

from tfrecords.errors import InputError
from tfrecords.example import SCHEMA_VERSION
from tfrecords.manifest import Manifest, Shard, Split
from tfrecords.manifest_schema import MANIFEST_SCHEMA
from tfrecords.quality import SplitQuality

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
    assert list(values) == [*(field.name for field in dataclasses.fields(Manifest)), "sha256"]
    assert (values["schema"], values["record_schema"]) == (MANIFEST_SCHEMA, SCHEMA_VERSION)
    assert values["splits"]["test"] == {
        "shards": [{"name": "xray-test.tfrecord-00000-of-00001", "records": 4, "bytes": 7, "sha256": "cc"}],
        "records": 4,
        "images": 4,
        "groups": 3,
        "records_per_class": [3, 1],
    }


# Written by version 0.1.0: the first with all defaults, the second with all that may be set besides.
BEFORE = {
    "plain": (
        MANIFEST,
        "augmentation class_names copies copies_per_class encoding image_shape name plan rejected schema "
        "seed sha256 sources_sha256 splits trust versions",
        "e676050af86f744eeb9fe42c7fa0107bf9fb8dff168b0d5f0d56b334ef7a1c28",
    ),
    "all": (
        dataclasses.replace(
            MANIFEST,
            positive="NORMAL",
            resize="pad",
            value_range="0:4095",
            copies_per_class=(1, 3),
            split_quality=SplitQuality(
                duplicate_policy="keep",
                duplicate_sets=2,
                near_duplicate_pairs=7,
                images_in_largest_group={"train": 30},
                class_shares_of_shards={"train": ((0.2, 0.3), (0.7, 0.8))},
                source_widths={"181-255": 7},
                duplicates_sha256="ff",
            ),
        ),
        "",
        "a10660e42924df41e09de115a12c76f9210508ff6bf70296947ad4830e60fa45",
    ),
}


@pytest.mark.parametrize("kind", BEFORE)
def test_a_manifest_of_schema_1_is_read_and_kept_to_the_byte(tmp_path, kind):
    current, keys, sha256 = BEFORE[kind]
    first = dataclasses.replace(current, schema=1)
    first.save(tmp_path)
    values = json.loads((tmp_path / "manifest.json").read_bytes())
    assert values["sha256"] == first.sha256 == sha256
    assert not keys or sorted(values) == keys.split()
    loaded = Manifest.load(tmp_path, check_shards=False)
    assert loaded == first
    assert loaded.in_current_schema() == current
    assert loaded.sha256 != current.sha256


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
            "split 'val' is not in data set 'xray'; it has train, test: convert with --val_fraction or "
            "--test_fraction to make the missing split"
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
    [
        ({"schema": 3}, "schema 3"),
        ({"schema": 0}, "schema 0"),
        ({"schema": True}, "schema True"),
        ({"schema": None}, "schema None"),
        ({"schema": "1"}, "schema '1'"),
        ({"record_schema": 2}, "record_schema 2"),
    ],
)
def test_another_schema(data, change, found):
    path = data / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    assert refusal(data).startswith(f"{path}: {found} found, this version reads 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path}: is not JSON (Expecting value: line 1 column 1 (char 0));"),
        ("[1]", "{path}: schema None found, this version reads 1 to 2;"),
        ('{"schema": 1}', "{path}: is damaged (KeyError('trust')); convert again"),
        ('{"schema": 1, "colour": "red"}', "{path}: is damaged (KeyError('colour')); convert again"),
        ('{"schema": 1, "trust": {"colour": 1}}', "{path}: is damaged (KeyError('colour')); convert again"),
        ('{"schema": 1, "trust": []}', "{path}: is damaged (AttributeError"),
        ('{"schema": 2}', "{path}: is damaged (KeyError('splits')); convert again"),
        ('{"schema": 2, "splits": []}', "{path}: is damaged (AttributeError"),
        ('{"schema": 2, "splits": {"train": {"shards": [{"name": "a"}]}}}', "{path}: is damaged (TypeError"),
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
        assert refusal(data).startswith(f"{path}: is not JSON (")


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
