"""Stratified folds: of images, or of whole groups.

`image_folds` and `group_folds` return the folds of scikit-learn's `StratifiedKFold` and
`StratifiedGroupKFold` with `shuffle=True` and the same seed (test_folds.py). They avoid its import, which
takes as long as decoding thousands of images, and try all folds for a group at once, which is 20 times as
fast.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Folds = npt.NDArray[np.int64]

_CLOSE: Final = (1e-5, 1e-8)  # relative and absolute tolerance of NumPy's and scikit-learn's isclose


def image_folds(labels: Labels, *, folds: int, seed: int) -> Folds:
    """Returns the fold of each image, int64 [N]; folds differ by at most one image, in each class too.

    Args:
        labels: int64 [N].
        folds: number of folds.
        seed: seed of the order.
    """
    random = np.random.RandomState(seed)  # scikit-learn's generator
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    appearance = np.argsort(np.argsort(first))[inverse]  # classes numbered by first appearance
    ordered = np.sort(appearance)
    out = np.empty(len(labels), np.int64)
    for label in range(len(first)):
        sizes = [np.count_nonzero(ordered[fold::folds] == label) for fold in range(folds)]
        own = np.arange(folds).repeat(sizes)
        random.shuffle(own)
        out[appearance == label] = own
    return out


def group_folds(labels: Labels, groups: Labels, *, folds: int, seed: int) -> Folds:
    """Returns the fold of each image, int64 [N]; each group goes whole to the fold where it fits best.

    That is the fold with which the shares of the classes differ least between folds; of two equal folds, the
    one with fewer images.

    Args:
        labels: int64 [N].
        groups: int64 [N], from 0, without a gap.
        folds: number of folds.
        seed: seed of the order of similar groups.
    """
    counts, classes = _class_counts(labels, groups), int(labels.max()) + 1
    count = len(counts)
    turn = np.arange(count)
    np.random.RandomState(seed).shuffle(turn)
    turn = turn[np.argsort(-np.std(counts[turn], axis=1), kind="stable")]
    images = counts.sum(axis=0)
    held = np.zeros((folds, classes))
    tried = np.arange(folds)
    fold_of = np.empty(count, np.int64)
    for group in turn:
        options = np.repeat(held[None], folds, axis=0)  # [tried, fold, class]
        options[tried, tried] += counts[group]
        uneven = np.mean(np.std(options / images, axis=1), axis=1).tolist()
        best = _best(uneven, held.sum(axis=1).tolist())
        held[best] += counts[group]
        fold_of[group] = best
    return fold_of[groups]


def _best(uneven: list[float], images: list[float]) -> int:
    relative, absolute = _CLOSE
    best = 0
    for fold in range(1, len(uneven)):
        least = uneven[best]
        close = abs(uneven[fold] - least) <= absolute + relative * abs(least)
        if uneven[fold] < least or (close and images[fold] < images[best]):
            best = fold
    return best


def fast_group_folds(labels: Labels, groups: Labels, *, folds: int, seed: int) -> Folds:
    """Returns the fold of each image, int64 [N], for many groups: round-robin, without trying folds.

    Groups with the same most common class are sorted from the largest to the smallest. Each round gives one
    group to every fold, in a random order of the folds. The folds then differ, for each such class, by no
    more images than the two largest groups have.

    Args:
        labels: int64 [N].
        groups: int64 [N], from 0, without a gap.
        folds: number of folds.
        seed: seed of the order.
    """
    count = int(groups.max()) + 1
    pairs, images = np.unique(groups * (labels.max() + 1) + labels, return_counts=True)
    owners, classes = np.divmod(pairs, labels.max() + 1)
    commonest = np.empty(count, np.int64)
    by_images = np.lexsort((-classes, images))  # the last value is kept: most images, then the lowest label
    commonest[owners[by_images]] = classes[by_images]
    random = np.random.default_rng(seed)
    order = np.lexsort((random.permutation(count), -np.bincount(groups), commonest))
    rounds = random.permuted(np.tile(np.arange(folds), (-(-count // folds), 1)), axis=1)
    fold_of = np.empty(count, np.int64)
    fold_of[order] = rounds.ravel()[:count]
    return fold_of[groups]


def _class_counts(labels: Labels, groups: Labels) -> npt.NDArray[np.float64]:
    """Returns the number of images of each class in each group, float64 [G, K]."""
    classes = int(labels.max()) + 1
    pairs = np.bincount(groups * classes + labels, minlength=(int(groups.max()) + 1) * classes)
    return pairs.reshape(-1, classes).astype(np.float64)
