"""Finds identical files and images before the split.

Files with equal bytes are found by reading little. Their groups are joined, so that a split by group keeps
them together. Images with equal pixels in different files need a decoding of every image; only
`--duplicates=drop` does that.
"""

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from tqdm import tqdm

from tfrecords.duplicates.content_hashes import content_hashes
from tfrecords.duplicates.sets import exact_sets, shown_sets, sorted_sets
from tfrecords.errors import InputError
from tfrecords.images.planes import Target
from tfrecords.pool import Count, Pool
from tfrecords.sources.listing import Listing

_TAIL: Final = 4096  # bytes; the ends of different compressed images nearly always differ
_TASK: Final = 256  # images a task

Sets = tuple[tuple[int, ...], ...]  # of positions in a listing


def identical_files(listing: Listing, pool: Pool) -> Sets:
    """Returns the sets of files with equal bytes, as positions in the listing.

    Only files of equal size can be equal. Their last 4 KiB are read first, and the whole files only where
    these are equal.

    Raises:
        InputError: a file cannot be read.
    """
    by_size: dict[int, list[int]] = defaultdict(list)
    rejected = {number for number, _ in listing.rejected}
    for number, source in enumerate(listing.sources):
        if number not in rejected:
            by_size[source.size].append(number)
    candidates = [number for numbers in by_size.values() if len(numbers) > 1 for number in numbers]
    ends: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for number, digest in zip(candidates, _digests(listing, candidates, pool, tail=True), strict=True):
        ends[listing.sources[number].size, digest].append(number)
    candidates = [number for numbers in ends.values() if len(numbers) > 1 for number in numbers]
    whole: dict[bytes, list[int]] = defaultdict(list)
    for number, digest in zip(candidates, _digests(listing, candidates, pool, tail=False), strict=True):
        whole[digest].append(number)
    return sorted_sets(whole.values())


def _digests(listing: Listing, numbers: Sequence[int], pool: Pool, *, tail: bool) -> list[bytes]:
    named = [(listing.sources[number].path, listing.sources[number].shown) for number in numbers]
    tasks = [named[start : start + _TASK] for start in range(0, len(named), _TASK)]
    parts = pool.run(partial(_Digester, listing.root, tail), tasks, join=True)
    return [digest for part in parts for digest in part]


@dataclass(frozen=True)
class _Digester:
    """Hashes the bytes of files below the root: all bytes, or the last 4 KiB."""

    root: Path
    tail: bool

    def __call__(self, files: Sequence[tuple[str, str]], count: Count) -> list[bytes]:
        """Returns a digest for each (path, name in errors)."""
        found = []
        for path, shown in files:
            try:
                with open(f"{self.root}/{path}", "rb") as file:  # noqa: PTH123 - a Path takes as long
                    if self.tail:
                        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
                    found.append(hashlib.blake2b(file.read(), digest_size=16).digest())
            except OSError as error:
                raise InputError(f"{self.root / shown}: cannot be read: {error.strerror}") from None
            count(1)
        return found


def join_groups(listing: Listing, sets: Iterable[Sequence[int]]) -> Listing:
    """Returns the listing with the groups of each set joined, as far as they are in the same given split."""
    leader: dict[str, str] = {}

    def find(group: str) -> str:
        while (above := leader.get(group, group)) != group:
            group = above
        return group

    for numbers in sets:
        first: dict[str | None, str] = {}  # of each split
        for source in (listing.sources[number] for number in numbers):
            kept, other = sorted((find(first.setdefault(source.split, source.group)), find(source.group)))
            leader[other] = kept
    joined = tuple(
        replace(source, group=find(source.group)) if source.group in leader else source
        for source in listing.sources
    )
    return replace(listing, sources=joined)


def identical_images(listing: Listing, *, target: Target, pool: Pool, progress: Count) -> Sets:
    """Returns the sorted sets of images with equal pixels; decodes every image.

    Args:
        listing: the images; those it rejects are ignored.
        target: target of the records; large JPEGs and images of more than 8 bits are decoded for it.
        pool: processes that decode.
        progress: called with the number of images done since the last call.

    Raises:
        InputError: a set has two labels, so the one to keep is not known.
    """
    sources = listing.sources
    rejected = {number for number, _ in listing.rejected}
    live = [number for number in range(len(sources)) if number not in rejected]
    hashes = [""] * len(sources)
    found = content_hashes(listing, live, target=target, pool=pool, progress=progress)
    for number, content in zip(live, found, strict=True):
        hashes[number] = content
    sets = exact_sets(hashes)
    if labels := [numbers for numbers in sets if len({sources[n].label for n in numbers}) > 1]:
        splits = [source.split or "not split yet" for source in sources]
        raise InputError(
            f"--duplicates=drop: {len(labels)} set{'s'[: len(labels) != 1]} of images are the same to the "
            f"pixel but have two labels, so the image to keep is not known:\n"
            f"{shown_sets(labels, listing, splits)}\n"
            f"Correct the labels or remove the wrong images, then run the same command again."
        )
    return sets


def apply_duplicate_policy(
    policy: str, listing: Listing, *, target: Target, pool: Pool
) -> tuple[Listing, Sets, Sets]:
    """Applies the policy of `--duplicates` before the split.

    Returns:
        The listing, with the groups of identical files joined; the sets of identical files; the sets of
        images of which only the first will be kept. "keep" changes nothing.

    Raises:
        InputError: a file cannot be read, or a set to drop has two labels.
    """
    if policy == "drop":
        quick = sys.stderr.isatty()
        count = len(listing.sources)
        with tqdm(total=count, unit=" images", desc="comparing", mininterval=0.1 if quick else 10) as bar:
            return listing, (), identical_images(listing, target=target, pool=pool, progress=bar.update)
    identical = identical_files(listing, pool) if policy == "refuse" else ()
    return join_groups(listing, identical), identical, ()
