"""Images that are there more than once: found by what their decoding told, refused, listed."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product
from pathlib import Path
from typing import Final

import numpy as np

from tfrecords.errors import InputError
from tfrecords.perceptual import near_pairs
from tfrecords.sources import Listing

POLICIES: Final = ("refuse", "keep", "drop")
DUPLICATES_NAME: Final = "duplicates.csv"
DROPPED: Final = "dropped"  # what sources.csv gives as the split of an image left out

_NAMED: Final = 5  # sets that an error names
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
    looks: Sequence[int],
    dropped: tuple[tuple[int, ...], ...] = (),
) -> Duplicates:
    """Finds the duplicates among images.

    Args:
        splits: of each image.
        hashes: of each image's pixels; "" for an image that was left out: it is passed over.
        looks: perceptual hash of each image.
        dropped: see `Duplicates`.
    """
    exact = exact_sets(hashes)
    first: dict[tuple[str, str], int] = {}  # one image of each content and split stands for all
    for number, (content, split) in enumerate(zip(hashes, splits, strict=True)):
        if content:
            first.setdefault((content, split), number)
    by_look: dict[int, list[int]] = defaultdict(list)
    for number in first.values():
        by_look[looks[number]].append(number)
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


def exact_sets(hashes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Returns the sets of positions that have one hash, sorted; "" is none."""
    by_hash: dict[str, list[int]] = defaultdict(list)
    for number, content in enumerate(hashes):
        if content:
            by_hash[content].append(number)
    return sorted_sets(by_hash.values())


def sorted_sets(found: Iterable[list[int]]) -> tuple[tuple[int, ...], ...]:
    """Returns those of two or more, sorted."""
    return tuple(sorted(tuple(numbers) for numbers in found if len(numbers) > 1))


def crossing(
    sets: Iterable[Sequence[int]], listing: Listing, splits: Sequence[str]
) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """Returns the sets with two labels, and the sets in two splits."""
    labels = [numbers for numbers in sets if len({listing.sources[n].label for n in numbers}) > 1]
    return labels, [numbers for numbers in sets if len({splits[n] for n in numbers}) > 1]


def refuse_crossing(
    sets: Sequence[Sequence[int]], listing: Listing, splits: Sequence[str], *, written: Path | None = None
) -> None:
    """Raises InputError if images that are the same have two labels or are in two splits.

    Args:
        sets: of images that are the same, as positions in the listing.
        listing: the images.
        splits: of each image.
        written: duplicates.csv, where all sets are listed; None before any shard is written.
    """
    labels, across = crossing(sets, listing, splits)
    bad = sorted({tuple(numbers) for numbers in (*labels, *across)})
    if not bad:
        return
    counts = [(len(labels), "with two labels"), (len(across), "in two splits")]
    found = ", ".join(f"{count} {what}" for count, what in counts if count)
    anew = " and convert with --overwrite" if written else ""
    if labels:
        harm = "One of the labels is wrong. Correct it, or remove the images"
        drop = ""
    else:
        harm = "A model would be tested on what it was trained on. Remove all but one of each set"
        drop = f"leave the others out with --duplicates=drop{' --overwrite' if written else ''}, "
    raise InputError(
        f"{listing.root}: {len(bad)} set{'s'[: len(bad) != 1]} of images are the same to the pixel "
        f"({found}):\n"
        f"{shown_sets(bad, listing, splits)}\n"
        + f"All are listed in {written}.\n" * bool(written)
        + f"{harm}{anew}, {drop}or keep them all with --duplicates=keep."
    )


def shown_sets(sets: Sequence[Sequence[int]], listing: Listing, splits: Sequence[str]) -> str:
    """Returns a line for each of the first sets, with ids, classes and splits, and the number of others."""
    lines = []
    for numbers in sets[:_NAMED]:
        images = [
            f"{listing.sources[n].position or listing.sources[n].id} "
            f"({listing.class_names[listing.sources[n].label]}, {splits[n]})"
            for n in numbers[:_NAMED]
        ]
        more = [f"and {len(numbers) - _NAMED} more"] if len(numbers) > _NAMED else []
        lines.append("  " + ", ".join(images + more))
    if len(sets) > _NAMED:
        lines.append(f"  ... and {len(sets) - _NAMED} more sets")
    return "\n".join(lines)


def table(found: Duplicates, listing: Listing, splits: Sequence[str]) -> bytes:
    """Returns the content of duplicates.csv, b"" if there are none.

    Its columns: set (a number), kind (exact, near, or dropped for an image that was left out), id, class
    and split ("" for one left out).
    """
    kinds = [("exact", found.exact), ("near", found.near), ("exact", found.dropped)]
    sets = [(kind, numbers) for kind, own in kinds for numbers in own]
    if not sets:
        return b""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["set", "kind", "id", "class", "split"])
    for number, (kind, numbers) in enumerate(sets):
        for image in numbers:
            source, split = listing.sources[image], splits[image]
            left_out = split == DROPPED
            row = (kind, source.id, listing.class_names[source.label], split)
            writer.writerow([number, *(row if not left_out else ("dropped", *row[1:3], ""))])
    return text.getvalue().encode()


def read_sets(path: Path) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """Returns what duplicates.csv lists: (kind, ((id, split), ...)) of each set; [] if it is not there."""
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
    except FileNotFoundError:
        return []
    sets: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        sets[row["set"]].append(row)
    return [(own[0]["kind"], tuple((row["id"], row["split"]) for row in own)) for own in sets.values()]
