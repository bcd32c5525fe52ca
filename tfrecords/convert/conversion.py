"""The one-time conversion, top to bottom: list, split, plan, write shards, seal with the manifest."""

import csv
import hashlib
import io
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from tfrecords.convert.assessment import assess
from tfrecords.convert.balance import balanced_copies
from tfrecords.convert.changed import SourceFiles, notes_on
from tfrecords.convert.engines import jobs_of, require_all, write_with_beam
from tfrecords.convert.options import ConvertOptions
from tfrecords.convert.output import join, locked, prepare, remove_journal, task_locked, tasks_of
from tfrecords.convert.plan import plan_content, versions
from tfrecords.convert.shards import ImageJob, Rendering, ShardJob, ShardResult, plan_split, write_shards
from tfrecords.duplicates.before_split import Sets, settle
from tfrecords.duplicates.sets import refuse_crossing
from tfrecords.duplicates.table import DROPPED, DUPLICATES_NAME
from tfrecords.errors import InputError
from tfrecords.files import write_atomically
from tfrecords.interop.companions import write_companions
from tfrecords.manifest import SOURCES_NAME, Manifest, Shard, Split
from tfrecords.pool import Pool
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.listing import SPLITS, Listing, Source
from tfrecords.sources.privacy import GroupKey, load_key
from tfrecords.sources.rejection import REJECTED, REJECTED_NAME, check_rejects, render_rejected
from tfrecords.sources.splits import assign_splits
from tfrecords.sources.tables import read_listing


@dataclass(frozen=True)
class Conversion:
    """What a conversion did: the manifest, whether it was complete before, its seconds, and notes on it."""

    manifest: Manifest
    was_complete: bool
    seconds: float
    notes: tuple[str, ...] = ()


def convert_images(options: ConvertOptions) -> Conversion:
    """Converts an image folder; the same call again resumes, or finds all done.

    Raises:
        InputError: images, options or the output folder cannot be used. Nothing that was there
            before is harmed; shards that are whole are kept for the same call again.
    """
    started = time.monotonic()
    with _pool(options) as pool:
        planned = _listed_and_planned(options, pool)
        with locked(options.out):
            return _convert(options, *planned, pool, started)


def convert_task(options: ConvertOptions) -> int:
    """Writes the shards of one task, `options.engine.task`; the same call again writes those that miss.

    Returns:
        How many shards are its own.

    Raises:
        InputError: as `convert_images`.
    """
    task = options.engine.task
    if task is None:
        raise InputError("--task: is missing; must be I/N with I from 0 to N - 1, as 0/8 to 7/8")
    with _pool(options) as pool:
        listing, _, _, jobs, plan = _listed_and_planned(options, pool)
        own = jobs_of(task, jobs)
        with task_locked(options.out, *task):
            if not join(options.out, plan, own, _source_files(options, listing, plan), task):
                _check_room(options, own)
                _write(options, listing, own, pool)
    return len(own)


def sources_of(options: ConvertOptions) -> SourceFiles:
    """Returns the sources of a conversion, with its plan; writes nothing."""
    with _pool(options) as pool:
        listing, *_, plan = _listed_and_planned(options, pool)
        return _source_files(options, listing, plan)


def _source_files(options: ConvertOptions, listing: Listing, plan: dict[str, Any]) -> SourceFiles:
    key = load_key(options.group_key_file) if options.group_key_file else None
    return SourceFiles(listing, plan, key, options.check_sources)


def _pool(options: ConvertOptions) -> Pool:
    return Pool(options.workers or len(os.sched_getaffinity(0)))


def _listed_and_planned(
    options: ConvertOptions, pool: Pool
) -> tuple[Listing, tuple[str, ...], Sets, list[ShardJob], dict[str, Any]]:
    key = load_key(options.group_key_file) if options.group_key_file else None
    listing = _listing(options, key, pool)
    shape = _rendering(options).shape
    listing, same, dropped = settle(options.duplicates, listing, shape=shape, pool=pool)
    splits = _splits(options, listing, dropped)
    if options.duplicates == "refuse":
        refuse_crossing(same, listing, splits)
    return listing, splits, dropped, *plan_images(options, listing, splits)


def _convert(
    options: ConvertOptions,
    listing: Listing,
    splits: tuple[str, ...],
    dropped: Sets,
    jobs: list[ShardJob],
    plan: dict[str, Any],
    pool: Pool,
    started: float,
) -> Conversion:
    limit = options.max_rejects.of(len(listing.sources))
    tasks = tasks_of(options.out) if options.engine.finish else None
    if tasks is not None:
        plan = plan | {"tasks": tasks}  # for the next --finish, should one come
    sources = _source_files(options, listing, plan)
    if prepare(options.out, plan, jobs, sources, overwrite=options.overwrite):
        manifest = Manifest.load(options.out)
        check_rejects(listing.root, manifest.rejected, limit)
        _refuse_kept(options, manifest)
        write_companions(options.out, manifest, index=options.dali_index)
        notes = (*listing.notes, *notes_on(options.out, manifest))
        return Conversion(manifest, True, time.monotonic() - started, notes)
    if options.engine.finish:
        require_all(options.out, jobs, tasks)
    _check_room(options, jobs)
    results = _write(options, listing, jobs, pool)
    rejected = sorted([*listing.rejected, *(pair for result in results for pair in result.rejected)])
    sources_csv = _sources_csv(options, listing, splits, rejected)
    shards = [result.shard for result in results]
    manifest = _manifest(options, listing, jobs, shards, sources_csv, rejected, plan["plan"])
    found, trust, listed = assess(
        options.duplicates,
        listing,
        splits,
        jobs,
        results,
        dropped,
        shape=_rendering(options).shape,
        pool=pool,
    )
    if listed:
        write_atomically(options.out / DUPLICATES_NAME, listed)
    else:
        (options.out / DUPLICATES_NAME).unlink(missing_ok=True)
    if options.duplicates == "refuse":
        refuse_crossing(found.exact, listing, splits, written=options.out / DUPLICATES_NAME)
    manifest = replace(manifest, trust=trust)
    write_atomically(options.out / SOURCES_NAME, sources_csv)
    if rejected:
        write_atomically(options.out / REJECTED_NAME, render_rejected(manifest.rejected))
    else:  # one may be left of images that were repaired since
        (options.out / REJECTED_NAME).unlink(missing_ok=True)
    write_companions(options.out, manifest, index=options.dali_index)
    sources.keep(options.out, manifest, jobs, results)
    manifest.save(options.out)
    remove_journal(options.out)
    return Conversion(manifest, False, time.monotonic() - started, listing.notes)


def _refuse_kept(options: ConvertOptions, manifest: Manifest) -> None:
    """Raises InputError if a finished conversion kept what the options refuse."""
    trust = manifest.trust
    if options.duplicates == "refuse" and (trust.sets_across_splits or trust.sets_across_labels):
        raise InputError(
            f"--out={options.out}: holds this conversion with --duplicates={trust.duplicates}, and its "
            f"{DUPLICATES_NAME} lists images that are the same in two splits or with two labels; give "
            f"--duplicates={trust.duplicates} to keep it so, or --duplicates=drop --overwrite"
        )


def _write(options: ConvertOptions, listing: Listing, jobs: list[ShardJob], pool: Pool) -> list[ShardResult]:
    """Writes the shards that are not there yet and returns what was found in each."""
    limit = options.max_rejects.of(len(listing.sources))
    rejected = [(listing.sources[number].shown, reason) for number, reason in listing.rejected]
    if options.engine.name == "beam":
        write_with_beam(
            listing.root.absolute(),
            options.out.absolute(),
            jobs,
            _rendering(options),
            beam_args=options.engine.beam_args,
            max_rejects=limit,
            rejected=rejected,
        )
    quick = sys.stderr.isatty()
    with tqdm(
        total=sum(job.records for job in jobs),
        unit=" records",
        desc="converting",
        mininterval=0.1 if quick else 10,  # a log file gets a line now and then
    ) as bar:
        return write_shards(
            listing.root,
            options.out,
            jobs,
            _rendering(options),
            pool=pool,
            progress=bar.update,
            max_rejects=limit,
            rejected=rejected,
        )


def _name(options: ConvertOptions) -> str:
    name = options.name or options.images.resolve().name
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_").lower() or "images"


def _rendering(options: ConvertOptions) -> Rendering:
    return Rendering((*options.size, options.channels), options.encoding, options.augmentation, options.seed)


def _listing(options: ConvertOptions, key: GroupKey | None, pool: Pool) -> Listing:
    if options.listing is None:
        return list_images(options.images, options.group_regex, options.max_rejects, key, pool)
    return read_listing(
        options.listing,
        options.images,
        group_regex=options.group_regex,
        allow_columns=options.allow_columns,
        max_rejects=options.max_rejects,
        key=key,
        pool=pool,
    )


def _splits(options: ConvertOptions, listing: Listing, dropped: Sets) -> tuple[str, ...]:
    """Returns the split of each source; `REJECTED` where its header says so, `DROPPED` after a first."""
    out = {number: REJECTED for number, _ in listing.rejected}
    out |= {number: DROPPED for numbers in dropped for number in numbers[1:]}
    live = [number for number in range(len(listing.sources)) if number not in out]
    splits = [out.get(number, "") for number in range(len(listing.sources))]
    for number, split in zip(
        live,
        assign_splits(
            replace(listing, sources=tuple(listing.sources[number] for number in live), rejected=()),
            val_fraction=options.val_fraction,
            test_fraction=options.test_fraction,
            seed=options.seed,
        ),
        strict=True,
    ):
        splits[number] = split
    return tuple(splits)


def plan_images(
    options: ConvertOptions, listing: Listing, splits: tuple[str, ...]
) -> tuple[list[ShardJob], dict[str, Any]]:
    """Returns the shard jobs of all splits and the content of plan.json."""
    jobs = _plan(options, listing, splits)
    return jobs, plan_content(_rendering(options), listing, jobs)


def _plan(options: ConvertOptions, listing: Listing, splits: tuple[str, ...]) -> list[ShardJob]:
    """Returns the shard jobs of all splits."""
    images: dict[str, list[ImageJob]] = {name: [] for name in SPLITS}
    for number, (source, split) in enumerate(zip(listing.sources, splits, strict=True)):
        if split in images:
            group = _hashed(source, options.seed)
            images[split].append(
                ImageJob(source.path, source.id, source.label, number, group, source.position)
            )
    counts = np.bincount([image.label for image in images["train"]], minlength=len(listing.class_names))
    balanced = balanced_copies(counts.tolist(), options.copies) if options.balance else ()
    return [
        job
        for split in SPLITS
        if images[split]
        for job in plan_split(
            _name(options),
            split,
            images[split],
            copies=max(balanced, default=options.copies) if split == "train" else 0,
            copies_per_class=balanced if split == "train" else (),
            rendering=_rendering(options),
            shard_size=options.shard_size,
        )
    ]


def _sources_csv(
    options: ConvertOptions,
    listing: Listing,
    splits: tuple[str, ...],
    rejected: Sequence[tuple[int, str]],
) -> bytes:
    """Returns the content of sources.csv.

    All sources have their row and number, so that a number does not depend on what was rejected; the
    split of one that was, by its header or in decoding, is `REJECTED`.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["source", "id", "class", "split", "group"])
    left_out = {number for number, _ in rejected}
    for number, (source, split) in enumerate(zip(listing.sources, splits, strict=True)):
        name = listing.class_names[source.label]
        group = _hashed(source, options.seed)
        table.writerow([number, source.id, name, REJECTED if number in left_out else split, group])
    return text.getvalue().encode()


def _hashed(source: Source, seed: int) -> str:
    if source.position:  # by the user's key, when it was listed
        return source.group
    key = hashlib.blake2b(f"group/{seed}".encode()).digest()
    return hashlib.blake2b(os.fsencode(source.group), key=key, digest_size=8).hexdigest()


def _check_room(options: ConvertOptions, jobs: list[ShardJob]) -> None:
    """Raises InputError when raw shards cannot fit; encoded ones have no size before."""
    if options.encoding != "raw":
        return
    missing = [job for job in jobs if not (options.out / job.name).exists()]
    need = sum(job.records for job in missing) * int(np.prod(_rendering(options).shape))
    free = shutil.disk_usage(options.out).free
    if need > free:
        raise InputError(
            f"--out={options.out}: {need >> 20} MB are needed and {free >> 20} MB are free; make room, "
            f"choose another --out, or a smaller --encoding=png"
        )


def _manifest(
    options: ConvertOptions,
    listing: Listing,
    jobs: list[ShardJob],
    shards: list[Shard],
    sources_csv: bytes,
    rejected: Sequence[tuple[int, str]],
    plan: str,
) -> Manifest:
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
        name=_name(options),
        class_names=listing.class_names,
        image_shape=_rendering(options).shape,
        encoding=options.encoding,
        splits=described,
        copies=jobs[0].copies,  # of train, the first split
        copies_per_class=jobs[0].copies_per_class,
        augmentation=asdict(options.augmentation),
        seed=options.seed,
        sources_sha256=hashlib.sha256(sources_csv).hexdigest(),
        plan=plan,
        rejected=tuple((listing.sources[number].id, reason) for number, reason in rejected),
        versions=versions(listing),
    )


def _refuse_lost_classes(
    options: ConvertOptions, listing: Listing, split: str, images: Sequence[ImageJob], rejected: int
) -> None:
    there = {image.label for image in images}
    if lost := [name for label, name in enumerate(listing.class_names) if label not in there]:
        raise InputError(
            f"--max_rejects={options.max_rejects}: {rejected} images were left out, and split {split!r} has "
            f"none of class {lost[0]!r} any more; repair some of them or add others"
        )
