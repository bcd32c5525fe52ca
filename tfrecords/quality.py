"""How far the splits of a data set can be trusted, in a few numbers, and in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np

from tfrecords.duplicates.perceptual import NEAR_BITS
from tfrecords.errors import first_names

# Pixels, each the square root of 2 times the one before.
_SIZE_EDGES: Final = (1, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048, 2896, 4096, 5793)


@dataclass(frozen=True)
class SplitQuality:
    """What a reader of the results must know of the images behind them.

    Attributes:
        duplicates: what was done with images that are the same to the pixel: "refuse", "keep", "drop".
        exact_sets: sets of such images in the data set.
        exact_images: the images in these sets.
        sets_across_splits: sets with images in two splits.
        sets_across_labels: sets with two labels.
        dropped: images that were left out because another shows the same.
        near_pairs: pairs of images in two splits that look the same.
        largest_groups: images of the largest group of each split.
        shard_shares: for each split and class the least and the largest share of the images of a shard.
        widths: of the source images, before the resize: how many there are by range of pixels.
        heights: likewise.
        listed_sha256: of duplicates.csv, which lists sets and pairs; "" if there is none.
    """

    duplicates: str = "refuse"
    exact_sets: int = 0
    exact_images: int = 0
    sets_across_splits: int = 0
    sets_across_labels: int = 0
    dropped: int = 0
    near_pairs: int = 0
    largest_groups: Mapping[str, int] = field(default_factory=dict)
    shard_shares: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    heights: Mapping[str, int] = field(default_factory=dict)
    listed_sha256: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Returns what was read from JSON, its lists as tuples again; the fields must be these."""
        shares = {
            split: tuple(tuple(pair) for pair in pairs) for split, pairs in values["shard_shares"].items()
        }
        return cls(**{**values, "shard_shares": shares})

    def describe_duplicates(self) -> list[str]:
        """Returns what was found twice, in sentences; [] if nothing was."""
        lines = []
        if self.exact_sets:
            where = []
            if self.sets_across_splits:
                where.append(f"{_counted(self.sets_across_splits, 'set')} in two splits")
            if self.sets_across_labels:
                where.append(f"{_counted(self.sets_across_labels, 'set')} with two labels")
            lines.append(
                f"duplicates: {_counted(self.exact_sets, 'set')} of {self.exact_images:,} images that are "
                f"the same to the pixel, {' and '.join(where) or 'each inside one split and class'}"
            )
        if self.dropped:
            lines.append(
                f"duplicates: {_counted(self.dropped, 'image')} left out, the same to the pixel as one kept"
            )
        if self.near_pairs:
            lines.append(
                f"near duplicates: {_counted(self.near_pairs, 'pair')} of images in two splits look the same "
                f"(perceptual hashes differ in at most {NEAR_BITS} of 64 bits)"
            )
        return lines

    def describe(self, images: Mapping[str, int], class_names: Sequence[str]) -> list[str]:
        """Returns the whole report in sentences.

        Args:
            images: originals of each split.
            class_names: of the data set.
        """
        groups = [
            f"{count:,} images in {split} ({count / images[split]:.1%} of it)"
            for split, count in self.largest_groups.items()
        ]
        lines = [f"largest group: {', '.join(groups)}"]
        for split, pairs in self.shard_shares.items():
            shares = [
                f"{name} {least:.1%}" + f" to {largest:.1%}" * (largest > least)
                for name, (least, largest) in zip(class_names, pairs, strict=True)
            ]
            lines.append(f"classes in each shard of {split}: {first_names(shares)}")
        found = self.describe_duplicates()
        if not any(line.startswith("duplicates") for line in found):
            lines.append("duplicates: no two images are the same to the pixel")
        if not self.near_pairs:
            found.append("near duplicates: no two images in different splits look the same")
        return lines + found


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s'[: count != 1]}"


def largest_groups(splits: Sequence[str], groups: Sequence[str]) -> dict[str, int]:
    """Returns the images of the largest group of each split, by the group and split of each image."""
    largest: dict[str, int] = {}
    for (split, _), count in Counter(zip(splits, groups, strict=True)).items():
        largest[split] = max(count, largest.get(split, 0))
    return largest


def shard_shares(labels: Sequence[Sequence[int]], classes: int) -> tuple[tuple[float, float], ...]:
    """Returns the least and the largest share of each class over shards, by the labels in each."""
    shares = np.array([np.bincount(own, minlength=classes) / len(own) for own in labels if len(own)])
    bounds = np.round(np.stack([shares.min(axis=0), shares.max(axis=0)], axis=1), 4)
    return tuple((least, largest) for least, largest in bounds.tolist())


def size_counts(sizes: Sequence[int]) -> dict[str, int]:
    """Returns how many sizes (pixels) fall into each range, from the least to the largest that is there."""
    places = np.searchsorted(_SIZE_EDGES, np.asarray(sizes, np.int64), side="right") - 1
    counts = np.bincount(places, minlength=len(_SIZE_EDGES))
    there = np.flatnonzero(counts)
    labels = [f"{a}-{b - 1}" for a, b in pairwise(_SIZE_EDGES)]
    labels.append(f"{_SIZE_EDGES[-1]} and more")
    return {labels[i]: int(counts[i]) for i in range(there[0], there[-1] + 1)} if there.size else {}
