"""Data sets of as many records as are wanted, from a few images that are repeated under new ids.

The shards are planned, framed and hashed by the converter's own code, with a manifest and sources.csv that
`python -m tfrecords.verify` passes. Only the images are not read from files: a million of those would be
slower to write than all that is measured.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from tfrecords.augment import Augmentation
from tfrecords.convert.shards import ImageJob, Rendering, ShardJob, plan_split
from tfrecords.example import Record, decode, encode
from tfrecords.interop.companions import write_companions
from tfrecords.manifest import MANIFEST_NAME, SOURCES_NAME, Manifest, Shard, Split
from tfrecords.records import frame, read_records

_NAME = "scale"
_CLASSES = ("a", "b")

Image = tuple[bytes, int]  # as it is stored, label


def noise(count: int, shape: tuple[int, int, int]) -> list[Image]:
    """Returns raw images of random pixels."""
    random = np.random.default_rng(0)
    return [(random.bytes(int(np.prod(shape))), number % len(_CLASSES)) for number in range(count)]


def images_of(data: Path) -> list[Image]:
    """Returns the train images of a data set, all of them in memory."""
    shards = Manifest.load(data).split("train").shards
    records = chain.from_iterable(read_records(data / shard.name) for shard in shards)
    return [(record.image, record.label) for record in map(decode, records)]


def generate(
    out: Path, images: Sequence[Image], count: int, shape: tuple[int, int, int], encoding: str
) -> None:
    """Writes a data set of `count` train records in the folder `out`, which is whole once it is there.

    Args:
        out: nothing is done if it holds a data set.
        images: repeated, or cut off.
        count: records.
        shape: (height, width, channels) of the images.
        encoding: theirs.
    """
    if (out / MANIFEST_NAME).exists():
        Manifest.load(out)
        return
    jobs = [
        ImageJob("", f"image{number:07d}", images[number % len(images)][1], number, f"{number:016x}")
        for number in range(count)
    ]
    rendering = Rendering(shape, encoding, Augmentation(), seed=0)
    planned = plan_split(_NAME, "train", jobs, copies=0, rendering=rendering, shard_size=0)
    rows = ["source,id,class,split,group"]
    rows += [f"{job.source},{job.id},{_CLASSES[job.label]},train,{job.group}" for job in jobs]
    sources = "".join(f"{row}\n" for row in rows).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        part = Path(temporary) / out.name
        part.mkdir()
        shards = tuple(_write(part, job, images) for job in planned)
        (part / SOURCES_NAME).write_bytes(sources)
        labels = np.bincount([job.label for job in jobs], minlength=len(_CLASSES))
        manifest = Manifest(
            name=_NAME,
            class_names=_CLASSES,
            image_shape=shape,
            encoding=encoding,
            splits={"train": Split(shards, count, count, count, tuple(labels.tolist()))},
            copies=0,
            augmentation={},
            seed=rendering.seed,
            sources_sha256=hashlib.sha256(sources).hexdigest(),
            plan="",
            rejected=(),
            versions={},
        )
        write_companions(part, manifest, index=False)
        manifest.save(part)
        part.rename(out)


def _write(out: Path, job: ShardJob, images: Sequence[Image]) -> Shard:
    def frames() -> Iterator[bytes]:
        for image in job.images:
            pixels, label = images[image.source % len(images)]
            yield frame(
                encode(Record(pixels, label, image.id.encode(), image.source, 0, image.group.encode()))
            )

    data = b"".join(frames())
    (out / job.name).write_bytes(data)
    return Shard(job.name, len(job.images), len(data), hashlib.sha256(data).hexdigest())
