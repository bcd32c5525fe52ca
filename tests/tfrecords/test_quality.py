import json
from dataclasses import asdict

import pytest

from tfrecords.quality import SplitQuality, largest_groups, shard_shares, size_counts

QUALITY = SplitQuality(
    duplicate_policy="keep", duplicate_sets=2, duplicate_images=5, duplicate_sets_across_splits=1,
    duplicate_sets_across_labels=2, dropped_duplicates=1, near_duplicate_pairs=1200,
    images_in_largest_group={"train": 30, "test": 2},
    class_shares_of_shards={"train": ((0.2, 0.3), (0.7, 0.8)), "test": ((0.25, 0.25), (0.75, 0.75))},
    source_widths={"181-255": 7}, source_heights={"128-180": 7}, duplicates_sha256="ab",
)  # fmt: skip


def test_json_and_back():
    assert SplitQuality.from_json(json.loads(json.dumps(asdict(QUALITY)))) == QUALITY
    assert SplitQuality.from_json(json.loads(json.dumps(asdict(SplitQuality())))) == SplitQuality()


@pytest.mark.parametrize("key", ["duplicate_sets", "unknown"])
def test_other_fields_are_refused(key):
    values = json.loads(json.dumps(asdict(QUALITY)))
    values["more" if key == "unknown" else key] = None
    if key == "unknown":
        with pytest.raises(TypeError):
            SplitQuality.from_json(values)
    else:
        assert SplitQuality.from_json(values) != QUALITY


def test_in_words():
    assert QUALITY.describe({"train": 300, "test": 20}, ["NORMAL", "PNEUMONIA"]) == [
        "largest group: 30 images in train (10.0% of it), 2 images in test (10.0% of it)",
        "classes in each shard of train: NORMAL 20.0% to 30.0%, PNEUMONIA 70.0% to 80.0%",
        "classes in each shard of test: NORMAL 25.0%, PNEUMONIA 75.0%",
        "duplicates: 2 sets of 5 images that are the same to the pixel, 1 set in two splits and 2 sets with "
        "two labels",
        "duplicates: 1 image left out, the same to the pixel as one kept",
        "near duplicates: 1,200 pairs of images in two splits look the same (perceptual hashes differ in at "
        "most 3 of 64 bits)",
    ]
    assert SplitQuality().describe({}, [])[1:] == [
        "duplicates: no two images are the same to the pixel",
        "near duplicates: no two images in different splits look the same",
    ]
    assert SplitQuality().describe_duplicates() == []


def test_the_largest_group_of_each_split():
    splits = ["train", "train", "train", "val", "train"]
    assert largest_groups(splits, ["a", "b", "a", "c", "a"]) == {"train": 3, "val": 1}


def test_shares_of_the_classes_over_shards():
    assert shard_shares([[0, 0, 1, 1], [0, 1, 1, 1], []], 3) == ((0.25, 0.5), (0.5, 0.75), (0.0, 0.0))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], {}),
        ([224, 224, 181, 255], {"181-255": 4}),
        ([180, 256], {"128-180": 1, "181-255": 0, "256-361": 1}),
        ([1, 31, 32], {"1-31": 2, "32-44": 1}),
        ([5793, 20000], {"5793 and more": 2}),
    ],
)
def test_sizes_by_range(sizes, expected):
    assert size_counts(sizes) == expected
    assert sum(size_counts(sizes).values()) == len(sizes)
