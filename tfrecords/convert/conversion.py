"""The conversion from top to bottom: list the images, split, plan, write shards, write the manifest last."""

import os
import re
import shutil
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from tfrecords.convert.balance import balanced_copies
from tfrecords.convert.changed import SourceFiles, rebind_record, record_notes
from tfrecords.convert.engines import jobs_of, require_all, write_with_beam
from tfrecords.convert.final_files import hashed_group, manifest_of, render_sources, updated_manifest
from tfrecords.convert.findings import notes_on
from tfrecords.convert.locks import conversion_lock, task_lock
from tfrecords.convert.options import ConvertOptions, refuse_nested
from tfrecords.convert.output import join, prepare, remove_progress_files, tasks_of
from tfrecords.convert.plan import plan_content
from tfrecords.convert.quality_summary import summarize_quality
from tfrecords.convert.shards import ImageJob, Rendering, ShardJob, ShardResult, plan_split, write_shards
from tfrecords.convert.value_range import resolve_value_range
from tfrecords.duplicates.before_split import Sets, apply_duplicate_policy
from tfrecords.duplicates.sets import refuse_crossing
from tfrecords.duplicates.table import DROPPED, DUPLICATES_NAME
from tfrecords.errors import InputError
from tfrecords.files.atomic import write_atomically
from tfrecords.interop.companions import write_companions
from tfrecords.manifest import SOURCES_NAME, Manifest
from tfrecords.pool import Pool
from tfrecords.positive import chosen_class
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.groups import joined_by
from tfrecords.sources.listing import SPLITS, Listing
from tfrecords.sources.privacy import GroupKey, load_key
from tfrecords.sources.rejection import REJECTED, REJECTED_NAME, check_rejects, render_rejected
from tfrecords.sources.splits import assign_splits
from tfrecords.sources.tables import read_listing


@dataclass(frozen=True)
class Conversion:
    """The outcome of a conversion.

    Attributes:
        manifest: of the data set.
        was_complete: whether all shards were there before.
        seconds: how long it took.
        notes: sentences for the user.
    """

    manifest: Manifest
    was_complete: bool
    seconds: float
    notes: tuple[str, ...] = ()


def convert_images(options: ConvertOptions) -> Conversion:
    """Converts an image folder; the same call again continues, or finds that all is done.

    Raises:
        InputError: images, options or the output folder cannot be used. Nothing that existed before is
            harmed, and the same call again keeps finished shards.
    """
    started = time.monotonic()
    with _pool(options) as pool:
        planned = _list_and_plan(options, pool)
        with conversion_lock(options.out):
            return _convert(*planned, pool, started)


def convert_task(options: ConvertOptions) -> int:
    """Writes the shards of one task, `options.engine.task`; the same call again writes the missing ones.

    Returns:
        how many shards belong to the task.

    Raises:
        InputError: as `convert_images`.
    """
    task = options.engine.task
    if task is None:
        raise InputError("--task: is missing; must be I/N with I from 0 to N - 1, as 0/8 to 7/8")
    with _pool(options) as pool:
        options, listing, _, _, jobs, plan = _list_and_plan(options, pool)
        own = jobs_of(task, jobs)
        with task_lock(options.out, *task):
            if not join(options.out, plan, own, _source_files(options, listing, plan), task):
                _check_room(options, own)
                _write(options, listing, own, pool)
    return len(own)


def sources_of(options: ConvertOptions) -> SourceFiles:
    """Returns the source files of a conversion and its plan; writes nothing."""
    with _pool(options) as pool:
        options, listing, *_, plan = _list_and_plan(options, pool)
        return _source_files(options, listing, plan)


def _source_files(options: ConvertOptions, listing: Listing, plan: dict[str, Any]) -> SourceFiles:
    key = load_key(options.group_key_file) if options.group_key_file else None
    return SourceFiles(listing, plan, key, options.check_sources)


def _pool(options: ConvertOptions) -> Pool:
    return Pool(options.workers or len(os.sched_getaffinity(0)))


def _list_and_plan(
    options: ConvertOptions, pool: Pool
) -> tuple[ConvertOptions, Listing, tuple[str, ...], Sets, list[ShardJob], dict[str, Any]]:
    """Returns the options, `auto` resolved, and listing, splits, dropped images, shard jobs and plan."""
    refuse_nested(options.images, options.out, listed=options.listing is not None)
    key = load_key(options.group_key_file) if options.group_key_file else None
    listing = _listing(options, key, pool)
    chosen_class(listing.class_names, options.positive)  # an unknown class is an error before any work
    options = replace(options, value_range=resolve_value_range(options.value_range, listing, pool))
    target = _rendering(options).target
    policy = options.duplicates
    listing, identical, dropped = apply_duplicate_policy(policy, listing, target=target, pool=pool)
    splits = _splits(options, listing, dropped)
    if policy == "refuse":
        refuse_crossing(identical, listing, splits)
    return options, listing, splits, dropped, *plan_images(options, listing, splits)


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
        plan = plan | {"tasks": tasks}  # so that a second --finish knows them too
    sources = _source_files(options, listing, plan)
    if prepare(options.out, plan, jobs, sources, overwrite=options.overwrite):
        manifest = Manifest.load(options.out)
        check_rejects(listing.root, manifest.rejected, limit)
        _refuse_kept_duplicates(options, manifest)
        updated, notes = updated_manifest(manifest, options.positive)
        if updated != manifest:
            rebind_record(options.out, manifest, updated)
            updated.save(options.out)
        write_companions(options.out, updated, index=options.dali_index)
        notes = (*listing.notes, *notes, *record_notes(options.out, updated))
        return Conversion(updated, True, time.monotonic() - started, notes)
    if options.engine.finish:
        require_all(options.out, jobs, tasks)
    _check_room(options, jobs)
    results = _write(options, listing, jobs, pool)
    rejected = sorted([*listing.rejected, *(pair for result in results for pair in result.rejected)])
    facts = (row for result in results for row in result.findings.facts)
    sources_csv = render_sources(listing, splits, rejected, options.seed, facts)
    shards = [result.shard for result in results]
    manifest = manifest_of(
        options, _name(options), listing, jobs, shards, sources_csv, rejected, plan["plan"]
    )
    duplicates, quality, duplicates_csv = summarize_quality(
        options.duplicates,
        listing,
        splits,
        jobs,
        results,
        dropped,
        target=_rendering(options).target,
        pool=pool,
    )
    if duplicates_csv:
        write_atomically(options.out / DUPLICATES_NAME, duplicates_csv)
    else:
        (options.out / DUPLICATES_NAME).unlink(missing_ok=True)
    if options.duplicates == "refuse":
        refuse_crossing(duplicates.exact, listing, splits, written=options.out / DUPLICATES_NAME)
    manifest = replace(manifest, split_quality=quality)
    write_atomically(options.out / SOURCES_NAME, sources_csv)
    if rejected:
        write_atomically(options.out / REJECTED_NAME, render_rejected(manifest.rejected))
    else:  # one may be left from before images were repaired
        (options.out / REJECTED_NAME).unlink(missing_ok=True)
    write_companions(options.out, manifest, index=options.dali_index)
    sources.keep(options.out, manifest, jobs, results)
    manifest.save(options.out)
    remove_progress_files(options.out)
    notes = notes_on((result.findings for result in results), listing, manifest)
    return Conversion(manifest, False, time.monotonic() - started, (*listing.notes, *notes))


def _refuse_kept_duplicates(options: ConvertOptions, manifest: Manifest) -> None:
    """Raises InputError if a finished conversion kept duplicates that the options refuse."""
    quality = manifest.split_quality
    across = quality.duplicate_sets_across_splits or quality.duplicate_sets_across_labels
    if options.duplicates == "refuse" and across:
        raise InputError(
            f"--out={options.out}: holds this conversion with --duplicates={quality.duplicate_policy}, and "
            f"its {DUPLICATES_NAME} lists images that are the same in two splits or with two labels; give "
            f"--duplicates={quality.duplicate_policy} to keep it so, or --duplicates=drop --overwrite"
        )


def _write(options: ConvertOptions, listing: Listing, jobs: list[ShardJob], pool: Pool) -> list[ShardResult]:
    """Writes the missing shards and returns the results of all shards."""
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
    is_terminal = sys.stderr.isatty()
    with tqdm(
        total=sum(job.records for job in jobs),
        unit=" records",
        desc="converting",
        mininterval=0.1 if is_terminal else 10,  # seconds; fewer lines in a log file
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
    return Rendering(
        (*options.size, options.channels),
        options.encoding,
        options.augmentation,
        options.seed,
        options.resize,
        options.value_range,
    )


def _listing(options: ConvertOptions, key: GroupKey | None, pool: Pool) -> Listing:
    if options.listing is None:
        how = (options.group_regex, options.max_rejects, key, pool)
        return list_images(options.images, *how, subfolders=options.subfolders, classes=options.classes)
    return read_listing(
        options.listing,
        options.images,
        group_regex=options.group_regex,
        allow_columns=options.allow_columns,
        columns=options.columns,
        max_rejects=options.max_rejects,
        key=key,
        pool=pool,
        classes=options.classes,
    )


def _splits(options: ConvertOptions, listing: Listing, dropped: Sets) -> tuple[str, ...]:
    """Returns the split of each source; `REJECTED` or `DROPPED` if it is left out."""
    left_out = {number: REJECTED for number, _ in listing.rejected}
    left_out |= {number: DROPPED for numbers in dropped for number in numbers[1:]}
    kept = [number for number in range(len(listing.sources)) if number not in left_out]
    splits = [left_out.get(number, "") for number in range(len(listing.sources))]
    for number, split in zip(
        kept,
        assign_splits(
            replace(listing, sources=tuple(listing.sources[number] for number in kept), rejected=()),
            val_fraction=options.val_fraction,
            test_fraction=options.test_fraction,
            seed=options.seed,
            joined_by=joined_by(options.group_regex, options.listing, options.group_key_file),
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
            group = hashed_group(source, options.seed)
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


def _check_room(options: ConvertOptions, jobs: list[ShardJob]) -> None:
    """Raises InputError if raw shards do not fit on the disk; the size of others is not known yet."""
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
