"""Reads the windows of a stream from local shards: each image goes from its shard straight into its row.

The shards are on this machine, or in a mounted folder. Each record of a window (see `windows`) is read into
the row of its position, and its checksum is verified. So a window is shuffled as soon as it is read, and
batches are slices of it.

Everything follows from the epoch and the position. The places of records are kept only for speed. A start in
mid-epoch reads of the earlier records only their headers.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar
from weakref import finalize

import numpy as np
import numpy.typing as npt

from data_pipeline import windows
from data_pipeline.stream.frames import Around, ShardFile
from data_pipeline.stream.layout import located
from tfrecords.example import FIELDS, decode
from tfrecords.manifest import Manifest

_THREADS: Final = 2  # that read the shards of a window
_UNSHUFFLED_WINDOW: Final = 16 << 20  # bytes at most: without shuffling a batch need not wait for more
_BUFFERS_KEPT: Final = 4  # at most, to be reused
_ALIGNMENT: Final = 64  # bytes: TensorFlow reads a foreign buffer in place only if it starts so

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
_T = TypeVar("_T")


class LocalShards:
    """The records of a split at positions of an epoch.

    Attributes:
        window: number of records in a window; reading is fastest from one multiple of it to the next.
    """

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
            window: bytes of records that are shuffled together.
            seed: seed of the run.
            shuffle: False: each epoch has the order of the shards.
            threads: threads that read shards; 0: two.
        """
        shards, self._records = manifest.split(split).shards, manifest.split(split).records
        self._shape, self._pixels = manifest.image_shape, int(np.prod(manifest.image_shape))
        raw = self._pixels if manifest.encoding == "raw" else 0
        self._files = [ShardFile(directory / shard.name, shard, raw) for shard in shards]
        self._sizes = [shard.records for shard in shards]
        self._seed, self._shuffle = seed, shuffle
        window = window if shuffle else min(window, _UNSHUFFLED_WINDOW)
        self.window = windows.records_per_window(window, shards, self._records)
        self._sequence = lru_cache(2)(self._sequenced)
        # Memory that nobody uses. Any thread may give it back; a deque adds and takes in one step.
        self._free: deque[Array] = deque(maxlen=_BUFFERS_KEPT)
        self._readers = ThreadPoolExecutor(threads or _THREADS, thread_name_prefix="read")

    def serialized(self, epoch: int, position: Integers) -> Array:
        """Returns the records at positions of an epoch; objects of bytes [B].

        Raises:
            ValueError, OSError, InputError: a shard is missing, cut or damaged; `damage.named_damage`
                names it.
        """
        found = np.empty(len(position), object)
        wanted = _Wanted.sorted(*self._places(epoch, position))
        for row, data in zip(wanted.row, self._serialized(wanted), strict=True):
            found[row] = data
        return found[wanted.shown]

    def parsed(
        self, epoch: int, position: Integers, fields: tuple[str, ...], images: Array | None = None
    ) -> dict[str, Array]:
        """Returns raw records at positions of an epoch by field, [B]; the image is uint8 [B, H, W, C].

        Args:
            epoch: number of the epoch.
            position: int64 [B].
            fields: names out of `tfrecords.example.FIELDS`.
            images: uint8 [B, P], which is filled and returned; None: new memory, or memory that TensorFlow
                has given back.

        Raises:
            as `serialized`.
        """
        images = self._rows(len(position)) if images is None else images
        wanted = _Wanted.sorted(*self._places(epoch, position))

        def read_images(file: ShardFile, record: Integers, row: Integers) -> tuple[Integers, Around]:
            read, around = file.read_images(record, [images[one] for one in row.tolist()])
            return row[read], around

        parts = self._by_shard(read_images, wanted)
        found = {
            name: np.empty(len(position), np.int64 if FIELDS[name] == "int64" else object)
            for name in fields
            if name != "image"
        }
        filled = _fill(found, *_joined(parts), self._pixels)
        other = wanted.part(np.flatnonzero(~np.isin(wanted.row, filled)))
        for row, data in zip(other.row, self._serialized(other), strict=True):
            record = decode(data)
            images[row] = np.frombuffer(record.image, np.uint8)
            for name, column in found.items():
                column[row] = getattr(record, name)
        again = np.flatnonzero(wanted.shown != np.arange(len(position)))
        for column in (images, *found.values()):
            column[again] = column[wanted.shown[again]]
        return found | {"image": images.reshape(-1, *self._shape)} if "image" in fields else found

    def _serialized(self, wanted: "_Wanted") -> Iterator[bytes]:
        return chain.from_iterable(self._by_shard(lambda file, record, _: list(file.read(record)), wanted))

    def _by_shard(self, read: Callable[[ShardFile, Integers, Integers], _T], wanted: "_Wanted") -> list[_T]:
        """Calls `read` with each shard, its records and their rows, in threads; returns the results."""
        cuts = np.flatnonzero(np.diff(wanted.shard)) + 1
        parts = [wanted.part(part) for part in np.split(np.arange(len(wanted.shard)), cuts) if len(part)]
        return list(
            self._readers.map(lambda part: read(self._files[part.shard[0]], part.record, part.row), parts)
        )

    def _places(self, epoch: int, position: Integers) -> tuple[Integers, Integers]:
        """Returns shard and record at positions of an epoch, int64 [B] each."""
        place = position.copy()
        if self._shuffle:
            numbers = position // self.window
            for number in np.unique(numbers).tolist():
                first, rows = number * self.window, numbers == number
                size = min(self.window, self._records - first)
                order = windows.permutation(size, seed=self._seed, epoch=epoch, window=number)
                place[rows] = first + order[position[rows] - first]
        return self._sequence(epoch if self._shuffle else 0).at(place)

    def _sequenced(self, epoch: int) -> windows.EpochOrder:
        if not self._shuffle:
            return windows.sequential(self._sizes)
        turn = windows.permutation(len(self._sizes), seed=self._seed, epoch=epoch, window=-1)
        return windows.interleaved(self._sizes, turn.tolist())

    def _rows(self, count: int) -> Array:
        """Returns uint8 [count, P] that becomes a tensor without a copy; reuses memory that was given back.

        New memory costs the system more than reading into it. All views of an array over a memoryview keep
        that array alive, so when the array is freed, nobody uses the memory any more.
        """
        size = count * self._pixels
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(0, np.uint8)
        if len(buffer) < size:
            buffer = aligned((max(size, self.window * self._pixels),))
        rows = np.frombuffer(buffer.data, np.uint8, size)
        finalize(rows, self._free.append, buffer).atexit = False
        return rows.reshape(count, self._pixels)


@dataclass(frozen=True)
class _Wanted:
    """Records to read, each once, in the order of the shards.

    Attributes:
        shard: shard of each record, int64 [U].
        record: its number in the shard, int64 [U].
        row: the first of the rows that show it, int64 [U].
        shown: for each row the row into which its record is read, int64 [B].
    """

    shard: Integers
    record: Integers
    row: Integers
    shown: Integers

    @classmethod
    def sorted(cls, shard: Integers, record: Integers) -> "_Wanted":
        """Returns the records to read for rows that show these, int64 [B] each."""
        key = shard * (record.max(initial=0) + 1) + record
        _, row, again = np.unique(key, return_index=True, return_inverse=True)
        return cls(shard[row], record[row], row, row[again])

    def part(self, place: Integers) -> "_Wanted":
        """Returns some of the records."""
        return replace(self, shard=self.shard[place], record=self.record[place], row=self.row[place])


def aligned(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Returns an array, not filled, that TensorFlow can use without a copy."""
    size = int(np.prod(shape))
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size].reshape(shape)


def _joined(parts: list[tuple[Integers, Around]]) -> tuple[Integers, Around]:
    """Returns the rows of all parts, and what is around their images."""
    none = np.empty(0, np.int64)
    first = np.cumsum([0, *(len(around.data) for _, around in parts)])
    starts = [around.start + at for at, (_, around) in zip(first, parts, strict=False)]
    return np.concatenate([none, *(row for row, _ in parts)]), Around(
        np.concatenate([np.empty(0, np.uint8), *(around.data for _, around in parts)]),
        np.concatenate([none, *starts]),
        np.concatenate([none, *(around.before for _, around in parts)]),
        np.concatenate([none, *(around.behind for _, around in parts)]),
    )


def _fill(found: dict[str, Array], row: Integers, around: Around, pixels: int) -> Integers:
    """Fills the fields of records in, [B] each; returns the rows of the records with the usual layout."""
    layout = located(around.data, around.start, around.before, around.behind, pixels)
    usual = layout.usual
    for name, column in found.items():
        if FIELDS[name] == "int64":
            column[row[usual]] = layout.numbers[name][usual]
        else:
            first, end = (side[usual].tolist() for side in layout.strings[name])
            for one, at, after in zip(row[usual].tolist(), first, end, strict=True):
                column[one] = around.data[at:after].tobytes()
    return row[usual]
