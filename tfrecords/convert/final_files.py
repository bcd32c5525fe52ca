"""The last files of a conversion: sources.csv and manifest.json, also where it is written anew later."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tfrecords.convert.options import ConvertOptions
from tfrecords.convert.plan import versions
from tfrecords.convert.shards import ImageJob, ShardJob
from tfrecords.convert.source_facts import FACTS
from tfrecords.errors import InputError
from tfrecords.manifest import MANIFEST_NAME, Manifest, Shard, Split
from tfrecords.positive import chosen_class
from tfrecords.sources.listing import SPLITS, Listing, Source
from tfrecords.sources.rejection import REJECTED


def render_sources(
    listing: Listing,
    splits: Sequence[str],
    rejected: Sequence[tuple[int, str]],
    seed: int,
    facts: Iterable[Sequence[object]],
) -> bytes:
    """Returns the content of sources.csv.

    Every source has a row, so that its number does not depend on which sources were rejected.

    Args:
        listing: all sources.
        splits: of each source.
        rejected: (number, reason) of each source that was left out; its split is `REJECTED`.
        seed: of the group hashes.
        facts: of each source that was converted its number, then its `FACTS`; the cells of others are empty.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["source", "id", "class", "split", "group", *FACTS])
    left_out = {number for number, _ in rejected}
    known, none = {own[0]: own[1:] for own in facts}, ("",) * len(FACTS)
    for number, (source, split) in enumerate(zip(listing.sources, splits, strict=True)):
        name = listing.class_names[source.label]
        group = hashed_group(source, seed)
        used = REJECTED if number in left_out else split
        table.writerow([number, source.id, name, used, group, *known.get(number, none)])
    return text.getvalue().encode()


def hashed_group(source: Source, seed: int) -> str:
    """Returns the hash of a source's group, as it is in records and tables."""
    if source.position:  # it was hashed with the user's key when it was listed
        return source.group
    key = hashlib.blake2b(f"group/{seed}".encode()).digest()
    return hashlib.blake2b(os.fsencode(source.group), key=key, digest_size=8).hexdigest()


def manifest_of(
    options: ConvertOptions,
    name: str,
    listing: Listing,
    jobs: list[ShardJob],
    shards: list[Shard],
    sources_csv: bytes,
    rejected: Sequence[tuple[int, str]],
    plan: str,
) -> Manifest:
    """Returns the manifest of a conversion, without `split_quality`.

    Raises:
        InputError: so many images were left out that a split has none of a class.
    """
    described: dict[str, Split] = {}
    left_out = {number for number, _ in rejected}
    for split in [name for name in SPLITS if any(job.split == name for job in jobs)]:
        own = [(job, i) for job in jobs if job.split == split for i in job.images if i.source not in left_out]
        images = [image for _, image in own]
        _refuse_lost_classes(options, listing, split, images, len(rejected))
        labels = [image.label for job, image in own for _ in range(1 + job.copies_of(image.label))]
        described[split] = Split(
            shards=tuple(s for s, job in zip(shards, jobs, strict=True) if job.split == split),
            records=len(labels),
            images=len(images),
            groups=len({image.group for image in images}),
            records_per_class=tuple(np.bincount(labels, minlength=len(listing.class_names)).tolist()),
        )
    return Manifest(
        name=name,
        class_names=listing.class_names,
        image_shape=(*options.size, options.channels),
        encoding=options.encoding,
        splits=described,
        copies=jobs[0].copies,  # of train, the first split
        copies_per_class=jobs[0].copies_per_class,
        augmentation=options.augmentation.to_json(),
        seed=options.seed,
        sources_sha256=hashlib.sha256(sources_csv).hexdigest(),
        plan=plan,
        rejected=tuple((listing.sources[number].id, reason) for number, reason in rejected),
        versions=versions(listing),
        positive=chosen_class(listing.class_names, options.positive),
        resize=options.resize,
        value_range=options.value_range,
    )


def _refuse_lost_classes(
    options: ConvertOptions, listing: Listing, split: str, images: Sequence[ImageJob], rejected: int
) -> None:
    labels = {image.label for image in images}
    if lost := [name for label, name in enumerate(listing.class_names) if label not in labels]:
        raise InputError(
            f"--max_rejects={options.max_rejects}: {rejected} images were left out, and split {split!r} has "
            f"no image of class {lost[0]!r} any more; repair some of them, or add others"
        )


def updated_manifest(manifest: Manifest, positive: str) -> tuple[Manifest, tuple[str, ...]]:
    """Returns the manifest that a finished data set is to have, and notes on why it is written anew.

    Args:
        manifest: the one that is there.
        positive: the positive class that the user asks for; "": no other.

    Raises:
        InputError: there is no such class.
    """
    chosen = chosen_class(manifest.class_names, positive) or manifest.positive
    updated = replace(manifest.in_current_schema(), positive=chosen)
    if manifest.schema == updated.schema:
        return updated, ()
    return updated, (
        f"{MANIFEST_NAME} was written anew: its keys are those of schema {updated.schema} now, before of "
        f"schema {manifest.schema}; plan, shards and all other data stay as they were, and no image was read",
    )
