import numpy as np
import pytest

from tfrecords.errors import InputError
from tfrecords.folds.held_out import Fold, folds_of
from tfrecords.manifest import Manifest


def manifest(classes):
    return Manifest(
        name="drawn",
        class_names=tuple(f"class {number}" for number in range(classes)),
        image_shape=(8, 8, 1),
        encoding="raw",
        copies=0,
        augmentation={},
        seed=0,
        splits={},
        rejected=(),
        versions={},
        plan="0",
        sources_sha256="",
    )


def drawn(seed):
    """Random images: labels and groups; some groups have images of several classes, some are large."""
    random = np.random.default_rng(seed)
    classes, folds = int(random.integers(2, 5)), int(random.integers(2, 7))
    sizes = random.integers(1, 6, size=int(random.integers(8, 20)) * classes * folds)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = (groups % classes + (random.random(len(groups)) < 0.05)) % classes
    return (
        labels,
        [f"g{random.integers(0, 9)}-{number}" for number in range(len(sizes))],
        groups,
        classes,
        folds,
    )


@pytest.mark.parametrize("seed", range(12))
def test_each_image_is_held_out_once_and_no_group_twice(seed):
    labels, names, groups, classes, folds = drawn(seed)
    found = folds_of(labels, [names[group] for group in groups], folds, manifest(classes))
    assert set(found.tolist()) == set(range(1, folds + 1))  # so the folds cover all images, each once
    for group in np.unique(groups):
        assert len(set(found[groups == group].tolist())) == 1
    for label in range(classes):
        shares = [np.mean(labels[found == fold] == label) for fold in range(1, folds + 1)]
        assert max(shares) - min(shares) < 0.15


def test_the_folds_follow_from_the_content_alone():
    labels, names, groups, classes, folds = drawn(3)
    named = [names[group] for group in groups]
    first = folds_of(labels, named, folds, manifest(classes))
    np.testing.assert_array_equal(folds_of(labels.copy(), list(named), folds, manifest(classes)), first)


def test_images_without_groups_are_folded_too():
    labels = np.repeat([0, 1], [30, 60])
    found = folds_of(labels, [f"{number}" for number in range(90)], 3, manifest(2))
    assert np.bincount(found[labels == 0], minlength=4).tolist() == [0, 10, 10, 10]
    assert np.bincount(found[labels == 1], minlength=4).tolist() == [0, 20, 20, 20]


def test_a_class_with_too_few_groups(facts):
    labels = np.array([0, 0, 0, 1, 1, 1])
    message = "--fold=I/3: class 'class 1' has 2 groups in train and val of 'drawn'; use K = 2 at most"
    with pytest.raises(InputError, match=facts(message)):
        folds_of(labels, ["a", "b", "c", "d", "d", "e"], 3, manifest(2))


@pytest.mark.parametrize(
    "text", ["", "1", "0/5", "6/5", "1/1", "1/101", "a/5", "1/5/2", "-1/5", "1/ 5", "²/5"]
)
def test_what_is_no_fold(text, facts):
    with pytest.raises(InputError, match=facts(f"--fold={text}: must be I/K, as 1/5")):
        Fold.parse(text)


def test_plans_of_folds_differ():
    folds = [Fold(1, 2), Fold(2, 2), Fold(1, 3)]
    assert Fold.parse("2/5") == Fold(2, 5)
    assert str(Fold(2, 5)) == "2/5"
    plans = {fold.plan(parent) for fold in folds for parent in ("a", "b")}
    assert len(plans) == 6
    assert all(len(plan) == 64 for plan in plans)
