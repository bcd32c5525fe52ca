"""Hashes images as decoded, before the resize, in all processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tfrecords.images.decode import content_hash
from tfrecords.images.kinds import DecodeError
from tfrecords.images.planes import Target
from tfrecords.pool import Count, Pool, nothing
from tfrecords.sources.listing import Listing

_TASK: Final = 256  # images a task


@dataclass(frozen=True)
class _Hasher:
    """Hashes the pixels of images below the root, decoded for one target."""

    root: Path
    target: Target

    def __call__(self, paths: Sequence[str], count: Count) -> list[str]:
        """Returns the hash of each image; "" for an unusable one: the conversion gives the reason."""
        found = []
        for path in paths:
            try:
                data = (self.root / path).read_bytes()
                found.append(content_hash(data, **vars(self.target)))
            except (DecodeError, OSError):
                found.append("")
            count(1)
        return found


def content_hashes(
    listing: Listing,
    numbers: Sequence[int],
    *,
    target: Target,
    pool: Pool,
    progress: Count = nothing,
) -> list[str]:
    """Returns the content hash of some images, "" for an unusable one; decodes each of them.

    Args:
        listing: the images.
        numbers: positions in the listing of the images to hash.
        target: target of the records; large JPEGs and images of more than 8 bits are decoded for it.
        pool: processes that decode.
        progress: called with the number of images done since the last call.
    """
    paths = [listing.sources[number].path for number in numbers]
    tasks = [paths[start : start + _TASK] for start in range(0, len(paths), _TASK)]
    parts = pool.run(partial(_Hasher, listing.root, target), tasks, progress=progress)
    return [content for part in parts for content in part]
