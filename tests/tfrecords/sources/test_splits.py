import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tfrecords.errors import InputError
from tfrecords.sources.groups import CHEST_XRAY_GROUP, joined_by
from tfrecords.sources.listing import Listing, Source
from tfrecords.sources.splits import assign_splits

NAMES = ("NORMAL", "PNEUMONIA")


def listing(*rows):
    """Builds a listing of (label, group, split) rows."""
    return Listing(
        Path("images"),
        NAMES,
        tuple(
            Source(f"{split or ''}/{NAMES[label]}/{number}.png", label, group, split, 1)
            for number, (label, group, split) in enumerate(rows)
        ),
    )


def grouped(seed=0, groups=300, split=None):
    """Groups of 1 to 12 images, a quarter of them NORMAL."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(groups):
        label = int(number % 4 != 0)
        rows += [(label, f"{split}g{number}", split)] * int(random.integers(1, 13))
    return rows


def shares(rows, splits):
    """Returns {split: (share of the images, share of class 1)}."""
    return {
        name: (
            splits.count(name) / len(splits),
            np.mean([r[0] for r, s in zip(rows, splits, strict=True) if s == name]),
        )
        for name in set(splits)
    }


def assign(rows, *, val=0.15, test=None, seed=0):
    return assign_splits(listing(*rows), val_fraction=val, test_fraction=test, seed=seed)


def test_splits_that_are_given_stay():
    rows = [(label, f"{split}{number}", split) for split in ("train", "val", "test") for number in range(4)
            for label in (0, 1)]  # fmt: skip
    for val, test in [(0.15, None), (0.4, 0.4), (0.0, 0.0)]:
        assert assign(rows, val=val, test=test) == tuple(row[2] for row in rows)


@pytest.mark.parametrize(
    ("given", "val", "test", "carved"),
    [
        (None, 0.15, None, {"val": 0.15, "test": 0.15}),
        (None, 0.2, 0.1, {"val": 0.2, "test": 0.1}),
        (None, 0.15, 0.0, {"val": 0.15}),
        (None, 0.0, 0.25, {"test": 0.25}),
        (None, 0.0, 0.0, {}),
        (None, 0.05, 0.05, {"val": 0.05, "test": 0.05}),
        ("train", 0.15, None, {"val": 0.15}),
        ("train", 0.2, 0.3, {"val": 0.2, "test": 0.3}),
    ],
)
def test_missing_splits_are_carved_from_train(given, val, test, carved):
    rows = grouped(split=given)
    found = shares(rows, assign(rows, val=val, test=test))
    assert found.keys() == {"train"} | carved.keys()
    class_share = np.mean([row[0] for row in rows])
    for name, share in ({"train": 1 - sum(carved.values())} | carved).items():
        assert found[name][0] == pytest.approx(share, abs=0.02)
        assert found[name][1] == pytest.approx(class_share, abs=0.03)


def test_a_given_test_split_stays_while_val_is_carved():
    rows = grouped(split="train") + grouped(seed=1, groups=40, split="test")
    splits = assign(rows, test=0.4)
    assert {r[2] for r, s in zip(rows, splits, strict=True) if s == "test"} == {"test"}
    assert {r[2] for r, s in zip(rows, splits, strict=True) if s in ("train", "val")} == {"train"}
    train = sum(row[2] == "train" for row in rows)
    assert splits.count("val") / train == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("seed", range(12))
def test_no_group_is_shared_and_no_image_lost(seed):
    rows = grouped(seed, groups=60)
    rows += [
        (1 - label, group, split) for label, group, split in rows[::9]
    ]  # some patients have both classes
    splits = assign(rows, seed=seed)
    assert len(splits) == len(rows)
    assert set(splits) == {"train", "val", "test"}
    of_group = {}
    for (_, group, _), split in zip(rows, splits, strict=True):
        of_group.setdefault(group, set()).add(split)
    assert [group for group, found in of_group.items() if len(found) > 1] == []
    for split in ("train", "val", "test"):
        assert {r[0] for r, s in zip(rows, splits, strict=True) if s == split} == {0, 1}


def test_images_without_groups_are_stratified():
    rows = [(int(number % 4 != 0), f"g{number}", None) for number in range(1000)]
    splits = assign(rows)
    assert Counter(splits) == {"train": 700, "val": 150, "test": 150}
    assert Counter(zip(splits, (row[0] for row in rows), strict=True))["val", 0] in range(36, 40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rows",
    [
        grouped(),
        [(int(number % 4 != 0), f"g{number}", None) for number in range(300)],  # each image its own group
        grouped(groups=12_000),  # too many for the folds to be tried
    ],
    ids=["groups", "images", "many groups"],
)
def test_the_same_seed_gives_the_same_splits_and_another_others(rows):
    assert assign(rows, seed=3) == assign(rows, seed=3)
    assert assign(rows, seed=3) != assign(rows, seed=4)


def test_a_group_in_two_given_splits_is_refused_by_its_files(facts):
    rows = [(0, "a", "train"), (1, "b", "train"), (0, "c", "test"), (1, "b", "test")]
    with pytest.raises(InputError) as caught:
        assign(rows, val=0.0)
    assert re.search(
        facts(
            "1 of 3 groups are in two splits, first 'b' (train/PNEUMONIA/1.png, test/PNEUMONIA/3.png): a "
            "model would be tested on what it was trained on; move each group into one split, or give a "
            "--group_regex that tells the groups apart"
        ),
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("val", "test", "carved", "needed"),
    [(0.15, 0.15, "val and test", 3), (0.15, 0.0, "val", 2), (0.0, 0.15, "test", 2)],
)
def test_too_few_groups_to_carve(val, test, carved, needed, facts):
    rows = [(0, f"a{i}", None) for i in range(9)] + [(1, f"b{i % (needed - 1)}", None) for i in range(9)]
    with pytest.raises(InputError) as caught:
        assign(rows, val=val, test=test)
    assert re.search(
        facts(
            f"too few groups to carve {carved} from train: the smallest class, 'PNEUMONIA', has {needed - 1} "
            f"(9 images), but {needed} are needed; the groups come from --group_regex; add images, or carve "
            f"less with --val_fraction=0 or --test_fraction=0"
        ),
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("expression", "listed", "key_file", "told"),
    [
        (r"^(p)\d", None, None, "come from --group_regex='^(p)\\\\d': "),
        (None, None, None, f"come from the default --group_regex={CHEST_XRAY_GROUP!r} "),
        (None, None, Path("key"), "come from the PatientID of DICOM files or the default --group_regex="),
        ("x", Path("list.csv"), Path("key"), "come from the listing's column group or --group_regex='x': "),
    ],
)
def test_too_few_groups_name_what_joined_them(expression, listed, key_file, told):
    rows = [(label, f"p{label}", None) for label in (0, 1) for _ in range(20)]
    by = joined_by(expression, listed, key_file)
    with pytest.raises(InputError) as caught:
        assign_splits(listing(*rows), val_fraction=0.15, test_fraction=None, seed=0, joined_by=by)
    assert told in str(caught.value)
    assert "'NORMAL', has 1 (20 images), but 3 are needed" in str(caught.value)


def test_too_few_images_are_not_called_joined():
    rows = [(label, f"{label}{number}", None) for label in (0, 1) for number in range(2)]
    with pytest.raises(InputError) as caught:
        assign(rows)
    assert "has 2 (2 images), but 3 are needed; add images" in str(caught.value)
    assert "--group_regex" not in str(caught.value)


@pytest.mark.parametrize("wanted", [2, 3])
def test_as_many_groups_as_needed(wanted):
    rows = [(label, f"{label}{group}", None) for label in (0, 1) for group in range(wanted) for _ in range(3)]
    splits = assign(rows, test=0.15 if wanted == 3 else 0.0)
    assert Counter(splits) == dict.fromkeys(("train", "val", "test")[:wanted], 6)


def test_a_train_split_that_is_carved_away_is_refused():
    rows = [(label, f"{label}{group}", None) for label in (0, 1) for group in range(3)]
    with pytest.raises(
        InputError, match=r"split 'train' has no image of class 'NORMAL'; every split needs all"
    ):
        assign(rows, val=0.5, test=0.45)


def test_a_split_without_a_class_is_refused(facts):
    # Both classes have three groups, but the same three: no fold can be without PNEUMONIA and with NORMAL.
    rows = [(0, "a", None), (0, "b", None), (0, "c", None), (1, "a", None), (1, "b", None), (1, "c", None)]
    assert set(assign(rows)) == {"train", "val", "test"}
    given = [(0, "a", "train"), (1, "b", "train"), (0, "c", "test")]
    with pytest.raises(InputError) as caught:
        assign(given, val=0.0)
    assert re.search(
        facts(
            "split 'test' has no image of class 'PNEUMONIA'; every split needs all of NORMAL, PNEUMONIA: add "
            "images or change the fractions"
        ),
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("val", "test"),
    [(-0.1, 0.15), (0.15, -0.1), (0.5, 0.5), (1.0, 0.0), (float("nan"), 0.1), (0.1, float("nan"))],
)
def test_fractions_that_cannot_be(val, test, facts):
    with pytest.raises(InputError) as caught:
        assign(grouped(), val=val, test=test)
    assert re.search(
        facts(
            f"--val_fraction={val} and --test_fraction={test}: each must be 0 or more and both together less "
            f"than 1"
        ),
        str(caught.value),
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_many_groups_are_dealt_as_evenly(seed):
    # More than every fold is tried for: 12,000 groups of 1 to 12 images, some of both classes.
    rows = grouped(seed, groups=12_000)
    rows += [(1 - label, group, split) for label, group, split in rows[::50]]
    splits = assign(rows, seed=seed)
    assert splits == assign(rows, seed=seed)
    assert splits != assign(rows, seed=seed + 1)
    of_group = {}
    for (_, group, _), split in zip(rows, splits, strict=True):
        assert of_group.setdefault(group, split) == split
    found = shares(rows, splits)
    class_share = np.mean([row[0] for row in rows])
    for name, share in {"train": 0.7, "val": 0.15, "test": 0.15}.items():
        assert found[name][0] == pytest.approx(share, abs=0.002)
        assert found[name][1] == pytest.approx(class_share, abs=0.01)
