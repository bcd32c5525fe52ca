"""Shards: first planned, then written in any order, each by one process.

All records of an image, the original and its copies, are in one shard. So the image is read and decoded once,
and the bytes of a shard follow from the plan alone.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.augment import Augmentation, apply_transform, draw_transform
from tfrecords.convert.findings import Findings
from tfrecords.duplicates.perceptual import perceptual_hash
from tfrecords.encoding import encode_image
from tfrecords.errors import InputError
from tfrecords.example import Record, encode
from tfrecords.files.atomic import file_sha256, publish, replace_atomically, temporary_path
from tfrecords.images.decode import decode_fingerprinted
from tfrecords.images.kinds import DecodeError
from tfrecords.images.planes import Target
from tfrecords.manifest import Shard
from tfrecords.pool import Count, Pool, nothing
from tfrecords.progress import tell_launcher
from tfrecords.records import frame
from tfrecords.sources.rejection import check_rejects

# Bytes of an encoded image as a share of its raw bytes, measured on chest X-rays at 180x180, to plan
# the number of shards; with other images, shards may be larger or smaller than asked for.
_ENCODED_SHARE: Final = {"raw": 1.0, "png": 0.6, "jpeg": 0.2}
_SHARD_SIZE: Final = 64 << 20  # bytes, if no size is given
_LEAST_SHARDS: Final = 16  # of a split, if each has `_LEAST_IMAGES`
_LEAST_IMAGES: Final = 50
RESULT_SUFFIX: Final = ".result.json"  # of the file with a shard's ShardResult
DIGEST_BYTES: Final = 16  # length of a file's digest


@dataclass(frozen=True)
class ImageJob:
    """One source image as a worker needs it; `group` is its hash."""

    path: str
    id: str
    label: int
    source: int
    group: str
    position: str = ""  # replaces the path in errors, if the path may contain a patient's name


@dataclass(frozen=True)
class Rendering:
    """How every image becomes records: shape (height, width, channels), encoding, strengths of the copies.

    `resize` and `value_range` are those of `Target`.
    """

    shape: tuple[int, int, int]
    encoding: str
    augmentation: Augmentation
    seed: int
    resize: str = "stretch"
    value_range: str = "full"

    @property
    def target(self) -> Target:
        """The form that images are decoded to."""
        return Target(*self.shape, self.resize, self.value_range)

    def to_json(self) -> dict[str, Any]:
        """Returns the values that go into the plan's fingerprint.

        Fields that were added later are left out if they have their default, so that older plans stay the
        same.
        """
        added = {"resize": "stretch", "value_range": "full"}
        content = asdict(self) | {"augmentation": self.augmentation.to_json()}
        return {name: value for name, value in content.items() if added.get(name) != value}


@dataclass(frozen=True)
class ShardJob:
    """One shard: its images in order, and the copies of each image, for all classes or by class."""

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
    """The result of writing one shard.

    It is kept in a file beside the shard until the manifest is written, so that a continued conversion has
    the results of the one that was killed.

    Attributes:
        shard: name, records, size and SHA-256 of the file.
        rejected: (source, reason) of each image that was left out, in the order of the job.
        hashes: `Decoded.fingerprint` of each image, in the order of the job; "": left out.
        perceptual_hashes: `perceptual_hash` of the resized pixels of each image; 0: left out.
        sizes: `Decoded.size` of each image; (0, 0): left out.
        findings: what the summary reports about the images; a result of an older version may have none.
        digests: `file_digest` of each image file, in hex, also of those left out.
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
    """Distributes the images of a split over shards, in a seeded order.

    A shard is also the work of one process. So with `shard_size` 0, a shard has about 64 MB, and there are at
    least 16 shards if each has 50 images.
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
    """Writes the missing shards and returns the results of all shards, in order.

    Args:
        root: folder of the source images.
        out: folder of the shards. A shard is kept if its result is beside it and gives its size and SHA-256.
        jobs: all shards of the plan.
        rendering: how images become records.
        pool: the processes that write.
        progress: called with the number of records done since its last call.
        max_rejects: how many images may be left out because they cannot be decoded.
        rejected: (path, reason) of images left out before; they count too.

    Raises:
        InputError: more images cannot be decoded than may be left out, or a shard cannot be written.
    """
    left_out, paths = list(rejected), {i.source: i.position or i.path for job in jobs for i in job.images}
    finished = {job.name for job in jobs if (out / (job.name + RESULT_SUFFIX)).exists()}

    def take(result: ShardResult | _Refused) -> None:
        left_out.extend((paths[source], reason) for source, reason in result.rejected)
        check_rejects(root, sorted(left_out), max_rejects)
        if isinstance(result, ShardResult):
            finished.add(result.shard.name)
            tell_launcher(f"{len(finished)} of {len(jobs)} shards")

    check_rejects(root, left_out, max_rejects)
    writer = partial(_Writer, root, out, rendering, max_rejects - len(rejected))
    results = pool.run(writer, jobs, progress=progress, take=take)
    return [
        result for result in results if isinstance(result, ShardResult)
    ]  # all are: take() raised for others


def file_digest(data: bytes) -> bytes:
    """Returns the BLAKE2b-128 of a file's bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _keys(seed: int, ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(f"{seed}/order/{i}".encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(digests, "<u8")


def finished_result(out: Path, job: ShardJob) -> ShardResult | None:
    """Returns the result of a finished shard: both files exist and agree; else None."""
    path = out / job.name
    try:
        values = json.loads((out / (job.name + RESULT_SUFFIX)).read_bytes())
        result = ShardResult(
            Shard(**values["shard"]),
            tuple((int(source), str(reason)) for source, reason in values["rejected"]),
            tuple(values["hashes"]),
            tuple(values["perceptual_hashes"] if "perceptual_hashes" in values else values["looks"]),  # 0.1.0
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
    """One shard alone has more undecodable images than may be left out."""


@dataclass(frozen=True)
class _Refused:
    """A shard that was not written, because more of its images are undecodable than may be left out."""

    rejected: tuple[tuple[int, str], ...]


@dataclass
class _Collected:
    """The lists of a ShardResult, which grow while images are decoded."""

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
        """Writes one shard unless it is finished, and counts each planned record."""
        result = finished_result(self.out, job)
        if result is not None:
            count(job.records)
            return result
        collected = _Collected()
        path = self.out / job.name
        temporary = temporary_path(path)
        try:
            shard = self._write(job, temporary, collected, count)
            result = ShardResult(
                shard,
                tuple(collected.rejected),
                tuple(collected.hashes),
                tuple(collected.perceptual_hashes),
                tuple(collected.sizes),
                collected.findings,
                tuple(collected.digests),
            )
            # The result first, so that every shard with its final name has one.
            replace_atomically(path.with_name(path.name + RESULT_SUFFIX), json.dumps(asdict(result)).encode())
            publish(temporary, path)
        except _TooManyRejectedError:
            return _Refused(tuple(collected.rejected))
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written: {error.strerror}; make room or choose another --out; "
                f"the same command again keeps the finished shards"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
        return result

    def _write(self, job: ShardJob, path: Path, collected: _Collected, count: Count) -> Shard:
        digest, records, size = hashlib.sha256(), 0, 0
        with path.open("wb") as file:
            for record in self._records(job, collected):
                data = frame(encode(record))
                digest.update(data)
                file.write(data)
                records += 1
                size += len(data)
                count(1)
        count(job.records - records)
        return Shard(job.name, records, size, digest.hexdigest())

    def _records(self, job: ShardJob, collected: _Collected) -> Iterator[Record]:
        """Yields the shard's records in rounds; in a round every image occurs once, as original or as a copy.

        Which variant of an image comes first is random, so every round has originals and copies, and two
        variants of an image are as many records apart as the shard has images. An image with fewer copies
        than others is left out of some rounds, at even distances. The first round decodes, and fills
        `collected`.
        """
        rendering = self.rendering
        variants = 1 + max(map(job.copies_of, {image.label for image in job.images}))
        keys = _keys(rendering.seed, [image.id for image in job.images])
        first = (keys % np.uint64(variants)).tolist()
        images: list[npt.NDArray[np.uint8] | None] = []
        for turn in range(variants):
            for position, image in enumerate(job.images):
                if turn == 0:
                    images.append(self._decoded(image, collected))
                pixels = images[position]
                if variants == 1:
                    images[position] = None  # used once: not kept in memory
                own = 1 + job.copies_of(image.label)
                copy, late = divmod((turn + first[position]) % variants * own, variants)
                if pixels is None or late >= own:  # late: its next variant comes in a later round
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

    def _decoded(self, image: ImageJob, collected: _Collected) -> npt.NDArray[np.uint8] | None:
        """Returns the resized pixels, or None if the image is left out; adds its facts to `collected`."""
        target = self.rendering.target
        try:
            with open(f"{self.root}/{image.path}", "rb") as file:  # noqa: PTH123 - a Path takes as long
                data = file.read()
        except OSError as error:
            raise InputError(
                f"{self.root / (image.position or image.path)}: cannot be read: {error.strerror}; it "
                f"existed when the folder was listed; restore it, or run the command again without it"
            ) from None
        collected.digests.append(file_digest(data).hex())
        try:
            check_colour = target.channels == 1 and collected.findings.detect_colour
            decoded = decode_fingerprinted(data, **vars(target), detect_colour=check_colour)
        except DecodeError as error:
            collected.rejected.append((image.source, str(error)))
            if len(collected.rejected) > self.max_rejects:
                raise _TooManyRejectedError from None
            collected.hashes.append("")
            collected.perceptual_hashes.append(0)
            collected.sizes.append((0, 0))
            return None
        collected.hashes.append(decoded.fingerprint)
        collected.perceptual_hashes.append(perceptual_hash(decoded.pixels))
        collected.sizes.append(decoded.size)
        collected.findings.add(image.source, decoded, target.value_range, data)
        return decoded.pixels


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
