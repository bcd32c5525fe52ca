"""Writes and reads duplicates.csv, the list of all duplicates."""

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tfrecords.duplicates.after_split import Duplicates
from tfrecords.sources.listing import Listing

DUPLICATES_NAME: Final = "duplicates.csv"
DROPPED: Final = "dropped"  # the split, in sources.csv, of a duplicate that was left out


def table(found: Duplicates, listing: Listing, splits: Sequence[str]) -> bytes:
    """Returns the content of duplicates.csv; b"" if there are no duplicates.

    The columns are set (a number), kind (exact, near, or dropped for an image that was left out), id, class
    and split ("" for an image that was left out).
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
    """Reads duplicates.csv: (kind, ((id, split), ...)) of each set; [] if there is no such file."""
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
    except FileNotFoundError:
        return []
    sets: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        sets[row["set"]].append(row)
    return [(own[0]["kind"], tuple((row["id"], row["split"]) for row in own)) for own in sets.values()]
