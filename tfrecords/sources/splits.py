"""Assigns a split to each source: whole groups, stratified by class, no group in two splits."""

import sys
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError, first_names
from tfrecords.sources.folds import fast_group_folds, group_folds, image_folds
from tfrecords.sources.listing import SPLITS, Listing, Source

_MOST_FOLDS: Final = 20  # a fraction is a number of whole folds, so its steps are 5%
_MOST_GROUPS_TRIED: Final = 10_000  # with more groups, trying every fold would take more than half a second


def assign_splits(
    listing: Listing,
    *,
    val_fraction: float,
    test_fraction: float | None,
    seed: int,
    joined_by: str = "--group_regex",
) -> tuple[str, ...]:
    """Returns the split of each source, in the listing's order.

    A given split stays as it is. A missing split is carved from train by whole folds (folds.py); where
    `splits_are_fixed`, it is carved from the sources without a split.

    Args:
        listing: the sources.
        val_fraction: share of the images for a missing val split; 0 for none.
        test_fraction: share of the images for a missing test split; 0 for none; None for 0.15 where the
            folders name no splits, else 0.
        seed: seed of the folds.
        joined_by: where the groups come from, in words, for errors.

    Raises:
        InputError: a fraction is out of range, a group is in two splits, or a split lacks a class.
    """
    given = {source.split for source in listing.sources} - {None}
    if test_fraction is None:
        test_fraction = 0.0 if given else 0.15
    fractions = {"val": val_fraction, "test": test_fraction}
    if not (min(fractions.values()) >= 0 and sum(fractions.values()) < 1):  # so that NaN fails too
        raise InputError(
            f"--val_fraction={val_fraction} and --test_fraction={test_fraction}: each must be 0 or "
            f"more and both together less than 1"
        )
    splits = np.array([source.split or "train" for source in listing.sources], dtype="U5")
    if listing.splits_are_fixed:
        train = np.flatnonzero([source.split is None for source in listing.sources])
    else:
        train = np.flatnonzero(splits == "train")
    wanted = {name: share for name, share in fractions.items() if share and name not in given and train.size}
    if wanted:
        folds = _folds(listing.class_names, [listing.sources[i] for i in train], wanted, seed, joined_by)
        least = 0
        for name, share in wanted.items():
            count = max(1, round(share * (folds.max() + 1)))
            splits[train[(least <= folds) & (folds < least + count)]] = name
            least += count
    result = tuple(map(sys.intern, splits.tolist()))  # one string for each split, not for each image
    _refuse_shared_groups(listing.sources, result)
    _refuse_missing_classes(listing, result)
    return result


def _folds(
    class_names: Sequence[str],
    sources: Sequence[Source],
    wanted: Mapping[str, float],
    seed: int,
    joined_by: str,
) -> npt.NDArray[np.int64]:
    """Returns the fold of each source, int64 [N]: whole groups, classes in proportion."""
    labels = np.array([source.label for source in sources])
    groups = _numbered([source.group for source in sources])
    smallest, label = min((len(np.unique(groups[labels == label])), label) for label in np.unique(labels))
    if smallest < len(wanted) + 1:
        images = np.count_nonzero(labels == label)
        raise InputError(
            f"too few groups to carve {' and '.join(wanted)} from train: the smallest class, "
            f"{class_names[label]!r}, has {smallest} ({images} images), but {len(wanted) + 1} are needed; "
            + f"the groups come from {joined_by}: give a --group_regex that separates patients, "
            * bool(images > smallest)
            + "add images, or carve less with --val_fraction=0 or --test_fraction=0"
        )
    count = min(_MOST_FOLDS, smallest)
    if groups.max() + 1 == len(groups):  # every image a group of its own
        return image_folds(labels, folds=count, seed=seed)
    make_folds = group_folds if groups.max() < _MOST_GROUPS_TRIED else fast_group_folds
    return make_folds(labels, groups, folds=count, seed=seed)


def _numbered(groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """Returns the rank of each group among the distinct groups, int64 [N].

    A NumPy array of the names would need the room of the longest name for each.
    """
    ranks = {group: rank for rank, group in enumerate(sorted(set(groups)))}
    return np.fromiter((ranks[group] for group in groups), np.int64, len(groups))


def _refuse_shared_groups(sources: Sequence[Source], splits: Sequence[str]) -> None:
    where: dict[str, str] = {}
    shared_groups: set[str] = set()
    for source, split in zip(sources, splits, strict=True):
        if where.setdefault(source.group, split) != split:
            shared_groups.add(source.group)
    shared = sorted(shared_groups)
    if shared:
        example = [source.shown for source in sources if source.group == shared[0]]
        raise InputError(
            f"{len(shared)} of {len(where)} groups are in two splits, first {shared[0]!r} "
            f"({example[0]}, {example[-1]}): a model would be tested on what it was trained on; "
            f"move each group into one split, or give a --group_regex that tells the groups apart"
        )


def _refuse_missing_classes(listing: Listing, splits: Sequence[str]) -> None:
    there = {(source.label, split) for source, split in zip(listing.sources, splits, strict=True)}
    for split in [name for name in SPLITS if name in splits or name == "train"]:
        for label, name in enumerate(listing.class_names):
            if (label, split) not in there:
                raise InputError(
                    f"split {split!r} has no image of class {name!r}; every split needs all of "
                    f"{first_names(listing.class_names)}: add images or change the fractions"
                )
