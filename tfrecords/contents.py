"""What can be told of the contents of files before the split: which are the same.

Two files with the same bytes are found by reading little, and their groups are made one, so that no
split by group can part them. That leaves images with the same pixels in files that differ: to find these
too before the split, every image must be decoded, which `--duplicates=drop` pays for.
"""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Final

from tqdm import tqdm

from tfrecords.decode import DecodeError, decode_fingerprinted
from tfrecords.duplicates import exact_sets, shown_sets, sorted_sets
from tfrecords.errors import InputError
from tfrecords.pool import run_tasks
from tfrecords.sources import Listing

_TAIL: Final = 4096  # bytes; the end of a compressed image differs where anything before it does
_TASK: Final = 256  # images a task

Sets = tuple[tuple[int, ...], ...]  # of positions in a listing


def identical_files(listing: Listing) -> Sets:
    """Returns the sets of files with the same bytes, as positions in the listing.

    Only files of equal size can be the same; of these the last 4 KiB are read, and only files whose ends
    agree are read whole.

    Raises:
        InputError: a file cannot be read.
    """
    by_size: dict[int, list[int]] = defaultdict(list)
    rejected = {number for number, _ in listing.rejected}
    for number, source in enumerate(listing.sources):
        if number not in rejected:
            by_size[source.size].append(number)
    ends: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for size, numbers in by_size.items():
        for number in numbers if len(numbers) > 1 else ():
            ends[size, _digest(listing, number, max(0, size - _TAIL))].append(number)
    whole: dict[bytes, list[int]] = defaultdict(list)
    for numbers in ends.values():
        for number in numbers if len(numbers) > 1 else ():
            whole[_digest(listing, number, 0)].append(number)
    return sorted_sets(whole.values())


def _digest(listing: Listing, number: int, start: int) -> bytes:
    path = listing.root / listing.sources[number].path
    try:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.blake2b(file.read(), digest_size=16).digest()
    except OSError as error:
        shown = listing.root / listing.sources[number].shown
        raise InputError(f"{shown}: cannot be read: {error.strerror}") from None


def join_groups(listing: Listing, sets: Iterable[Sequence[int]]) -> Listing:
    """Returns the listing with the groups of each set made one, where no given split parts them."""
    leader: dict[str, str] = {}

    def find(group: str) -> str:
        while (above := leader.get(group, group)) != group:
            group = above
        return group

    for numbers in sets:
        for one, other in combinations([listing.sources[n] for n in numbers], 2):
            if one.split == other.split:
                first, second = sorted((find(one.group), find(other.group)))
                leader[second] = first
    joined = tuple(
        replace(source, group=find(source.group)) if source.group in leader else source
        for source in listing.sources
    )
    return replace(listing, sources=joined)


@dataclass(frozen=True)
class _Hasher:
    """Hashes what images of the root show, as they are read for records of one shape."""

    root: Path
    shape: tuple[int, int, int]

    def __call__(self, paths: Sequence[str], count: Callable[[int], object]) -> list[str]:
        """Returns the fingerprint of each image, "" of one that cannot be used: the conversion says why."""
        found = []
        height, width, channels = self.shape
        for path in paths:
            try:
                data = (self.root / path).read_bytes()
                decoded = decode_fingerprinted(data, height=height, width=width, channels=channels)
                found.append(decoded.fingerprint)
            except (DecodeError, OSError):
                found.append("")
            count(1)
        return found


def same_pixels(
    listing: Listing, *, shape: tuple[int, int, int], workers: int, progress: Callable[[int], object]
) -> Sets:
    """Returns the sets of images that are the same to the pixel, each sorted; decodes every image.

    Args:
        listing: the images; those it rejects are passed over.
        shape: (height, width, channels) of the records: large JPEGs are compared as they are read for it.
        workers: processes.
        progress: called with the number of images done since its last call.

    Raises:
        InputError: a set has two labels: which to keep is not known.
    """
    sources = listing.sources
    rejected = {number for number, _ in listing.rejected}
    live = [number for number in range(len(sources)) if number not in rejected]
    tasks = [[sources[n].path for n in live[i : i + _TASK]] for i in range(0, len(live), _TASK)]
    hasher = partial(_Hasher, listing.root, shape)
    hashes = [""] * len(sources)
    parts = run_tasks(hasher, tasks, workers=workers, progress=progress)
    for number, content in zip(live, (content for part in parts for content in part), strict=True):
        hashes[number] = content
    sets = exact_sets(hashes)
    if labels := [numbers for numbers in sets if len({sources[n].label for n in numbers}) > 1]:
        splits = [source.split or "not split yet" for source in sources]
        raise InputError(
            f"--duplicates=drop: {len(labels)} set{'s'[: len(labels) != 1]} of images are the same to the "
            f"pixel and have two labels, so which to keep is not known:\n"
            f"{shown_sets(labels, listing, splits)}\n"
            f"Correct the labels or remove the wrong images, then run the same command again."
        )
    return sets


def settle(
    policy: str, listing: Listing, *, shape: tuple[int, int, int], workers: int
) -> tuple[Listing, Sets, Sets]:
    """Does what a policy asks for before the split.

    Returns:
        The listing, its groups joined where files are the same; the sets of such files; the sets of images
        of which only the first is to be kept. "keep" does nothing: what is the same stays as it is.

    Raises:
        InputError: a file cannot be read, or a set to be dropped has two labels.
    """
    if policy == "drop":
        quick = sys.stderr.isatty()
        count = len(listing.sources)
        with tqdm(total=count, unit=" images", desc="comparing", mininterval=0.1 if quick else 10) as bar:
            return listing, (), same_pixels(listing, shape=shape, workers=workers, progress=bar.update)
    same = identical_files(listing) if policy == "refuse" else ()
    return join_groups(listing, same), same, ()
