"""Shards: planned first, then each written whole by one process, in any order.

A shard is the unit of work. All records of an image, the original and its copies, are in one
shard, so the image is read and decoded once and a shard's bytes follow from the plan alone.
"""

import hashlib
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from tfrecords.augment import Augmentation, apply, draw
from tfrecords.decode import DecodeError, decode
from tfrecords.errors import InputError
from tfrecords.example import Record, encode
from tfrecords.manifest import Shard, file_sha256
from tfrecords.records import frame

# Bytes of an encoded image as a share of its raw bytes, to plan the number of shards; measured on
# chest X-rays at 180x180. A wrong guess makes shards larger or smaller, never wrong.
_ENCODED_SHARE: Final = {"raw": 1.0, "png": 0.6, "jpeg": 0.2}
JPEG_QUALITY: Final = 95
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True)
class ImageJob:
    """One source as a worker needs it; `group` is hashed already."""

    path: str
    id: str
    label: int
    source: int
    group: str


@dataclass(frozen=True)
class Rendering:
    """What is done to every image: shape (height, width, channels), encoding, copies' strengths."""

    shape: tuple[int, int, int]
    encoding: str
    augmentation: Augmentation
    seed: int


@dataclass(frozen=True)
class ShardJob:
    """One shard: its images in order, and how many copies of each."""

    name: str
    split: str
    images: tuple[ImageJob, ...]
    copies: int

    @property
    def records(self) -> int:
        """Records in the shard."""
        return len(self.images) * (1 + self.copies)


def plan_split(
    name: str,
    split: str,
    images: Sequence[ImageJob],
    *,
    copies: int,
    rendering: Rendering,
    shard_size: int,
) -> tuple[ShardJob, ...]:
    """Deals the images of a split over shards of about `shard_size` bytes, in a seeded order."""
    share = _ENCODED_SHARE[rendering.encoding]
    total = len(images) * (1 + copies) * int(np.prod(rendering.shape)) * share
    count = min(max(1, round(total / shard_size)), len(images))
    order = np.argsort(_keys(rendering.seed, [image.id for image in images]))
    return tuple(
        ShardJob(
            f"{name}-{split}.tfrecord-{index:05d}-of-{count:05d}",
            split,
            tuple(images[int(i)] for i in part),
            copies,
        )
        for index, part in enumerate(np.array_split(order, count))
    )


def write_shards(
    root: Path,
    out: Path,
    jobs: Sequence[ShardJob],
    rendering: Rendering,
    *,
    workers: int,
    progress: Callable[[int], object],
) -> list[Shard]:
    """Writes the shards that are not there yet and returns all of them in order.

    Args:
        root: folder of the source images.
        out: folder of the shards; a file there under a shard's final name is whole and is kept.
        jobs: the plan.
        rendering: what is done to each image.
        workers: processes; 1 works in this one.
        progress: called with the number of records done since its last call.

    Raises:
        InputError: an image cannot be decoded, or a shard cannot be written.
    """
    if workers == 1 or len(jobs) == 1:
        return [_shard(root, out, job, rendering, lambda: progress(1)) for job in jobs]
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker, (done, stop)) as pool:
        futures = []
        try:
            # Workers start with Ctrl-C blocked and inherit that: it is the parent's to handle.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures = [pool.submit(_work, root, out, job, rendering) for job in jobs]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            seen, waiting = 0, set(futures)
            while waiting:
                finished, waiting = wait(waiting, _POLL_SECONDS)
                progress(done.value - seen)
                seen = done.value
                for future in finished:
                    future.result()
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


def _work(root: Path, out: Path, job: ShardJob, rendering: Rendering) -> Shard:
    def count() -> None:
        if _stop.is_set():
            raise KeyboardInterrupt
        with _done.get_lock():
            _done.value += 1

    return _shard(root, out, job, rendering, count)


def _shard(root: Path, out: Path, job: ShardJob, rendering: Rendering, count: Callable[[], object]) -> Shard:
    """Writes one shard, or hashes the one that is there, and calls `count` for each record."""
    path = out / job.name
    if path.exists():
        digest = file_sha256(path)
        for _ in range(job.records):
            count()
    else:
        digest = _write(root, path, job, rendering, count)
    return Shard(job.name, job.records, path.stat().st_size, digest)


def _write(root: Path, path: Path, job: ShardJob, rendering: Rendering, count: Callable[[], object]) -> str:
    digest = hashlib.sha256()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for record in _records(root, job, rendering):
                data = frame(encode(record))
                digest.update(data)
                file.write(data)
                count()
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}; make room or choose another --out, then "
            f"the same command again keeps the shards that are whole"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest()


def _records(root: Path, job: ShardJob, rendering: Rendering) -> Iterator[Record]:
    """Yields the shard's records in rounds: every image once a round, as original or as a copy.

    Which of its variants an image shows in a round is drawn, so that each round has both kinds,
    and two variants of one image are as far apart as the shard has images.
    """
    height, width, channels = rendering.shape
    variants = 1 + job.copies
    first = [int(key % np.uint64(variants)) for key in _keys(rendering.seed, [i.id for i in job.images])]
    decoded: list[npt.NDArray[np.uint8]] = []
    for turn in range(variants):
        for position, image in enumerate(job.images):
            if turn == 0:
                data = _read(root / image.path)
                try:
                    decoded.append(decode(data, height=height, width=width, channels=channels))
                except DecodeError as error:
                    raise InputError(
                        f"{root / image.path}: {error}; repair it, then the same command again keeps "
                        f"the shards that are whole, or remove it and convert with --overwrite"
                    ) from None
            copy = (turn + first[position]) % variants
            pixels = decoded[position]
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; it was there when the folder was listed"
        ) from None
