"""Finds duplicates after the split, from the hashes that decoding has made."""

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

_LISTED: Final = 10_000  # most pairs of near duplicates that are listed; all are counted


@dataclass(frozen=True)
class Duplicates:
    """The duplicates among the images of a listing; numbers are positions in the listing.

    Attributes:
        exact: sets of images with equal decoded pixels; the sets and their members are sorted.
        near: pairs of images in two splits whose pixels differ, but whose perceptual hashes differ in at most
            `NEAR_BITS` bits; the first `_LISTED`.
        near_count: number of all such pairs.
        dropped: sets of images with equal pixels of which only the first was kept.
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
        splits: split of each image.
        hashes: hash of each image's pixels; "" for an image that was left out, which is ignored.
        perceptual_hashes: perceptual hash of each image.
        dropped: see `Duplicates`.
    """
    exact = exact_sets(hashes)
    first: dict[tuple[str, str], int] = {}  # for each content and split one image represents all
    for number, (content, split) in enumerate(zip(hashes, splits, strict=True)):
        if content:
            first.setdefault((content, split), number)
    by_hash: dict[int, list[int]] = defaultdict(list)
    for number in first.values():
        by_hash[perceptual_hashes[number]].append(number)
    values = np.array(sorted(by_hash), np.uint64)
    close = [(int(values[i]), int(values[j])) for i, j in near_pairs(values)]

    def pairs() -> Iterator[tuple[int, int]]:
        for numbers in by_hash.values():
            yield from combinations(numbers, 2)
        for one, other in close:
            yield from product(by_hash[one], by_hash[other])

    def across() -> Iterator[tuple[int, int]]:
        for one, other in pairs():
            if splits[one] != splits[other] and hashes[one] != hashes[other]:
                yield min(one, other), max(one, other)

    return Duplicates(
        exact,
        tuple(sorted(islice(across(), _LISTED))),
        _count_near(by_hash, close, splits, hashes),
        dropped,
    )


def _count_near(
    by_hash: dict[int, list[int]],
    close: Sequence[tuple[int, int]],
    splits: Sequence[str],
    hashes: Sequence[str],
) -> int:
    """Counts the pairs across splits without listing them, because many images may look alike."""
    names = sorted(set(splits))
    counts = {
        value: np.bincount([names.index(splits[n]) for n in numbers], minlength=len(names))
        for value, numbers in by_hash.items()
    }
    total = sum(int(counts[a].sum() * counts[b].sum() - counts[a] @ counts[b]) for a, b in close)
    for value, numbers in by_hash.items():
        if len(numbers) > 1:
            total += int(counts[value].sum() ** 2 - counts[value] @ counts[value]) // 2
            equal: dict[str, int] = defaultdict(int)
            for number in numbers:
                equal[hashes[number]] += 1
            total -= sum(count * (count - 1) // 2 for count in equal.values())
    return total


def confirm_duplicates(
    listing: Listing, fingerprints: Sequence[str], *, target: Target, pool: Pool
) -> list[str]:
    """Returns a hash for each image that is equal exactly for images with equal pixels.

    A fingerprint is a hash of resized pixels, so images that share one are decoded again; they are few.

    Args:
        listing: the images.
        fingerprints: fingerprint of each image; "" for an image that was left out, which keeps it.
        target: target of the records.
        pool: processes that decode.
    """
    suspects = [number for numbers in exact_sets(fingerprints) for number in numbers]
    hashes = list(fingerprints)
    contents = content_hashes(listing, suspects, target=target, pool=pool)
    for number, content in zip(suspects, contents, strict=True):
        hashes[number] = content or str(number)  # the file is no longer readable: equal to no other image
    return hashes
