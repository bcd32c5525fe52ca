"""Sets of duplicate images: built from hashes, refused, and listed in errors."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError
from tfrecords.sources.listing import Listing

POLICIES: Final = ("refuse", "keep", "drop")

_NAMED: Final = 5  # most sets, and images of a set, that an error names


def exact_sets(hashes: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Returns the sorted sets of positions with the same hash; "" is no hash."""
    by_hash: dict[str, list[int]] = defaultdict(list)
    for number, content in enumerate(hashes):
        if content:
            by_hash[content].append(number)
    return sorted_sets(by_hash.values())


def sorted_sets(found: Iterable[list[int]]) -> tuple[tuple[int, ...], ...]:
    """Returns the sets with two or more members, sorted."""
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
    """Raises InputError if duplicates have two labels or are in two splits.

    Args:
        sets: sets of duplicates, as positions in the listing.
        listing: the images.
        splits: split of each image.
        written: duplicates.csv, which lists all sets; None before any shard is written.
    """
    labels, across = crossing(sets, listing, splits)
    bad = sorted({tuple(numbers) for numbers in (*labels, *across)})
    if not bad:
        return
    counts = [(len(labels), "with two labels"), (len(across), "in two splits")]
    found = ", ".join(f"{count} {what}" for count, what in counts if count)
    again = " and convert with --overwrite" if written else ""
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
        + f"{harm}{again}, {drop}or keep them all with --duplicates=keep."
    )


def shown_sets(sets: Sequence[Sequence[int]], listing: Listing, splits: Sequence[str]) -> str:
    """Returns a line for each of the first sets, with ids, classes and splits; then counts the others."""
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
