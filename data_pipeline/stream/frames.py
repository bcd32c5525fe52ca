"""Reads records of one shard by their numbers: many with one call, and pixels straight into their rows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt

from data_pipeline.stream.layout import before_image
from tfrecords.manifest import Shard
from tfrecords.records import FOOTER_SIZE, HEADER_SIZE, frame_length, header, masked

_AT_ONCE: Final = 1 << 19  # bytes of one call: they stay in the processor's cache until they are verified
_MOST_AT_ONCE: Final = 500  # records of one call: the system takes 1024 pieces, and a record is two
_AHEAD: Final = 128 << 10  # bytes of one read-ahead request: the system reads no more at once
_HEAD: Final = 512  # bytes at the start of a raw record that hold all fields before the image
_TAIL: Final = 64  # bytes at its end that hold all fields behind the image

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Around:
    """The bytes of raw records around their images, one record after another.

    Attributes:
        data: uint8 [M].
        start: start of each record in the data, int64 [N].
        before: number of bytes before its image, int64 [N].
        behind: number of bytes behind its image, which follow in the data, int64 [N].
    """

    data: Bytes
    start: Integers
    before: Integers
    behind: Integers


class ShardFile:
    """A shard and the places of its records: found once and kept, in 8 bytes a record, 12 for a raw one."""

    def __init__(self, path: Path, described: Shard, pixels: int = 0) -> None:
        """Reads nothing yet.

        Args:
            path: path of the shard.
            described: the shard in the manifest.
            pixels: bytes of each raw image; 0: the images are encoded.
        """
        self._path, self._described, self._pixels = path, described, pixels
        self._before_image = before_image(pixels) if pixels else b""
        self._start = np.zeros(described.records + 1, np.int64)  # of each frame, and the last one's end
        self._image = np.zeros(described.records if pixels else 0, np.int32)  # in its frame; 0: not found
        mean = described.bytes // max(1, described.records)
        self._most = max(1, min(_MOST_AT_ONCE, _AT_ONCE // max(1, mean)))  # records of one call
        self._known = 0  # number of records whose places are known
        self._status: tuple[int, ...] = ()

    def read(self, record: Integers) -> Iterator[bytes]:
        """Yields records, their checksums verified.

        Args:
            record: their numbers, int64 [N], ascending.

        Raises:
            ValueError, OSError: the shard is missing, cut, damaged or has changed.
        """
        with self._opened(record) as file:
            for first, last in self._runs(record):
                start = self._start[first : last + 2] - self._start[first]
                data = os.pread(file, int(start[-1]), self._start[first])
                if len(data) != start[-1]:
                    raise ValueError(f"{self._path}: is cut in record {first} or one that follows")
                found = [data[at + HEADER_SIZE : end - FOOTER_SIZE] for at, end in pairwise(start.tolist())]
                crc = np.array([google_crc32c.value(one) for one in found], np.int64)
                self._verify(np.arange(first, last + 1), np.frombuffer(data, np.uint8), start, crc)
                yield from found

    def read_images(self, record: Integers, rows: list[Bytes]) -> tuple[Integers, Around]:
        """Reads raw images into rows, their records' checksums verified.

        Args:
            record: their numbers, int64 [N], ascending.
            rows: uint8 [P] each.

        Returns:
            places in `record` of the records that were read, and the bytes around their images. The other
            records have another layout.

        Raises:
            ValueError, OSError: the shard is missing, cut, damaged or has changed.
        """
        with self._opened(record) as file:
            read = np.flatnonzero(self._image[record])
            record, rows = record[read], [rows[one] for one in read.tolist()]
            before = self._image[record].astype(np.int64)
            behind = self._start[record + 1] - self._start[record] - before - self._pixels
            # The end of a record and the start of the next lie side by side, as in the file.
            start = np.concatenate([[0], np.cumsum(before + behind)])
            data = np.empty(start[-1], np.uint8)
            places, gaps = start.tolist(), (start[:-1] + before).tolist()
            crc: list[int] = []
            for first, last in self._runs(record):
                done = len(crc)
                end = done + last + 1 - first
                cuts = pairwise([places[done], *gaps[done:end], places[end]])
                around = [data[at:after] for at, after in cuts]
                pieces: list[Any] = [None] * (2 * len(around) - 1)
                pieces[::2], pieces[1::2] = around, rows[done:end]
                size = self._start[last + 1] - self._start[first]
                if os.preadv(file, pieces, self._start[first]) != size:
                    raise ValueError(f"{self._path}: is cut in record {first} or one that follows")
                for one in range(done, end):
                    found = google_crc32c.value(data[places[one] + HEADER_SIZE : gaps[one]])
                    found = google_crc32c.extend(found, rows[one])
                    after = places[one + 1] - FOOTER_SIZE
                    crc.append(google_crc32c.extend(found, data[gaps[one] : after]))
        self._verify(record, data, start, np.array(crc, np.int64))
        return read, Around(data, start[:-1] + HEADER_SIZE, before - HEADER_SIZE, behind - FOOTER_SIZE)

    def _verify(self, record: Integers, data: Bytes, start: Integers, crc: Integers) -> None:
        """Compares headers and footers of frames with the sizes and checksums of their records.

        Args:
            record: numbers of the records, int64 [N].
            data: the frames without what was read elsewhere, uint8 [M].
            start: start of each frame in the data, and end of the last one, int64 [N + 1].
            crc: checksum of each record, int64 [N].
        """
        sizes = (self._start[record + 1] - self._start[record] - HEADER_SIZE - FOOTER_SIZE).tolist()
        made = {size: header(size) for size in set(sizes)}
        headers = np.frombuffer(b"".join([made[size] for size in sizes]), np.uint8).reshape(-1, HEADER_SIZE)
        footers = masked(crc).astype("<u4").view(np.uint8).reshape(-1, FOOTER_SIZE)
        right = (data[start[:-1, None] + np.arange(HEADER_SIZE)] == headers).all(1)
        right &= (data[start[1:, None] + np.arange(-FOOTER_SIZE, 0)] == footers).all(1)
        if not right.all():
            raise ValueError(f"{self._path}: record {record[~right][0]} is damaged")

    def _runs(self, record: Integers) -> Iterator[tuple[int, int]]:
        """Yields the first and the last record of each run of neighbours that one call reads."""
        cuts = (np.flatnonzero(np.diff(record) != 1) + 1).tolist()
        for first, end in pairwise([0, *cuts, len(record)]):
            for one in range(first, end, self._most):
                yield int(record[one]), int(record[min(one + self._most, end) - 1])

    @contextmanager
    def _opened(self, record: Integers) -> Iterator[int]:
        """Opens the shard and finds the places of the records."""
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            status = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
            if self._status and status != self._status:
                raise ValueError(f"{self._path}: was changed while it was read")
            self._status = status
            self._find(file, int(record[0]), int(record[-1]) + 1, found.st_size)
            yield file
        finally:
            os.close(file)

    def _find(self, file: int, first: int, end: int, file_size: int) -> None:
        """Finds the places of the records up to `end` from their headers."""
        number = self._known
        if number >= end:
            return
        at, mean = int(self._start[number]), self._described.bytes // self._described.records
        for place in range(at + max(0, first - number) * mean, at + (end - number) * mean, _AHEAD):
            os.posix_fadvise(file, place, _AHEAD, os.POSIX_FADV_WILLNEED)  # all of it will be read soon
        while number < end:
            head = os.pread(file, HEADER_SIZE + (_HEAD if self._pixels else 0), at)
            try:
                after = at + HEADER_SIZE + frame_length(head) + FOOTER_SIZE
            except ValueError as error:
                raise ValueError(f"{self._path}: record {number}: {error}") from None
            if after > file_size:
                raise ValueError(f"{self._path}: record {number}: is cut")
            if self._pixels:
                found = head.find(self._before_image)
                image = found + len(self._before_image)
                behind = after - FOOTER_SIZE - at - image - self._pixels
                self._image[number] = image if found >= 0 and 0 <= behind <= _TAIL else 0
            number, at = number + 1, after
            self._start[number] = at
        if number == self._described.records and at != file_size:
            raise ValueError(f"{self._path}: more than the {number} records of the manifest")
        self._known = max(self._known, number)
