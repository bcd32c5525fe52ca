"""Batches of a stream, read in place: each image goes from its shard straight into its row of a batch.

The shards lie on this machine, or are mounted as if they did. For each window (see `windows`) the records'
headers alone are walked, a thread being one window ahead, and the system is told to have the window's
bytes at hand; they wait in its page cache, not in this process, which holds some 300 bytes for each record
of three windows. A batch's images are then read in the order of the shuffle, the checksum of every record
verified as it is read.

Everything follows from the epoch and the position, so what is kept only makes it fast: another
iterator, or a start in mid-epoch, gets the same. A start reads nothing that was shown before but headers.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import google_crc32c
import numpy as np
import numpy.typing as npt

from data_pipeline import windows
from data_pipeline.layout import HEAD, TAIL, Layout, located
from data_pipeline.resident import aligned
from tfrecords.example import FIELDS, decode
from tfrecords.manifest import Manifest
from tfrecords.records import FOOTER_SIZE, HEADER_SIZE, frame_length, masked, read_spans

_THREADS: Final = 2  # walk a window's shards
_WINDOWS_KEPT: Final = 3  # the one shown, the next, and the epoch's first, to which a last batch wraps
_FILES_KEPT: Final = 64  # open at once
_AHEAD: Final = 128 << 10  # bytes asked of the system at once: it reads no more for one call

_BATCHES_KEPT: Final = 63  # of those that TensorFlow holds, to be used again
_UNUSED: Final = 2  # references
_STILL: Final = 0.1  # seconds without a call: what is made ahead is made
_PATIENCE: Final = 2.0  # seconds

Array = npt.NDArray[Any]
_called: WeakSet["LocalShards"] = WeakSet()


class LocalShards:
    """The records of a split at positions of an epoch."""

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        split: str,
        *,
        window: int,
        seed: int,
        shuffle: bool = True,
        threads: int = 0,
    ) -> None:
        """Reads nothing yet.

        Args:
            directory: folder of the data set.
            manifest: of the data set.
            split: name of the split.
            window: bytes of records that are shuffled among themselves.
            seed: of the run.
            shuffle: False: each epoch is in the order of the shards.
            threads: that walk shards ahead; 0: two.
        """
        self._directory, self._described = directory, manifest.split(split)
        self._shape, self._raw = manifest.image_shape, manifest.encoding == "raw"
        self._seed, self._shuffle = seed, shuffle
        described = self._described
        self._records = described.records
        self._window = windows.records_per_window(window, described.shards, described.records)
        self._open = lru_cache(_FILES_KEPT)(self._opened)
        self._sequence = lru_cache(2)(self._sequenced)
        self._walked: dict[int, tuple[int, int]] = {}  # shard -> a record, and the byte at which it starts
        self._windows: dict[tuple[int, int], Future[_Window]] = {}
        self._batches: list[Array] = []
        self._lock = threading.Lock()
        self._ahead = ThreadPoolExecutor(1, "window")
        self._walkers = ThreadPoolExecutor(threads or _THREADS, "walk")
        self.last_call = 0.0  # time.monotonic
        _called.add(self)

    def serialized(self, epoch: int, position: npt.NDArray[np.int64]) -> Array:
        """Returns the records at positions of an epoch; objects of bytes [B].

        Raises:
            ValueError, OSError, InputError: a shard is missing, cut or damaged; `parse.named_damage`
                says which.
        """
        found = np.empty(len(position), object)
        for window, rows, index in self._parts(epoch, position):
            for row, at in zip(rows.tolist(), index.tolist(), strict=True):
                found[row] = self._record(window, at)
        return found

    def parsed(
        self, epoch: int, position: npt.NDArray[np.int64], fields: tuple[str, ...]
    ) -> dict[str, Array]:
        """Returns raw records at positions of an epoch by field, [B]; the image is uint8 [B, H, W, C].

        Raises:
            as `serialized`.
        """
        found: dict[str, Array] = {
            name: np.empty(len(position), np.int64 if FIELDS[name] == "int64" else object)
            for name in fields
            if name != "image"
        }
        images = self._batch((len(position), *self._shape))
        pixels = images.reshape(len(position), -1)
        for window, rows, index in self._parts(epoch, position):
            assert window.raw
            for name, column in found.items():
                column[rows] = window.raw.column(name, index)
            usual = window.raw.usual[index]
            self._read_images(window, window.raw, index[usual], rows[usual], pixels)
            for row, at in zip(rows[~usual].tolist(), index[~usual].tolist(), strict=True):
                record = decode(self._record(window, at))
                pixels[row] = np.frombuffer(record.image, np.uint8)
                for name, column in found.items():
                    column[row] = getattr(record, name)
        return found | {"image": images} if "image" in fields else found

    def _batch(self, shape: tuple[int, ...]) -> Array:
        """Returns an array that becomes a tensor without being copied: one that has been given back, if any.

        Memory that is new costs the system as much as reading into it.
        """
        with self._lock:
            for batch in self._batches:
                # One for what the list holds, one for the call: TensorFlow and numpy hold it no more.
                if batch.shape == shape and sys.getrefcount(batch.base) == _UNUSED:
                    return batch.view()
            batch = aligned(shape)
            self._batches = [*self._batches[-_BATCHES_KEPT:], batch]
            return batch.view()

    def _read_images(self, window: "_Window", raw: "_Raw", index: Array, rows: Array, pixels: Array) -> None:
        """Reads the images of usual records into rows of uint8 [B, P], the records' checksums verified."""
        found = []
        for row, shard, offset, crc, tail, rest in zip(
            rows.tolist(),
            window.shard[index].tolist(),
            (window.offset[index] + raw.layout.image[index]).tolist(),
            raw.before[index].tolist(),
            raw.tails[index],
            raw.rest[index].tolist(),
            strict=True,
        ):
            image = pixels[row]
            if os.preadv(self._open(shard).number, [image], offset) != len(image):
                raise ValueError(f"{self._path(shard)}: is cut at byte {offset}")
            found.append(google_crc32c.extend(google_crc32c.extend(crc, image), tail[:rest]))
        wrong = np.flatnonzero(masked(np.array(found, np.int64)) != raw.checksum[index])
        if len(wrong):
            at = index[wrong[0]]
            raise ValueError(f"{self._path(window.shard[at])}: damaged data at byte {window.offset[at]}")

    def _record(self, window: "_Window", at: int) -> bytes:
        """Returns a record's bytes, its checksum verified."""
        shard, offset, size = int(window.shard[at]), int(window.offset[at]), int(window.size[at])
        data = os.pread(self._open(shard).number, size + FOOTER_SIZE, offset)
        record, footer = data[:size], data[size:]
        if footer != masked(google_crc32c.value(record)).to_bytes(FOOTER_SIZE, "little"):
            raise ValueError(f"{self._path(shard)}: cut or damaged data at byte {offset}")
        return record

    def _parts(self, epoch: int, position: npt.NDArray[np.int64]) -> Iterator[tuple["_Window", Array, Array]]:
        """Yields the windows of positions, which of the positions lie there, and their records' places."""
        self.last_call = time.monotonic()
        numbers = position // self._window
        for number in dict.fromkeys(numbers.tolist()):
            rows = np.flatnonzero(numbers == number)
            window = self._prepared(epoch, number)
            yield window, rows, window.order[position[rows] - number * self._window]
        self.last_call = time.monotonic()

    def _prepared(self, epoch: int, number: int) -> "_Window":
        """Returns a window, and lets the next one be prepared."""
        last = (number + 1) * self._window >= self._records
        following = (epoch + 1, 0) if last else (epoch, number + 1)
        with self._lock:
            for key in [(epoch, number)] + [following] * (self._shuffle or not last):
                # The window asked for is the newest but one: it outlives what came before.
                kept = self._windows.pop(key, None)
                self._windows[key] = kept or self._ahead.submit(self._prepare, *key)
            while len(self._windows) > _WINDOWS_KEPT:
                del self._windows[next(iter(self._windows))]
            window = self._windows[epoch, number]
        return window.result()

    def _prepare(self, epoch: int, number: int) -> "_Window":
        first = number * self._window
        shard, record = self._sequence(epoch if self._shuffle else 0).between(
            first, min(first + self._window, self._records)
        )
        count = len(shard)
        offset, size = np.empty(count, np.int64), np.empty(count, np.int64)
        heads = np.zeros((count if self._raw else 0, HEAD), np.uint8)
        # Of each shard a window has neighbours, in their order.
        parts = [np.flatnonzero(shard == one) for one in np.unique(shard).tolist()]
        walks = self._walkers.map(
            lambda part: self._walk(int(shard[part[0]]), int(record[part[0]]), len(part)), parts
        )
        for part, (offsets, sizes, first_bytes) in zip(parts, walks, strict=True):
            offset[part], size[part] = offsets, sizes
            if self._raw:
                heads[part] = first_bytes
        order = np.arange(count)
        if self._shuffle:
            order = windows.permutation(count, seed=self._seed, epoch=epoch, window=number)
        if not self._raw:
            return _Window(order, shard, offset, size)
        tails = np.zeros((count, TAIL + FOOTER_SIZE), np.uint8)

        def read_tails(end: Array) -> Array:
            places = zip(range(count), shard.tolist(), (offset + end).tolist(), strict=True)
            for row, one, place in places:
                os.preadv(self._open(one).number, [tails[row]], place)
            return tails[:, :TAIL]

        layout = located(heads, read_tails, size)
        pixels = int(np.prod(self._shape))
        usual = layout.usual & (layout.end - layout.image == pixels)
        image = np.where(usual, layout.image, 0).tolist()
        rest = np.where(usual, size - layout.end, 0)
        footer = np.take_along_axis(tails, rest[:, None] + np.arange(FOOTER_SIZE), 1)
        before = [google_crc32c.value(head[:end]) for head, end in zip(heads, image, strict=True)]
        raw = _Raw(
            heads[:, : max(image)].copy(),  # what is kept of a record is small, an image or not
            tails[:, : rest.max()].copy(),
            rest,
            layout,
            usual,
            np.array(before, np.int64),
            footer.view("<u4")[:, 0].astype(np.int64),
        )
        return _Window(order, shard, offset, size, raw)

    def _sequenced(self, epoch: int) -> windows.Sequenced:
        records = [shard.records for shard in self._described.shards]
        if not self._shuffle:
            return windows.one_after_another(records)
        turn = windows.permutation(len(records), seed=self._seed, epoch=epoch, window=-1)
        return windows.side_by_side(records, turn.tolist())

    def _walk(self, shard: int, first: int, count: int) -> tuple[Array, Array, Array]:
        """Finds neighbouring records of a shard: where each starts, its size, and its first bytes."""
        described, file = self._described.shards[shard], self._open(shard)
        if not os.path.samestat(os.stat(self._path(shard)), file.status):  # noqa: PTH116 - a removed one raises
            raise ValueError(f"{self._path(shard)}: was replaced while it was read")
        record, at = self._walked.get(shard, (0, 0))
        if record > first:
            record, at = 0, 0
        if record < first:
            spans = read_spans(self._path(shard), record=record, offset=at)
            at = max((start + size for start, size in islice(spans, first - record)), default=at)
        expected = at + count * described.bytes // described.records
        for place in range(at, expected, _AHEAD):
            os.posix_fadvise(file.number, place, _AHEAD, os.POSIX_FADV_WILLNEED)
        offsets, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
        heads = np.zeros((count if self._raw else 0, HEAD), np.uint8)
        wanted = HEADER_SIZE + (HEAD if self._raw else 0)
        for number in range(count):
            head = os.pread(file.number, wanted, at)
            size = frame_length(head)
            offsets[number], sizes[number] = at + HEADER_SIZE, size
            if self._raw:
                heads[number, : len(head) - HEADER_SIZE] = np.frombuffer(head, np.uint8, -1, HEADER_SIZE)
            at += HEADER_SIZE + size + FOOTER_SIZE
            if at > file.size:
                raise ValueError(f"{self._path(shard)}: is cut in record {first + number}")
        if first + count == described.records and at != file.size:
            raise ValueError(
                f"{self._path(shard)}: more than the {described.records} records of the manifest"
            )
        self._walked[shard] = (first + count, at)
        return offsets, sizes, heads

    def _opened(self, shard: int) -> "_File":
        return _File(self._path(shard))

    def _path(self, shard: int) -> Path:
        return self._directory / self._described.shards[shard].name


@atexit.register
def _wait_until_still() -> None:
    """Lets TensorFlow make the batches ahead that it began, while it can still call Python.

    A thread of its that would do so later, when Python ends, would wait for ever, and the end for it.
    """
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and any(time.monotonic() - one.last_call < _STILL for one in _called):
        time.sleep(_STILL / 10)


class _File:
    """An open file; it is closed when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)
        self.status = os.fstat(self.number)
        self.size = self.status.st_size

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@dataclass(frozen=True)
class _Raw:
    """What is known of a window's raw records besides their images, [n] each.

    Attributes:
        heads: what comes before the image, uint8 [n, W].
        tails: what comes behind it, uint8 [n, V].
        rest: how many bytes these are.
        layout: where the fields lie.
        usual: whether `layout` says so, and the image has the manifest's size.
        before: checksum of what comes before the image.
        checksum: of the record, masked, as its frame has it.
    """

    heads: Array
    tails: Array
    rest: Array
    layout: Layout
    usual: Array
    before: Array
    checksum: Array

    def column(self, name: str, index: Array) -> Array:
        """Returns a field of records at these places; of unusual ones anything."""
        if FIELDS[name] == "int64":
            return self.layout.numbers[name][index]
        first, end = self.layout.strings[name]
        found = np.empty(len(index), object)
        found[:] = [self.heads[at, first[at] : end[at]].tobytes() for at in index]
        return found


@dataclass(frozen=True)
class _Window:
    """Where a window's records are, int64 [n] each, in the order of the shards read side by side.

    Attributes:
        order: the place of the record at each position.
        shard: of each record.
        offset: where its bytes start in the shard.
        size: of it, in bytes.
        raw: for raw images; else None.
    """

    order: Array
    shard: Array
    offset: Array
    size: Array
    raw: _Raw | None = None
