import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from tfrecords.sources.folds import group_folds, image_folds


def by_sklearn(splitter, labels, groups=None):
    folds = np.full(len(labels), -1)
    for number, (_, own) in enumerate(splitter.split(labels, labels, groups)):
        folds[own] = number
    return folds


def drawn(seed, *, images, classes, mixed):
    """Returns labels and groups of 1 to 12 images, some of them with several classes."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 13, images)
    groups = np.repeat(np.arange(images), sizes)[:images]
    of_group = random.choice(classes, images, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    labels = np.where(random.random(images) < mixed, random.integers(0, classes, images), of_group[groups])
    labels[:classes] = np.arange(classes)
    return labels, groups


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("folds", [2, 7, 20])
@pytest.mark.parametrize(("classes", "mixed"), [(2, 0.0), (2, 0.2), (5, 0.1)])
def test_group_folds_are_scikit_learns(seed, folds, classes, mixed):
    labels, groups = drawn(seed, images=1200, classes=classes, mixed=mixed)
    expected = by_sklearn(StratifiedGroupKFold(folds, shuffle=True, random_state=seed + 5), labels, groups)
    np.testing.assert_array_equal(group_folds(labels, groups, folds=folds, seed=seed + 5), expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("folds", [2, 7, 20])
@pytest.mark.parametrize("classes", [2, 5])
def test_image_folds_are_scikit_learns(seed, folds, classes):
    labels, _ = drawn(seed, images=1200, classes=classes, mixed=0.3)
    expected = by_sklearn(StratifiedKFold(folds, shuffle=True, random_state=seed + 5), labels)
    np.testing.assert_array_equal(image_folds(labels, folds=folds, seed=seed + 5), expected)
