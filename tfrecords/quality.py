"""The quality of a data set's splits: duplicates, group sizes and class shares, as numbers and as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np

from tfrecords.duplicates.perceptual import NEAR_BITS
from tfrecords.errors import first_names

# Pixels; each edge is about the square root of 2 times the one before.
_SIZE_EDGES: Final = (1, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048, 2896, 4096, 5793)


@dataclass(frozen=True)
class SplitQuality:
    """What limits the trust in results on these splits.

    Attributes:
        duplicate_policy: "refuse", "keep" or "drop": what was done with equal images.
        duplicate_sets: sets of images that are the same to the pixel.
        duplicate_images: images in these sets.
        duplicate_sets_across_splits: sets with images in two splits.
        duplicate_sets_across_labels: sets with two labels.
        dropped_duplicates: images left out because an equal one was kept.
        near_duplicate_pairs: pairs of similar images in two splits, by their perceptual hashes.
        images_in_largest_group: of each split.
        class_shares_of_shards: for each split and class, the least and the largest share of the class among
            the images of a shard, from 0 to 1.
        source_widths: how many source images have a width in each range, in pixels.
        source_heights: the same for heights.
        duplicates_sha256: of duplicates.csv, which lists the sets and pairs; "": there is no such file.
    """

    duplicate_policy: str = "refuse"
    duplicate_sets: int = 0
    duplicate_images: int = 0
    duplicate_sets_across_splits: int = 0
    duplicate_sets_across_labels: int = 0
    dropped_duplicates: int = 0
    near_duplicate_pairs: int = 0
    images_in_largest_group: Mapping[str, int] = field(default_factory=dict)
    class_shares_of_shards: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    source_widths: Mapping[str, int] = field(default_factory=dict)
    source_heights: Mapping[str, int] = field(default_factory=dict)
    duplicates_sha256: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Returns the object of JSON values, with tuples for lists.

        Raises:
            KeyError, TypeError, AttributeError: a key is missing or unknown, or a value is of another kind.
        """
        shares = values["class_shares_of_shards"].items()
        shares = {split: tuple(tuple(pair) for pair in pairs) for split, pairs in shares}
        return cls(**{**values, "class_shares_of_shards": shares})

    def describe_duplicates(self) -> list[str]:
        """Returns sentences about duplicates; [] if there are none."""
        lines = []
        if self.duplicate_sets:
            across = [
                f"{_counted(count, 'set')} {what}"
                for count, what in (
                    (self.duplicate_sets_across_splits, "in two splits"),
                    (self.duplicate_sets_across_labels, "with two labels"),
                )
                if count
            ]
            lines.append(
                f"duplicates: {_counted(self.duplicate_sets, 'set')} of {self.duplicate_images:,} images "
                f"that are the same to the pixel, {' and '.join(across) or 'each inside one split and class'}"
            )
        if count := self.dropped_duplicates:
            lines.append(
                f"duplicates: {_counted(count, 'image')} left out, the same to the pixel as one kept"
            )
        if count := self.near_duplicate_pairs:
            lines.append(
                f"near duplicates: {_counted(count, 'pair')} of images in two splits look the same "
                f"(perceptual hashes differ in at most {NEAR_BITS} of 64 bits)"
            )
        return lines

    def describe(self, images: Mapping[str, int], class_names: Sequence[str]) -> list[str]:
        """Returns sentences about all of it.

        Args:
            images: how many originals each split has.
            class_names: of the data set.
        """
        groups = [
            f"{count:,} images in {split} ({count / images[split]:.1%} of it)"
            for split, count in self.images_in_largest_group.items()
        ]
        lines = [f"largest group: {', '.join(groups)}"]
        for split, pairs in self.class_shares_of_shards.items():
            shares = [
                f"{name} {least:.1%}" + f" to {largest:.1%}" * (largest > least)
                for name, (least, largest) in zip(class_names, pairs, strict=True)
            ]
            lines.append(f"classes in each shard of {split}: {first_names(shares)}")
        duplicates = self.describe_duplicates()
        if not any(line.startswith("duplicates") for line in duplicates):
            lines.append("duplicates: no two images are the same to the pixel")
        if not self.near_duplicate_pairs:
            duplicates.append("near duplicates: no two images in different splits look the same")
        return lines + duplicates


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s'[: count != 1]}"


def largest_groups(splits: Sequence[str], groups: Sequence[str]) -> dict[str, int]:
    """Returns how many images the largest group of each split has.

    Args:
        splits: of each image.
        groups: of each image.
    """
    largest: dict[str, int] = {}
    for (split, _), count in Counter(zip(splits, groups, strict=True)).items():
        largest[split] = max(count, largest.get(split, 0))
    return largest


def shard_shares(labels: Sequence[Sequence[int]], classes: int) -> tuple[tuple[float, float], ...]:
    """Returns the least and the largest share of each class among the images of a shard.

    Args:
        labels: of the images of each shard; a shard without images is ignored.
        classes: how many there are.
    """
    shares = np.array([np.bincount(own, minlength=classes) / len(own) for own in labels if len(own)])
    bounds = np.round(np.stack([shares.min(axis=0), shares.max(axis=0)], axis=1), 4)
    return tuple((least, largest) for least, largest in bounds.tolist())


def size_counts(sizes: Sequence[int]) -> dict[str, int]:
    """Returns how many sizes, in pixels, are in each range, from the smallest range in use to the largest."""
    places = np.searchsorted(_SIZE_EDGES, np.asarray(sizes, np.int64), side="right") - 1
    counts = np.bincount(places, minlength=len(_SIZE_EDGES))
    there = np.flatnonzero(counts)
    labels = [f"{a}-{b - 1}" for a, b in pairwise(_SIZE_EDGES)]
    labels.append(f"{_SIZE_EDGES[-1]} and more")
    return {labels[i]: int(counts[i]) for i in range(there[0], there[-1] + 1)} if there.size else {}
