"""The one-time conversion, top to bottom: list, split, plan, write shards, seal with the manifest."""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from tfrecords.augment import Augmentation
from tfrecords.errors import InputError
from tfrecords.example import SCHEMA_VERSION
from tfrecords.manifest import (
    ENCODINGS,
    SOURCES_NAME,
    Manifest,
    Shard,
    Split,
    write_atomically,
)
from tfrecords.output import PLAN_NAME, locked, prepare
from tfrecords.shards import ImageJob, Rendering, ShardJob, plan_split, write_shards
from tfrecords.sources import SPLITS, Listing, list_images
from tfrecords.splits import assign_splits

_LARGEST_SIDE: Final = 8192
_SMALLEST_SHARD: Final = 1 << 16
_LARGEST_SEED: Final = 2**32 - 1  # scikit-learn's
_UNITS: Final = {"": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


@dataclass(frozen=True)
class ConvertOptions:
    """What to convert, and how.

    Attributes:
        images: the image folder.
        out: folder of the result.
        name: of the data set, for the shard names; "" takes the image folder's name.
        size: (height, width), pixels.
        channels: 1 or 3.
        group_regex: see `list_images`.
        val_fraction: see `assign_splits`.
        test_fraction: see `assign_splits`.
        copies: augmented copies of each train image.
        augmentation: their strengths.
        encoding: "raw", "png" or "jpeg".
        shard_size: bytes, about.
        seed: of splits, order and copies.
        overwrite: replace a conversion of another plan.
        workers: processes; 0 takes one for each core that this process may use.
    """

    images: Path
    out: Path
    name: str = ""
    size: tuple[int, int] = (180, 180)
    channels: int = 1
    group_regex: str | None = None
    val_fraction: float = 0.15
    test_fraction: float | None = None
    copies: int = 1
    augmentation: Augmentation = field(default_factory=Augmentation)
    encoding: str = "raw"
    shard_size: int = 64 << 20
    seed: int = 0
    overwrite: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        if not all(1 <= side <= _LARGEST_SIDE for side in self.size):
            raise InputError(f"--size={self.size}: each side must be from 1 to {_LARGEST_SIDE} pixels")
        if self.channels not in (1, 3):
            raise InputError(f"--channels={self.channels}: must be 1 (grayscale) or 3 (RGB)")
        if self.encoding not in ENCODINGS:
            raise InputError(f"--encoding={self.encoding}: must be one of {', '.join(ENCODINGS)}")
        if self.copies < 0:
            raise InputError(f"--copies={self.copies}: must be 0 or more")
        if self.shard_size < _SMALLEST_SHARD:
            raise InputError(f"--shard_size={self.shard_size} bytes: must be 64KB or more")
        if self.workers < 0:
            raise InputError(f"--workers={self.workers}: must be 0 (one for each core) or more")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise InputError(f"--seed={self.seed}: must be from 0 to {_LARGEST_SEED}")


@dataclass(frozen=True)
class Conversion:
    """What a conversion did: the manifest, whether it was complete before, and its seconds."""

    manifest: Manifest
    was_complete: bool
    seconds: float


def parse_size(text: str) -> tuple[int, int]:
    """Returns (height, width) from `180` or `180x240` (height x width)."""
    if not re.fullmatch(r"\d+(x\d+)?", text):
        raise InputError(f"--size={text}: must be pixels, as 180 or as HEIGHTxWIDTH, 180x240")
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def parse_bytes(text: str) -> int:
    """Returns bytes from `64MB`, `512KB`, `1GB` or plain digits; units are powers of 1,024."""
    match = re.fullmatch(r"(\d+)\s*(KB|MB|GB)?", text.strip(), re.IGNORECASE)
    if not match:
        raise InputError(f"--shard_size={text}: must be a number with KB, MB or GB, as 64MB")
    return int(match[1]) * _UNITS[(match[2] or "").upper()]


def convert_images(options: ConvertOptions) -> Conversion:
    """Converts an image folder; the same call again resumes, or finds all done.

    Raises:
        InputError: images, options or the output folder cannot be used. Nothing that was there
            before is harmed; shards that are whole are kept for the same call again.
    """
    started = time.monotonic()
    listing = list_images(options.images, options.group_regex)
    splits = assign_splits(
        listing,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        seed=options.seed,
    )
    jobs, sources_csv = _plan(options, listing, splits)
    plan = _fingerprint(options, listing, jobs)
    with locked(options.out):
        return _convert(options, listing, splits, jobs, sources_csv, plan, started)


def _convert(
    options: ConvertOptions,
    listing: Listing,
    splits: tuple[str, ...],
    jobs: list[ShardJob],
    sources_csv: bytes,
    plan: dict[str, Any],
    started: float,
) -> Conversion:
    if prepare(options.out, plan, jobs, overwrite=options.overwrite):
        return Conversion(Manifest.load(options.out), True, time.monotonic() - started)
    rendering = _rendering(options)
    _check_room(options, jobs)
    quick = sys.stderr.isatty()
    with tqdm(
        total=sum(job.records for job in jobs),
        unit=" records",
        desc="converting",
        mininterval=0.1 if quick else 10,  # a log file gets a line now and then
    ) as bar:
        shards = write_shards(
            listing.root,
            options.out,
            jobs,
            rendering,
            workers=options.workers or len(os.sched_getaffinity(0)),
            progress=bar.update,
        )
    write_atomically(options.out / SOURCES_NAME, sources_csv)
    manifest = _manifest(options, listing, splits, jobs, shards, sources_csv, plan["plan"])
    manifest.save(options.out)
    (options.out / PLAN_NAME).unlink()
    return Conversion(manifest, False, time.monotonic() - started)


def _name(options: ConvertOptions) -> str:
    name = options.name or options.images.resolve().name
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_").lower() or "images"


def _rendering(options: ConvertOptions) -> Rendering:
    return Rendering((*options.size, options.channels), options.encoding, options.augmentation, options.seed)


def _plan(options: ConvertOptions, listing: Listing, splits: tuple[str, ...]) -> tuple[list[ShardJob], bytes]:
    """Returns the shard jobs of all splits and the content of sources.csv."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["source", "id", "class", "split", "group"])
    images: dict[str, list[ImageJob]] = {name: [] for name in SPLITS}
    for number, (source, split) in enumerate(zip(listing.sources, splits, strict=True)):
        group = _hashed(source.group, options.seed)
        images[split].append(ImageJob(source.path, source.id, source.label, number, group))
        table.writerow([number, source.id, listing.class_names[source.label], split, group])
    jobs = [
        job
        for split in SPLITS
        if images[split]
        for job in plan_split(
            _name(options),
            split,
            images[split],
            copies=options.copies if split == "train" else 0,
            rendering=_rendering(options),
            shard_size=options.shard_size,
        )
    ]
    return jobs, text.getvalue().encode()


def _hashed(group: str, seed: int) -> str:
    key = hashlib.blake2b(f"group/{seed}".encode()).digest()
    return hashlib.blake2b(os.fsencode(group), key=key, digest_size=8).hexdigest()


def _fingerprint(options: ConvertOptions, listing: Listing, jobs: list[ShardJob]) -> dict[str, Any]:
    """Returns the content of plan.json: all that the shards follow from.

    The sizes of the sources are kept apart from the layout, so that an image that was repaired in the
    middle of a conversion costs only its own shard.
    """
    facts = {
        "schema": SCHEMA_VERSION,
        "versions": _versions(),
        "rendering": asdict(_rendering(options)),
        "classes": listing.class_names,
        "jobs": [asdict(job) for job in jobs],
    }
    layout = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    sizes = [source.size for source in listing.sources]
    plan = hashlib.sha256(json.dumps([layout, sizes]).encode()).hexdigest()
    return {"plan": plan, "layout": layout, "sizes": sizes}


def _versions() -> dict[str, str]:
    """Returns the versions of the tools whose output the bytes are."""
    return {name: version(name) for name in ("numpy", "pillow", "scikit-learn")}


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
    splits: tuple[str, ...],
    jobs: list[ShardJob],
    shards: list[Shard],
    sources_csv: bytes,
    plan: str,
) -> Manifest:
    described: dict[str, Split] = {}
    for split in [name for name in SPLITS if name in splits]:
        own = [job for job in jobs if job.split == split]
        images = [image for job in own for image in job.images]
        labels = [image.label for job in own for image in job.images for _ in range(1 + job.copies)]
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
        copies=options.copies,
        augmentation=asdict(options.augmentation),
        seed=options.seed,
        sources_sha256=hashlib.sha256(sources_csv).hexdigest(),
        plan=plan,
        rejected=(),
        versions=_versions(),
    )
