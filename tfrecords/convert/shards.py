"""Shards: planned first, then each written whole by one process, in any order.

A shard is the unit of work. All records of an image, the original and its copies, are in one
shard, so the image is read and decoded once and a shard's bytes follow from the plan alone.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.augment import Augmentation, apply_transform, draw_transform
from tfrecords.convert.encoding import encode_image
from tfrecords.convert.findings import Findings
from tfrecords.duplicates.perceptual import perceptual_hash
from tfrecords.errors import InputError
from tfrecords.example import Record, encode
from tfrecords.files import file_sha256, publish, replace_atomically
from tfrecords.images.decode import decode_fingerprinted
from tfrecords.images.kinds import DecodeError
from tfrecords.images.planes import Target
from tfrecords.manifest import Shard
from tfrecords.pool import Count, Pool, nothing
from tfrecords.progress import tell_launcher
from tfrecords.records import frame
from tfrecords.sources.rejection import check_rejects

# Bytes of an encoded image as a share of its raw bytes, to plan the number of shards; measured on
# chest X-rays at 180x180. A wrong guess makes shards larger or smaller, never wrong.
_ENCODED_SHARE: Final = {"raw": 1.0, "png": 0.6, "jpeg": 0.2}
_SHARD_SIZE: Final = 64 << 20  # bytes, where no size is given
_LEAST_SHARDS: Final = 16  # of a split that has so many times `_LEAST_IMAGES`
_LEAST_IMAGES: Final = 50
RESULT_SUFFIX: Final = ".result.json"  # of the file beside a shard that holds its ShardResult
DIGEST_BYTES: Final = 16  # of a file's digest


@dataclass(frozen=True)
class ImageJob:
    """One source as a worker needs it; `group` is hashed already."""

    path: str
    id: str
    label: int
    source: int
    group: str
    position: str = ""  # what errors call it where its path may hold a name


@dataclass(frozen=True)
class Rendering:
    """What is done to every image: shape (height, width, channels), encoding, copies' strengths.

    `resize` and `value_range` are those of `Target`; fields that came later have defaults, see `to_json`.
    """

    shape: tuple[int, int, int]
    encoding: str
    augmentation: Augmentation
    seed: int
    resize: str = "stretch"
    value_range: str = "full"

    @property
    def target(self) -> Target:
        """What images are decoded to."""
        return Target(*self.shape, self.resize, self.value_range)

    def to_json(self) -> dict[str, Any]:
        """Returns what a plan's fingerprint is of: plans from before a field was there stay as they are."""
        later = {"resize": "stretch", "value_range": "full"}
        content = asdict(self) | {"augmentation": self.augmentation.to_json()}
        return {name: value for name, value in content.items() if later.get(name) != value}


@dataclass(frozen=True)
class ShardJob:
    """One shard: its images in order, and how many copies of each, or of each by its label."""

    name: str
    split: str
    images: tuple[ImageJob, ...]
    copies: int
    copies_per_class: tuple[int, ...] = ()

    def copies_of(self, label: int) -> int:
        """Returns how many copies each image of a class has."""
        return self.copies_per_class[label] if self.copies_per_class else self.copies

    @property
    def records(self) -> int:
        """Records in the shard."""
        return sum(1 + self.copies_of(image.label) for image in self.images)


@dataclass(frozen=True)
class ShardResult:
    """What the work on one shard found.

    It is kept beside the shard until the manifest is sealed, so that a conversion that goes on knows
    what one that was killed had found.

    Attributes:
        shard: as it was written.
        rejected: (source, reason) of each image left out, in the job's order.
        hashes: of each image in the job's order, `Decoded.fingerprint`; "" for one left out.
        perceptual_hashes: of each likewise, `perceptual_hash` of its resized pixels; 0 for one left out.
        sizes: of each likewise, `Decoded.size`; (0, 0) for one left out.
        findings: what else was seen of them; nothing, where a version before it was there wrote the result.
        digests: of each likewise, `file_digest` of what was read, in hex; of one left out too.
    """

    shard: Shard
    rejected: tuple[tuple[int, str], ...]
    hashes: tuple[str, ...]
    perceptual_hashes: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    findings: Findings = field(default_factory=Findings)
    digests: tuple[str, ...] = ()


def plan_split(
    name: str,
    split: str,
    images: Sequence[ImageJob],
    *,
    copies: int,
    rendering: Rendering,
    shard_size: int,
    copies_per_class: tuple[int, ...] = (),
) -> tuple[ShardJob, ...]:
    """Deals the images of a split over shards, in a seeded order.

    A shard is also a process's piece of work, so with `shard_size` 0 they are of about 64 MB and at least
    16, as long as each has 50 images.
    """
    share = _ENCODED_SHARE[rendering.encoding]
    records = ShardJob(name, split, tuple(images), copies, copies_per_class).records
    total = records * int(np.prod(rendering.shape)) * share
    count = round(total / (shard_size or _SHARD_SIZE))
    if not shard_size:
        count = max(count, min(_LEAST_SHARDS, len(images) // _LEAST_IMAGES))
    count = min(max(1, count), len(images))
    order = np.argsort(_keys(rendering.seed, [image.id for image in images]))
    return tuple(
        ShardJob(
            f"{name}-{split}.tfrecord-{index:05d}-of-{count:05d}",
            split,
            tuple(images[int(i)] for i in part),
            copies,
            copies_per_class,
        )
        for index, part in enumerate(np.array_split(order, count))
    )


def write_shards(
    root: Path,
    out: Path,
    jobs: Sequence[ShardJob],
    rendering: Rendering,
    *,
    pool: Pool,
    progress: Count = nothing,
    max_rejects: int = 0,
    rejected: Sequence[tuple[str, str]] = (),
) -> list[ShardResult]:
    """Writes the shards that are not there yet and returns what was found in all of them, in order.

    Args:
        root: folder of the source images.
        out: folder of the shards; one that is there with its result beside it, and with the size and
            SHA-256 that the result gives, is kept.
        jobs: the plan.
        rendering: what is done to each image.
        pool: who writes.
        progress: called with the number of records done since its last call.
        max_rejects: how many images may be left out because they cannot be decoded.
        rejected: (path, reason) of those left out before; they count.

    Raises:
        InputError: more images cannot be decoded than may be left out, or a shard cannot be written.
    """
    left_out, paths = list(rejected), {i.source: i.position or i.path for job in jobs for i in job.images}

    there = {job.name for job in jobs if (out / (job.name + RESULT_SUFFIX)).exists()}

    def take(result: ShardResult | _Refused) -> None:
        left_out.extend((paths[source], reason) for source, reason in result.rejected)
        check_rejects(root, sorted(left_out), max_rejects)
        if isinstance(result, ShardResult):
            there.add(result.shard.name)
            tell_launcher(f"{len(there)} of {len(jobs)} shards")

    check_rejects(root, left_out, max_rejects)
    writer = partial(_Writer, root, out, rendering, max_rejects - len(rejected))
    results = pool.run(writer, jobs, progress=progress, take=take)
    return [result for result in results if isinstance(result, ShardResult)]  # all: take() raised for others


def file_digest(data: bytes) -> bytes:
    """Returns the BLAKE2b-128 of a file's bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _keys(seed: int, ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(f"{seed}/order/{i}".encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(digests, "<u8")


def finished(out: Path, job: ShardJob) -> ShardResult | None:
    """Returns the result of a shard that is done, or None: both files are there and they agree."""
    path = out / job.name
    try:
        values = json.loads((out / (job.name + RESULT_SUFFIX)).read_bytes())
        result = ShardResult(
            Shard(**values["shard"]),
            tuple((int(source), str(reason)) for source, reason in values["rejected"]),
            tuple(values["hashes"]),
            tuple(values["perceptual_hashes"]),
            tuple((height, width) for height, width in values["sizes"]),
            Findings.from_json(values["findings"]) if "findings" in values else Findings(),
            tuple(values["digests"]),
        )
        size = path.stat().st_size
    except (OSError, ValueError, TypeError, KeyError):
        return None
    of_this_job = result.shard.name == job.name and len(result.digests) == len(job.images)
    if not of_this_job or size != result.shard.bytes or file_sha256(path) != result.shard.sha256:
        return None
    return result


class _TooManyRejectedError(Exception):
    """One shard alone has more images that cannot be decoded than may be left out."""


@dataclass(frozen=True)
class _Refused:
    """A shard that was not written, and the images that it was not written for: more than may be left out."""

    rejected: tuple[tuple[int, str], ...]


@dataclass
class _Seen:
    """What a ShardResult tells of images, as they are decoded."""

    rejected: list[tuple[int, str]] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    perceptual_hashes: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    digests: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Writer:
    """Writes shards, see `write_shards`, in a process of the pool."""

    root: Path
    out: Path
    rendering: Rendering
    max_rejects: int

    def __call__(self, job: ShardJob, count: Count) -> ShardResult | _Refused:
        """Writes one shard, or finds that it is done, and counts each planned record."""
        result = finished(self.out, job)
        if result is not None:
            count(job.records)
            return result
        seen = _Seen()
        path = self.out / job.name
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            shard = self._write(job, temporary, seen, count)
            result = ShardResult(
                shard,
                tuple(seen.rejected),
                tuple(seen.hashes),
                tuple(seen.perceptual_hashes),
                tuple(seen.sizes),
                seen.findings,
                tuple(seen.digests),
            )
            # First the result: a shard that has its final name has it too.
            replace_atomically(path.with_name(path.name + RESULT_SUFFIX), json.dumps(asdict(result)).encode())
            publish(temporary, path)
        except _TooManyRejectedError:
            return _Refused(tuple(seen.rejected))
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written: {error.strerror}; make room or choose another --out, then "
                f"the same command again keeps the shards that are whole"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
        return result

    def _write(self, job: ShardJob, path: Path, seen: _Seen, count: Count) -> Shard:
        digest, records, size = hashlib.sha256(), 0, 0
        with path.open("wb") as file:
            for record in self._records(job, seen):
                data = frame(encode(record))
                digest.update(data)
                file.write(data)
                records += 1
                size += len(data)
                count(1)
        count(job.records - records)
        return Shard(job.name, records, size, digest.hexdigest())

    def _records(self, job: ShardJob, seen: _Seen) -> Iterator[Record]:
        """Yields the shard's records in rounds: every image once a round, as original or as a copy.

        Which of its variants an image shows in a round is drawn, so that each round has both kinds,
        and two variants of one image are as far apart as the shard has images. An image with fewer
        copies than others is in fewer rounds, evenly apart. The first round decodes, and fills `seen`.
        """
        rendering = self.rendering
        variants = 1 + max(map(job.copies_of, {image.label for image in job.images}))
        keys = _keys(rendering.seed, [image.id for image in job.images])
        first = (keys % np.uint64(variants)).tolist()
        images: list[npt.NDArray[np.uint8] | None] = []
        for turn in range(variants):
            for position, image in enumerate(job.images):
                if turn == 0:
                    images.append(self._decoded(image, seen))
                pixels = images[position]
                if variants == 1:
                    images[position] = None  # shown once: not kept
                own = 1 + job.copies_of(image.label)
                copy, late = divmod((turn + first[position]) % variants * own, variants)
                if pixels is None or late >= own:  # late: shown in an earlier round, and not yet the next
                    continue
                if copy:
                    pixels = _copied(pixels, image, copy, rendering)
                yield Record(
                    image=encode_image(pixels, rendering.encoding),
                    label=image.label,
                    id=image.id.encode(),
                    source=image.source,
                    copy=copy,
                    group=image.group.encode(),
                )

    def _decoded(self, image: ImageJob, seen: _Seen) -> npt.NDArray[np.uint8] | None:
        """Returns the pixels, resized, or None for an image that is left out; tells `seen` of it."""
        target = self.rendering.target
        try:
            with open(f"{self.root}/{image.path}", "rb") as file:  # noqa: PTH123 - a Path takes as long
                data = file.read()
        except OSError as error:
            raise InputError(
                f"{self.root / (image.position or image.path)}: cannot be read: {error.strerror}; it was "
                f"there when the folder was listed"
            ) from None
        seen.digests.append(file_digest(data).hex())
        try:
            look = target.channels == 1 and seen.findings.detect_colour
            found = decode_fingerprinted(data, **vars(target), detect_colour=look)
        except DecodeError as error:
            seen.rejected.append((image.source, str(error)))
            if len(seen.rejected) > self.max_rejects:
                raise _TooManyRejectedError from None
            seen.hashes.append("")
            seen.perceptual_hashes.append(0)
            seen.sizes.append((0, 0))
            return None
        seen.hashes.append(found.fingerprint)
        seen.perceptual_hashes.append(perceptual_hash(found.pixels))
        seen.sizes.append(found.size)
        seen.findings.add(image.source, found, target.value_range)
        return found.pixels


def _copied(
    pixels: npt.NDArray[np.uint8], image: ImageJob, copy: int, rendering: Rendering
) -> npt.NDArray[np.uint8]:
    height, width, _ = rendering.shape
    transform = draw_transform(
        rendering.augmentation,
        seed=rendering.seed,
        record_id=image.id,
        copy=copy,
        height=height,
        width=width,
    )
    return apply_transform(pixels, transform, rendering.augmentation.fill)
