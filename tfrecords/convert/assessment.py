"""From what the work on all shards found to the trust report and duplicates.csv."""

import hashlib
from collections.abc import Sequence

from tfrecords.convert.shards import ShardJob, ShardResult
from tfrecords.duplicates.after_split import Duplicates, confirm_duplicates, find_duplicates
from tfrecords.duplicates.sets import crossing
from tfrecords.duplicates.table import table
from tfrecords.images.planes import Target
from tfrecords.pool import Pool
from tfrecords.quality import SplitQuality, largest_groups, shard_shares, size_counts
from tfrecords.sources.listing import SPLITS, Listing


def summarize_quality(
    policy: str,
    listing: Listing,
    splits: Sequence[str],
    jobs: Sequence[ShardJob],
    results: Sequence[ShardResult],
    dropped: tuple[tuple[int, ...], ...] = (),
    *,
    target: Target,
    pool: Pool,
) -> tuple[Duplicates, SplitQuality, bytes]:
    """Returns the duplicates, the trust report and the content of duplicates.csv (b"" for none).

    Args:
        policy: of `duplicates.POLICIES`.
        listing: all sources.
        splits: of each source.
        jobs: all shards.
        results: of each shard.
        dropped: sets of which only the first image was planned.
        target: of the records.
        pool: who decodes what may be the same.
    """
    count = len(listing.sources)
    hashes, perceptual_hashes = [""] * count, [0] * count
    heights, widths = [], []
    labels: dict[str, list[list[int]]] = {}
    for job, result in zip(jobs, results, strict=True):
        own = labels.setdefault(job.split, [])
        own.append([])
        found = zip(job.images, result.hashes, result.perceptual_hashes, result.sizes, strict=True)
        for image, content, look, (height, width) in found:
            if content:
                hashes[image.source], perceptual_hashes[image.source] = content, look
                heights.append(height)
                widths.append(width)
                own[-1].append(image.label)
    there = [number for number in range(count) if hashes[number]]
    hashes = confirm_duplicates(listing, hashes, target=target, pool=pool)
    duplicates = find_duplicates(splits, hashes, perceptual_hashes, dropped)
    two_labels, across = crossing(duplicates.exact, listing, splits)
    listed = table(duplicates, listing, splits)
    largest = largest_groups([splits[n] for n in there], [listing.sources[n].group for n in there])
    classes = len(listing.class_names)
    return (
        duplicates,
        SplitQuality(
            duplicates=policy,
            exact_sets=len(duplicates.exact),
            exact_images=sum(map(len, duplicates.exact)),
            sets_across_splits=len(across),
            sets_across_labels=len(two_labels),
            dropped=sum(len(numbers) - 1 for numbers in dropped),
            near_pairs=duplicates.near_count,
            largest_groups={split: largest[split] for split in SPLITS if split in largest},
            shard_shares={split: shard_shares(own, classes) for split, own in labels.items()},
            widths=size_counts(widths),
            heights=size_counts(heights),
            listed_sha256=hashlib.sha256(listed).hexdigest() if listed else "",
        ),
        listed,
    )
