"""Shards: planned first, then each written whole by one process, in any order.

A shard is the unit of work. All records of an image, the original and its copies, are in one
shard, so the image is read and decoded once and a shard's bytes follow from the plan alone.
"""

import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from tfrecords.augment import Augmentation, apply, draw
from tfrecords.decode import DecodeError, decode_fingerprinted
from tfrecords.errors import InputError
from tfrecords.example import Record, encode
from tfrecords.manifest import Shard, file_sha256, write_atomically
from tfrecords.perceptual import perceptual_hash
from tfrecords.records import frame
from tfrecords.rejection import check_rejects

# Bytes of an encoded image as a share of its raw bytes, to plan the number of shards; measured on
# chest X-rays at 180x180. A wrong guess makes shards larger or smaller, never wrong.
_ENCODED_SHARE: Final = {"raw": 1.0, "png": 0.6, "jpeg": 0.2}
JPEG_QUALITY: Final = 95
RESULT_SUFFIX: Final = ".result.json"  # of the file beside a shard that holds its ShardResult
_POLL_SECONDS: Final = 0.1


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
    """What is done to every image: shape (height, width, channels), encoding, copies' strengths."""

    shape: tuple[int, int, int]
    encoding: str
    augmentation: Augmentation
    seed: int


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
        looks: of each likewise, `perceptual_hash` of its resized pixels; 0 for one left out.
        sizes: of each likewise, `Decoded.size`; (0, 0) for one left out.
    """

    shard: Shard
    rejected: tuple[tuple[int, str], ...]
    hashes: tuple[str, ...]
    looks: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()


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
    """Deals the images of a split over shards of about `shard_size` bytes, in a seeded order."""
    share = _ENCODED_SHARE[rendering.encoding]
    records = ShardJob(name, split, tuple(images), copies, copies_per_class).records
    total = records * int(np.prod(rendering.shape)) * share
    count = min(max(1, round(total / shard_size)), len(images))
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


_Seen = tuple[str, int, tuple[int, int]]  # of an image: what a ShardResult tells of each


def write_shards(
    root: Path,
    out: Path,
    jobs: Sequence[ShardJob],
    rendering: Rendering,
    *,
    workers: int,
    progress: Callable[[int], object],
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
        workers: processes; 1 works in this one.
        progress: called with the number of records done since its last call.
        max_rejects: how many images may be left out because they cannot be decoded.
        rejected: (path, reason) of those left out before; they count.

    Raises:
        InputError: more images cannot be decoded than may be left out, or a shard cannot be written.
    """
    limit = max_rejects - len(rejected)
    left_out, paths = list(rejected), {i.source: i.position or i.path for job in jobs for i in job.images}

    def take(work: Callable[[], ShardResult]) -> ShardResult:
        try:
            result = work()
        except _TooManyRejectedError as error:
            left_out.extend((paths[source], reason) for source, reason in error.rejected)
            check_rejects(root, sorted(left_out), max_rejects)
            raise  # never: one shard alone had more than are allowed
        left_out.extend((paths[source], reason) for source, reason in result.rejected)
        check_rejects(root, sorted(left_out), max_rejects)
        return result

    check_rejects(root, left_out, max_rejects)
    if workers == 1 or len(jobs) == 1:
        count = partial(progress, 1)
        return [take(partial(_shard, root, out, job, rendering, limit, count)) for job in jobs]
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker, (done, stop)) as pool:
        futures = []
        try:
            # Workers start with Ctrl-C blocked and inherit that: it is the parent's to handle.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures = [pool.submit(_work, root, out, job, rendering, limit) for job in jobs]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            seen, waiting = 0, set(futures)
            while waiting:
                finished, waiting = wait(waiting, _POLL_SECONDS)
                progress(done.value - seen)
                seen = done.value
                for future in finished:
                    take(future.result)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


def _keys(seed: int, ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(f"{seed}/order/{i}".encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(digests, "<u8")


_done: Any = None  # the worker's share of the progress, set when it starts
_stop: Any = None


def _start_worker(done: Any, stop: Any) -> None:
    global _done, _stop  # the one way to hand shared memory to a pool's worker
    _done, _stop = done, stop
    parent = multiprocessing.parent_process()
    if parent is not None:  # a worker whose parent was killed must not linger
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


class _TooManyRejectedError(Exception):
    """One shard alone has more images that cannot be decoded than may be left out."""

    def __init__(self, rejected: tuple[tuple[int, str], ...]) -> None:
        super().__init__(rejected)  # the arguments are what a pool carries over
        self.rejected = rejected


def _work(root: Path, out: Path, job: ShardJob, rendering: Rendering, max_rejects: int) -> ShardResult:
    def count() -> None:
        if _stop.is_set():
            raise KeyboardInterrupt
        with _done.get_lock():
            _done.value += 1

    return _shard(root, out, job, rendering, max_rejects, count)


def _shard(
    root: Path,
    out: Path,
    job: ShardJob,
    rendering: Rendering,
    max_rejects: int,
    count: Callable[[], object],
) -> ShardResult:
    """Writes one shard, or finds that it is done, and calls `count` for each planned record."""
    result = finished(out, job)
    if result is None:
        return _write(root, out / job.name, job, rendering, max_rejects, count)
    for _ in range(job.records):
        count()
    return result


def finished(out: Path, job: ShardJob) -> ShardResult | None:
    """Returns the result of a shard that is done, or None: both files are there and they agree."""
    path = out / job.name
    try:
        values = json.loads((out / (job.name + RESULT_SUFFIX)).read_bytes())
        result = ShardResult(
            Shard(**values["shard"]),
            tuple((int(source), str(reason)) for source, reason in values["rejected"]),
            tuple(values["hashes"]),
            tuple(values["looks"]),
            tuple((height, width) for height, width in values["sizes"]),
        )
        size = path.stat().st_size
    except (OSError, ValueError, TypeError, KeyError):
        return None
    of_this_job = result.shard.name == job.name and len(result.looks) == len(job.images)
    if not of_this_job or size != result.shard.bytes or file_sha256(path) != result.shard.sha256:
        return None
    return result


def _write(
    root: Path,
    path: Path,
    job: ShardJob,
    rendering: Rendering,
    max_rejects: int,
    count: Callable[[], object],
) -> ShardResult:
    digest, records, size = hashlib.sha256(), 0, 0
    seen: list[_Seen] = []
    rejected: list[tuple[int, str]] = []
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for record in _records(root, job, rendering, seen, rejected, max_rejects):
                data = frame(encode(record))
                digest.update(data)
                file.write(data)
                records += 1
                size += len(data)
                count()
            file.flush()
            os.fsync(file.fileno())
        for _ in range(job.records - records):
            count()
        shard = Shard(job.name, records, size, digest.hexdigest())
        result = ShardResult(shard, tuple(rejected), *zip(*seen, strict=True))
        # First the result: a shard that has its final name has it too.
        write_atomically(path.with_name(path.name + RESULT_SUFFIX), json.dumps(asdict(result)).encode())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}; make room or choose another --out, then "
            f"the same command again keeps the shards that are whole"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return result


def _records(
    root: Path,
    job: ShardJob,
    rendering: Rendering,
    seen: list[_Seen],
    rejected: list[tuple[int, str]],
    max_rejects: int,
) -> Iterator[Record]:
    """Yields the shard's records in rounds: every image once a round, as original or as a copy.

    Which of its variants an image shows in a round is drawn, so that each round has both kinds,
    and two variants of one image are as far apart as the shard has images. An image with fewer
    copies than others is in fewer rounds, evenly apart. The first round appends
    each image's fingerprint, look and size to `seen`; an image that cannot be decoded has no record, the
    fingerprint "", and its reason goes to `rejected`.
    """
    height, width, channels = rendering.shape
    variants = 1 + max(map(job.copies_of, {image.label for image in job.images}))
    first = [int(key % np.uint64(variants)) for key in _keys(rendering.seed, [i.id for i in job.images])]
    images: list[npt.NDArray[np.uint8] | None] = []
    for turn in range(variants):
        for position, image in enumerate(job.images):
            if turn == 0:
                data = _read(root / image.path, root / (image.position or image.path))
                try:
                    decoded = decode_fingerprinted(data, height=height, width=width, channels=channels)
                    images.append(decoded.pixels)
                    seen.append((decoded.fingerprint, perceptual_hash(decoded.pixels), decoded.size))
                except DecodeError as error:
                    images.append(None)
                    seen.append(("", 0, (0, 0)))
                    rejected.append((image.source, str(error)))
                    if len(rejected) > max_rejects:
                        raise _TooManyRejectedError(tuple(rejected)) from None
            pixels = images[position]
            own = 1 + job.copies_of(image.label)
            copy, late = divmod((turn + first[position]) % variants * own, variants)
            if pixels is None or late >= own:  # late: shown in an earlier round, and not yet the next
                continue
            if copy:
                drawn = draw(
                    rendering.augmentation,
                    seed=rendering.seed,
                    record_id=image.id,
                    copy=copy,
                    height=height,
                    width=width,
                )
                pixels = apply(pixels, drawn, rendering.augmentation.fill)
            yield Record(
                image=encode_image(pixels, rendering.encoding),
                label=image.label,
                id=image.id.encode(),
                source=image.source,
                copy=copy,
                group=image.group.encode(),
            )


def encode_image(pixels: npt.NDArray[np.uint8], encoding: str) -> bytes:
    """Returns uint8 [H, W, C] as raw bytes in C order, or as a PNG or JPEG file."""
    if encoding == "raw":
        return pixels.tobytes()
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, format=encoding.upper(), quality=JPEG_QUALITY)
    return buffer.getvalue()


def _read(path: Path, shown: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{shown}: cannot be read: {error.strerror}; it was there when the folder was listed"
        ) from None
