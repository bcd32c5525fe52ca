"""Which fold holds out each image of train and val: whole groups, classes in proportion.

It follows from the images, their classes and groups and the number of folds alone, so all runs of a set of
folds agree on it, on any machine and whatever their own seeds are.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.sources.folds import fast_group_folds, group_folds, image_folds

MOST_FOLDS: Final = 100
_SEED: Final = 0  # the same for all runs: folds of two seeds would overlap
_FORMAT: Final = 1  # raise it when the same images would get other folds, or a fold other records
_MOST_GROUPS_TRIED: Final = 10_000  # as in `sources.splits`

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One of some folds.

    Attributes:
        number: from 1 to `folds`: the fold that is held out.
        folds: how many there are, 2 or more.
    """

    number: int
    folds: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the fold in a text I/K.

        Raises:
            InputError: it is no such text.
        """
        number, slash, folds = text.partition("/")
        if not (slash and number.isascii() and folds.isascii() and number.isdigit() and folds.isdigit()):
            raise InputError(f"--fold={text}: must be I/K, as 1/5 for the first of five folds")
        fold = cls(int(number), int(folds))
        if not 2 <= fold.folds <= MOST_FOLDS or not 1 <= fold.number <= fold.folds:
            raise InputError(
                f"--fold={text}: must be I/K with K from 2 to {MOST_FOLDS} folds and I from 1 to K, as 1/5"
            )
        return fold

    def __str__(self) -> str:
        return f"{self.number}/{self.folds}"

    def plan(self, parent: str) -> str:
        """Returns the fingerprint of the fold's records.

        Args:
            parent: fingerprint of the conversion; see `Manifest.plan`.
        """
        content = json.dumps(["fold", _FORMAT, parent, self.number, self.folds])
        return hashlib.sha256(content.encode()).hexdigest()


def folds_of(labels: Labels, groups: Sequence[str], folds: int, manifest: Manifest) -> Labels:
    """Returns the fold that holds out each image, int64 [N], from 1 on; no group is in two.

    Args:
        labels: int64 [N], the classes of the images of train and val, in the order of their sources.
        groups: N names of groups.
        folds: how many folds.
        manifest: of the conversion, for errors.

    Raises:
        InputError: a class has too few groups to be in each fold.
    """
    _, numbers = np.unique(np.asarray(groups), return_inverse=True)
    for label, name in enumerate(manifest.class_names):
        there = len(np.unique(numbers[labels == label]))
        if there < folds:
            fix = f"use K = {there} at most" if there > 1 else "add images"
            raise InputError(
                f"--fold=I/{folds}: class {name!r} has {there} groups in train and val of "
                f"{manifest.name!r}, and each fold needs one; {fix}"
            )
    if numbers.max() + 1 == len(numbers):  # every image a group of its own
        found = image_folds(labels, folds=folds, seed=_SEED)
    else:
        make = group_folds if numbers.max() < _MOST_GROUPS_TRIED else fast_group_folds
        found = make(labels, numbers.astype(np.int64), folds=folds, seed=_SEED)
    for fold in range(folds):
        missing = set(range(len(manifest.class_names))) - set(labels[found == fold].tolist())
        if missing:  # groups of several classes, or of very unequal sizes
            raise InputError(
                f"--fold=I/{folds}: fold {fold + 1} would have no image of class "
                f"{manifest.class_names[min(missing)]!r}; use fewer folds"
            )
    return found + 1
