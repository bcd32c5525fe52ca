"""Duplicates among decoded images, found after the split by what their decoding told."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product
from typing import Final

import numpy as np

from tfrecords.duplicates.content_hashes import content_hashes
from tfrecords.duplicates.perceptual import near_pairs
from tfrecords.duplicates.sets import exact_sets
from tfrecords.images.planes import Target
from tfrecords.pool import Pool
from tfrecords.sources.listing import Listing

_LISTED: Final = 10_000  # pairs of near duplicates that are listed; all are counted


@dataclass(frozen=True)
class Duplicates:
    """What was found among the images of a listing; numbers are positions in it.

    Attributes:
        exact: sets of images with the same decoded pixels, each sorted, all sorted.
        near: pairs of images in two splits whose perceptual hashes differ in at most `NEAR_BITS`
            bits and whose pixels differ; the first `_LISTED`.
        near_count: how many such pairs there are.
        dropped: sets of images with the same pixels of which only the first was kept.
    """

    exact: tuple[tuple[int, ...], ...] = ()
    near: tuple[tuple[int, int], ...] = ()
    near_count: int = 0
    dropped: tuple[tuple[int, ...], ...] = ()


def find_duplicates(
    splits: Sequence[str],
    hashes: Sequence[str],
    perceptual_hashes: Sequence[int],
    dropped: tuple[tuple[int, ...], ...] = (),
) -> Duplicates:
    """Finds the duplicates among images.

    Args:
        splits: of each image.
        hashes: of each image's pixels; "" for an image that was left out: it is passed over.
        perceptual_hashes: perceptual hash of each image.
        dropped: see `Duplicates`.
    """
    exact = exact_sets(hashes)
    first: dict[tuple[str, str], int] = {}  # one image of each content and split stands for all
    for number, (content, split) in enumerate(zip(hashes, splits, strict=True)):
        if content:
            first.setdefault((content, split), number)
    by_look: dict[int, list[int]] = defaultdict(list)
    for number in first.values():
        by_look[perceptual_hashes[number]].append(number)
    values = np.array(sorted(by_look), np.uint64)
    close = [(int(values[i]), int(values[j])) for i, j in near_pairs(values)]

    def pairs() -> Iterator[tuple[int, int]]:
        for numbers in by_look.values():
            yield from combinations(numbers, 2)
        for one, other in close:
            yield from product(by_look[one], by_look[other])

    def across() -> Iterator[tuple[int, int]]:
        for one, other in pairs():
            if splits[one] != splits[other] and hashes[one] != hashes[other]:
                yield min(one, other), max(one, other)

    return Duplicates(
        exact,
        tuple(sorted(islice(across(), _LISTED))),
        _count_near(by_look, close, splits, hashes),
        dropped,
    )


def _count_near(
    by_look: dict[int, list[int]],
    close: Sequence[tuple[int, int]],
    splits: Sequence[str],
    hashes: Sequence[str],
) -> int:
    """Counts the pairs across splits without listing them: many images may look the same."""
    names = sorted(set(splits))
    counts = {
        look: np.bincount([names.index(splits[n]) for n in numbers], minlength=len(names))
        for look, numbers in by_look.items()
    }
    total = sum(int(counts[a].sum() * counts[b].sum() - counts[a] @ counts[b]) for a, b in close)
    for look, numbers in by_look.items():
        if len(numbers) > 1:
            total += int(counts[look].sum() ** 2 - counts[look] @ counts[look]) // 2
            same: dict[str, int] = defaultdict(int)
            for number in numbers:
                same[hashes[number]] += 1
            total -= sum(count * (count - 1) // 2 for count in same.values())
    return total


def confirm_duplicates(
    listing: Listing, fingerprints: Sequence[str], *, target: Target, pool: Pool
) -> list[str]:
    """Returns for each image what is the same exactly for those that show the same.

    Images with one fingerprint are decoded once more, for it is of resized pixels; they are few.

    Args:
        listing: the images.
        fingerprints: of each; "" for one that was left out, and stays so.
        target: of the records.
        pool: who decodes.
    """
    alike = [number for numbers in exact_sets(fingerprints) for number in numbers]
    told = list(fingerprints)
    for number, content in zip(alike, content_hashes(listing, alike, target=target, pool=pool), strict=True):
        told[number] = content or str(number)  # it cannot be read any more: like no other
    return told
