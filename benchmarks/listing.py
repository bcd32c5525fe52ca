"""Seconds and peak memory of listing, splitting and planning a million images, before one is decoded.

    python benchmarks/listing.py

Makes a tree of tiny PNG files in a temporary folder (hard links: one file for each folder), in classes
and folders of 1,000 below them, and removes it afterwards. `--grouped` makes groups of one image from
each class, else every image is a group of its own. Nothing is dropped from the page cache, so the
files' inodes are in memory as they are right after a download; a cold disk adds its own time.
"""

import os
import platform
import resource
import tempfile
import time
from pathlib import Path

from absl import flags
from PIL import Image

from tfrecords.command import run
from tfrecords.convert.conversion import plan_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.duplicates.before_split import identical_files
from tfrecords.pool import Pool
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.splits import assign_splits
from tfrecords.sources.tables import read_listing

_FILES = flags.DEFINE_integer("files", 1_000_000, "Images in all.", lower_bound=10_000)
_CLASSES = flags.DEFINE_integer("classes", 10, "Class folders.", lower_bound=2)
_CSV = flags.DEFINE_bool("csv", False, "List by a CSV file instead of by folders.")
_GROUPED = flags.DEFINE_bool("grouped", False, "One image of each class makes a group.")
_FOLDER = flags.DEFINE_string("folder", None, "Where the temporary tree is made; default: the system's.")

_PER_FOLDER = 1000


def main(_: list[str]) -> None:
    """Makes the tree, measures and prints the table."""
    with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
        root = Path(folder) / "images"
        _make(root)
        listing = Path(folder) / "list.csv" if _CSV.value else None
        if listing:
            with listing.open("w") as file:
                file.write("path,label\n")
                for path in sorted(root.rglob("*.png")):
                    below = path.relative_to(root)
                    file.write(f"{below},{below.parts[0]}\n")
        print(_measure(root, listing, Path(folder) / "data"))


def _make(root: Path) -> None:
    for label in range(_CLASSES.value):
        left = _FILES.value // _CLASSES.value
        for part in range(-(-left // _PER_FOLDER)):
            # Of another name below each class: folders of the same name are refused.
            folder = root / f"class{label:04d}" / f"class{label:04d}part{part:04d}"
            folder.mkdir(parents=True)
            first = folder / "image0000.png"
            Image.new("L", (1, 1), label % 256).save(first)
            for number in range(1, min(_PER_FOLDER, left - part * _PER_FOLDER)):
                os.link(first, folder / f"image{number:04d}.png")


def _measure(root: Path, file: Path | None, out: Path) -> str:
    group_regex = r"part\d+/image\d+" if _GROUPED.value else None
    options = ConvertOptions(root, out, size=(32, 32), group_regex=group_regex, listing=file)
    rows = [("before", 0.0, 0.0, _peak())]

    def row(name: str, started: float, busy: float) -> None:
        rows.append((name, time.monotonic() - started, time.process_time() - busy, _peak()))

    all_started, all_busy = started, busy = time.monotonic(), time.process_time()
    with Pool(len(os.sched_getaffinity(0))) as pool:
        if file:
            listing = read_listing(file, root, group_regex=group_regex, pool=pool)
        else:
            listing = list_images(root, group_regex, pool=pool)
        row("listing", started, busy)
        started, busy = time.monotonic(), time.process_time()
        same = identical_files(listing, pool)  # all have the same size here: each is read
    row("comparing", started, busy)
    started, busy = time.monotonic(), time.process_time()
    splits = assign_splits(
        listing,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        seed=options.seed,
    )
    row("splitting", started, busy)
    started, busy = time.monotonic(), time.process_time()
    jobs, _ = plan_images(options, listing, splits)
    row("planning", started, busy)
    row("in all", all_started, all_busy)
    groups = len({source.group for source in listing.sources})
    head = (
        f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; "
        f"files in the page cache; one run\n"
        f"{len(listing.sources):,} images, {len(listing.class_names):,} classes, {groups:,} groups, "
        f"{len(jobs):,} shards planned, {len(same):,} sets of files with the same bytes"
    )
    table = [f"{'phase':10}{'seconds':>10}{'own CPU s':>10}{'peak MB so far':>18}"]
    table += [f"{name:10}{wall:10.1f}{cpu:10.1f}{peak:18,.0f}" for name, wall, cpu, peak in rows]
    return "\n".join([head, *table])


def _peak() -> float:
    """Returns the most memory that this process has had resident, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    run(main)
