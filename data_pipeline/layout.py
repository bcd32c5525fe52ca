"""Where the fields lie in many records at once, for the bytes that `tfrecords.example.encode` writes.

A record's fields are in alphabetical order, so all but the label and the source lie before the image.
Every tag, name and length is checked; a record written in another way is told apart, not misread.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.example import FIELDS

HEAD: Final = 512  # bytes at a record's start, in which all is that comes before the image
TAIL: Final = 64  # bytes at its end, in which all is that comes behind the image

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_NAMES: Final = tuple(FIELDS)
_BEFORE: Final = _NAMES[: _NAMES.index("image")]
_BEHIND: Final = _NAMES[_NAMES.index("image") + 1 :]
_INNER: Final = 0x0A  # the tag of field 1, length-delimited
_FEATURE: Final = 0x12  # of field 2
_VALUE_LIST: Final = {"bytes": 0x0A, "int64": 0x1A}  # of tensorflow.Feature's fields 1 and 3
_LONGEST: Final = 9  # bytes of a number below 2**63


@dataclass(frozen=True)
class Layout:
    """What is known of records before their images are read; a row of `usual` False means nothing else.

    Attributes:
        usual: bool [N], whether a record is laid out as ours are.
        image: int64 [N], where the image starts, from the start of the record.
        end: int64 [N], where it ends.
        numbers: int64 [N] by name.
        strings: first and end, int64 [N] each, of bytes in `heads`, by name.
    """

    usual: npt.NDArray[np.bool_]
    image: Integers
    end: Integers
    numbers: dict[str, Integers]
    strings: dict[str, tuple[Integers, Integers]]


class Cursor:
    """Reads the same thing from each row of a matrix of bytes, and notes which rows hold another."""

    def __init__(self, data: Bytes, size: Integers) -> None:
        """Starts at the first byte.

        Args:
            data: uint8 [N, W].
            size: int64 [N], bytes of each row that count.
        """
        self._data, self._size = data, np.minimum(size, data.shape[1])
        self._rows = np.arange(len(data))
        self.at = np.zeros(len(data), np.int64)
        self.usual = np.ones(len(data), bool)

    def expect(self, *values: int) -> None:
        """Passes over bytes that must be these."""
        for value in values:
            self.usual &= self._byte() == value
            self.at += 1

    def number(self) -> Integers:
        """Reads a varint, below 2**63."""
        value = np.zeros(len(self.at), np.int64)
        goes_on = np.ones(len(self.at), bool)
        for place in range(_LONGEST):
            byte = self._byte(goes_on)
            value[goes_on] |= (byte[goes_on] & 0x7F).astype(np.int64) << (7 * place)
            self.at[goes_on] += 1
            goes_on &= byte > 0x7F
            if not goes_on.any():
                break
        self.usual &= ~goes_on
        return value

    def skip(self, count: Integers) -> None:
        """Passes over as many bytes of each row, that must be there."""
        self.usual &= (count >= 0) & (count <= self._size - self.at)
        self.at = np.where(self.usual, self.at + count, 0)

    def _byte(self, asked: Any = True) -> Bytes:
        """Returns the byte of each row; one that is asked for must be there."""
        there = self.at < self._size
        self.usual &= there | np.logical_not(asked)
        return self._data[self._rows, np.where(there, self.at, 0)]


def located(heads: Bytes, tails: Any, size: Integers) -> Layout:
    """Finds the fields of records.

    Args:
        heads: uint8 [N, HEAD], the first bytes of each record, what follows a shorter one is not looked at.
        tails: takes int64 [N], where the images end, and gives what follows, uint8 [N, TAIL].
        size: int64 [N], bytes of each record.
    """
    before = Cursor(heads, size)
    before.expect(_INNER)
    whole = before.number()
    before.usual &= before.at + whole == size
    numbers: dict[str, Integers] = {}
    strings: dict[str, tuple[Integers, Integers]] = {}
    for name in _BEFORE:
        length, entry_end = _payload(before, name)
        if FIELDS[name] == "int64":
            numbers[name] = _number_of(before, length)
        else:
            strings[name] = before.at, before.at + length
            before.skip(length)
        before.usual &= before.at == entry_end
    length, entry_end = _payload(before, "image")
    image = before.at
    end = image + length
    before.usual &= (end == entry_end) & (length >= 0) & (end < size) & (size - end <= TAIL)
    end = np.where(before.usual, end, size)
    behind = Cursor(tails(end), size - end)
    for name in _BEHIND:
        length, entry_end = _payload(behind, name)
        numbers[name] = _number_of(behind, length)
        behind.usual &= behind.at == entry_end
    behind.usual &= behind.at == size - end
    return Layout(before.usual & behind.usual, image, end, numbers, strings)


def _payload(cursor: Cursor, name: str) -> tuple[Integers, Integers]:
    """Reads up to the one value of a field; returns its length, and where the field ends."""
    cursor.expect(_INNER)
    length = cursor.number()
    entry_end = cursor.at + length
    cursor.expect(_INNER, len(name), *name.encode(), _FEATURE)
    for tag in (_VALUE_LIST[FIELDS[name]], _INNER):
        length = cursor.number()
        cursor.usual &= cursor.at + length == entry_end
        cursor.expect(tag)
    return cursor.number(), entry_end


def _number_of(cursor: Cursor, length: Integers) -> Integers:
    end = cursor.at + length
    value = cursor.number()
    cursor.usual &= cursor.at == end
    return value
