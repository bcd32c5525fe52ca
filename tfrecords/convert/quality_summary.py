"""The quality of the splits, and duplicates.csv, from the results of all shards."""

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
    """Returns the duplicates, the quality of the splits, and the content of duplicates.csv (b"": none).

    Args:
        policy: one of `duplicates.POLICIES`.
        listing: all sources.
        splits: of each source.
        jobs: all shards.
        results: of each shard.
        dropped: sets of equal images of which only the first was converted.
        target: what images are decoded to.
        pool: decodes images that may be equal.
    """
    count = len(listing.sources)
    fingerprints, perceptual_hashes = [""] * count, [0] * count
    heights, widths = [], []
    labels: dict[str, list[list[int]]] = {}
    for job, result in zip(jobs, results, strict=True):
        own = labels.setdefault(job.split, [])
        own.append([])
        images = zip(job.images, result.hashes, result.perceptual_hashes, result.sizes, strict=True)
        for image, fingerprint, perceptual_hash, (height, width) in images:
            if fingerprint:
                fingerprints[image.source] = fingerprint
                perceptual_hashes[image.source] = perceptual_hash
                heights.append(height)
                widths.append(width)
                own[-1].append(image.label)
    converted = [number for number in range(count) if fingerprints[number]]
    hashes = confirm_duplicates(listing, fingerprints, target=target, pool=pool)
    duplicates = find_duplicates(splits, hashes, perceptual_hashes, dropped)
    across_labels, across_splits = crossing(duplicates.exact, listing, splits)
    duplicates_csv = table(duplicates, listing, splits)
    largest = largest_groups([splits[n] for n in converted], [listing.sources[n].group for n in converted])
    classes = len(listing.class_names)
    return (
        duplicates,
        SplitQuality(
            duplicate_policy=policy,
            duplicate_sets=len(duplicates.exact),
            duplicate_images=sum(map(len, duplicates.exact)),
            duplicate_sets_across_splits=len(across_splits),
            duplicate_sets_across_labels=len(across_labels),
            dropped_duplicates=sum(len(numbers) - 1 for numbers in dropped),
            near_duplicate_pairs=duplicates.near_count,
            images_in_largest_group={split: largest[split] for split in SPLITS if split in largest},
            class_shares_of_shards={split: shard_shares(own, classes) for split, own in labels.items()},
            source_widths=size_counts(widths),
            source_heights=size_counts(heights),
            duplicates_sha256=hashlib.sha256(duplicates_csv).hexdigest() if duplicates_csv else "",
        ),
        duplicates_csv,
    )
