"""--value_range=auto: finds the bits in use, over all images, before the plan is made."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Final

from tqdm import tqdm

from tfrecords.images.decode import extent_of
from tfrecords.images.wide import AUTO, FULL, Extent
from tfrecords.pool import Count, Pool
from tfrecords.sources.listing import Listing

_TASK: Final = 64  # images a task


@dataclass(frozen=True)
class _Finder:
    root: Path

    def __call__(self, paths: Sequence[str], count: Count) -> Extent | None:
        """Returns the values of grayscale images of more than 8 bits; of others only headers are read."""
        found: Extent | None = None
        for path in paths:
            try:
                with (self.root / path).open("rb") as file:
                    extent = extent_of(file)
            except OSError:  # the conversion reports it
                extent = None
            found = extent | found if extent else found
            count(1)
        return found


def resolve_value_range(value_range: str, listing: Listing, pool: Pool) -> str:
    """Returns the value range, with `auto` replaced by 0:HIGH, or by `full` if no image has more than 8 bits.

    HIGH is 2**bits - 1, where `bits` is what the largest value of all images needs. It is the same for all
    images, so that they stay comparable.
    """
    if value_range != AUTO:
        return value_range
    rejected = {number for number, _ in listing.rejected}
    paths = [source.path for number, source in enumerate(listing.sources) if number not in rejected]
    tasks = [paths[start : start + _TASK] for start in range(0, len(paths), _TASK)]
    quick = sys.stderr.isatty()
    with tqdm(
        total=len(paths), unit=" images", desc="finding the range", mininterval=0.1 if quick else 10
    ) as bar:
        parts = pool.run(partial(_Finder, listing.root), tasks, progress=bar.update)
    extents = [part for part in parts if part is not None]
    return reduce(lambda one, other: one | other, extents).in_use if extents else FULL
