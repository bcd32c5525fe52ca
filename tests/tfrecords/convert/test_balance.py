import csv
import re
import shutil
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from tfrecords.convert.balance import balanced_copies, parse_copies
from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records
from tfrecords.verification.data_set import verify


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (0, False)),
        ("3", (3, False)),
        ("-1", (-1, False)),  # refused with the other options
        ("balance", (0, True)),
        ("balance:0", (0, True)),
        ("balance:2", (2, True)),
    ],
)
def test_copies_are_a_number_or_balance(text, expected):
    assert parse_copies(text) == expected


@pytest.mark.parametrize("text", ["", "x", "1.5", "balance:", "balance:-1", "balanced", "Balance"])
def test_anything_else_is_refused(text, facts):
    with pytest.raises(InputError) as caught:
        parse_copies(text)
    assert re.search(
        facts(
            f"--copies={text}: must be a number, balance (copies that level the classes), or balance:N (N "
            "copies for the largest class, and more for the others)"
        ),
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("images", "least", "expected"),
    [
        # The largest class and those near it get the least.
        ([100, 100], 0, (0, 0)),
        ([100, 70], 0, (0, 0)),  # 1.43 times: 1
        ([100, 67], 0, (0, 0)),  # 1.49
        ([150, 100], 0, (0, 1)),  # 1.5: 2, half up
        ([100, 50], 0, (0, 1)),
        ([939, 2711], 0, (2, 0)),  # 2.89: 3
        ([1, 100, 33], 0, (99, 0, 2)),
        ([100, 100], 1, (1, 1)),
        ([100, 70], 1, (1, 2)),  # 2.86: 3
        ([100, 90], 4, (4, 5)),  # 5.56: 6
    ],
)
def test_copies_that_level(images, least, expected):
    assert balanced_copies(images, least) == expected
    goal = max(images) * (1 + least)
    for count, copies in zip(images, expected, strict=True):
        assert 2 / 3 <= count * (1 + copies) / goal <= 4 / 3


@pytest.fixture(scope="module")
def unbalanced(image_folder, tmp_path_factory):
    """36 images of PNEUMONIA and 8 of NORMAL, 2 of each of 4 groups."""
    root = shutil.copytree(image_folder, tmp_path_factory.mktemp("unbalanced") / "chest_xray")
    for path in sorted((root / "NORMAL").iterdir()):
        if path.name.startswith("NORMAL2") or int(path.name[3:7]) >= 4:
            path.unlink()
    return root


def records_of(out):
    manifest = Manifest.load(out)
    return manifest, {
        name: [decode(d) for shard in split.shards for d in read_records(out / shard.name)]
        for name, split in manifest.splits.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("least", "shard_size"), [(0, 1 << 26), (1, 1 << 16)])
def test_classes_are_level_in_train_alone(unbalanced, tmp_path, least, shard_size):
    out = tmp_path / "out"
    options = ConvertOptions(
        unbalanced, out, size=(48, 48), copies=least, balance=True, shard_size=shard_size, test_fraction=0,
        val_fraction=0.25, workers=1,
    )  # fmt: skip
    manifest = convert_images(options).manifest
    loaded, records = records_of(out)
    assert loaded == manifest
    with (out / "sources.csv").open(newline="") as file:
        images = Counter((row["split"], row["class"]) for row in csv.DictReader(file))
    counts = [images["train", name] for name in ("NORMAL", "PNEUMONIA")]
    assert manifest.copies_per_class == balanced_copies(counts, least)
    assert manifest.copies_per_class[0] > manifest.copies_per_class[1] == least
    assert manifest.copies == max(manifest.copies_per_class)
    found = defaultdict(list)
    for record in records["train"]:
        found[record.source, record.label].append(record.copy)
    assert len(found) == sum(counts)
    for (_, label), copies in found.items():
        assert sorted(copies) == list(range(1 + manifest.copies_per_class[label]))
    assert {record.copy for record in records["val"]} == {0}
    by_class = Counter(record.label for record in records["train"])
    assert tuple(by_class[label] for label in (0, 1)) == manifest.splits["train"].records_per_class
    assert 2 / 3 <= by_class[0] / by_class[1] <= 4 / 3
    assert verify(out) == []
    copies = manifest.copies_per_class[0]
    expected = f"augmented copies of each train image: {copies} of NORMAL, {least} of PNEUMONIA"
    assert expected in manifest.describe()
    assert convert_images(options).was_complete


def test_variants_of_an_image_stay_apart_and_classes_mixed(unbalanced, tmp_path):
    """Of the 9 variants in 9 rounds none are next to each other; rare images are spread evenly."""
    out = tmp_path / "out"
    convert_images(
        ConvertOptions(unbalanced, out, size=(16, 16), copies=1, balance=True, test_fraction=0, workers=1)
    )
    manifest, records = records_of(out)
    places = defaultdict(list)
    for place, record in enumerate(records["train"]):
        places[record.source].append(place)
    total = len(records["train"])
    variants = 1 + manifest.copies
    for own in places.values():
        gaps = [b - a for a, b in pairwise(own)]
        assert min(gaps) >= total / variants / 3
        if len(own) == 2:  # of the class with few copies: half of the rounds apart
            assert total / 5 < gaps[0] < 4 * total / 5
    third = total // 3
    for start in (0, third, 2 * third):
        labels = [record.label for record in records["train"][start : start + third]]
        assert 0.3 < sum(labels) / third < 0.75
        assert {record.copy == 0 for record in records["train"][start : start + third]} == {True, False}


@pytest.mark.slow
def test_balanced_bytes_are_the_same_for_any_number_of_workers(unbalanced, tmp_path):
    for workers in (1, 2):
        convert_images(
            ConvertOptions(
                unbalanced, tmp_path / str(workers), size=(48, 48), balance=True, shard_size=1 << 16,
                workers=workers,
            )
        )  # fmt: skip
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("1", "2"))
    assert one == two
    assert len([name for name in one if "-train.tfrecord" in name]) > 1
