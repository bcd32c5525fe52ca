"""Finds the fields of many records at once, in the bytes that `tfrecords.example.encode` writes.

A record's fields are in alphabetical order, so all but the label and the source lie before the image. Every
tag, name and length is checked: a record that was written in another way is recognised, not misread.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.example import (
    ENTRY_FIELD,
    FEATURE_FIELD,
    FEATURES_FIELD,
    FIELDS,
    LIST_FIELD,
    NAME_FIELD,
    VALUE_FIELD,
    Record,
    encode,
    tag,
)

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_NAMES: Final = tuple(FIELDS)
_BEFORE: Final = _NAMES[: _NAMES.index("image")]
_BEHIND: Final = _NAMES[_NAMES.index("image") + 1 :]
_IMAGE: Final = bytes([tag(NAME_FIELD), len("image")]) + b"image"  # the image's name, tagged
_LONGEST: Final = 9  # bytes of a number below 2**63


@dataclass(frozen=True)
class Layout:
    """The places of all fields but the image; where `usual` is False, the other attributes mean nothing.

    Attributes:
        usual: whether a record has the layout that `encode` writes, bool [N].
        numbers: values of the int64 fields by name, int64 [N].
        strings: start and end of the bytes fields in the data by name, int64 [N] each.
    """

    usual: npt.NDArray[np.bool_]
    numbers: dict[str, Integers]
    strings: dict[str, tuple[Integers, Integers]]


class Cursor:
    """Reads the same thing at many places of an array of bytes, and notes the places with something else."""

    def __init__(self, data: Bytes, at: Integers, end: Integers) -> None:
        """Starts at the first byte of each place.

        Args:
            data: uint8 [M].
            at: start of each place, int64 [N].
            end: end of each place, int64 [N].
        """
        self._data, self._end = data, end
        self.at = at.copy()
        self.usual = np.ones(len(at), bool)

    def expect(self, *values: int) -> None:
        """Passes over bytes that must have these values."""
        for value in values:
            self.usual &= self._byte() == value
            self.at += 1

    def number(self) -> Integers:
        """Reads a varint below 2**63."""
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
        """Passes over so many bytes at each place, which must have them."""
        self.usual &= (count >= 0) & (count <= self._end - self.at)
        self.at = np.where(self.usual, self.at + count, self._end)

    def _byte(self, asked: Any = True) -> Bytes:
        """Returns the byte at each place; a place that is asked for must have one."""
        there = self.at < self._end
        self.usual &= there | np.logical_not(asked)
        return self._data[np.where(there, self.at, 0)]


def before_image(size: int) -> bytes:
    """Returns the bytes that `encode` writes between the field before and an image of `size` bytes."""
    image = b"\xff" * size
    record = encode(Record(image, label=0, id=b"", source=0, copy=0, group=b""))
    return record[record.index(_IMAGE) : record.index(image)]


def located(data: Bytes, start: Integers, before: Integers, behind: Integers, pixels: int) -> Layout:
    """Finds the fields of records whose images are cut out.

    Args:
        data: bytes of all records, uint8 [M].
        start: start of each record in the data, int64 [N].
        before: number of bytes before its image, int64 [N].
        behind: number of bytes behind its image, which follow in the data, int64 [N].
        pixels: bytes of each image.
    """
    head = Cursor(data, start, start + before)
    head.expect(tag(FEATURES_FIELD))
    whole = head.number()
    head.usual &= head.at - start + whole == before + pixels + behind
    numbers: dict[str, Integers] = {}
    strings: dict[str, tuple[Integers, Integers]] = {}
    for name in _BEFORE:
        length, entry_end = _payload(head, name)
        if FIELDS[name] == "int64":
            numbers[name] = _number_of(head, length)
        else:
            strings[name] = head.at, head.at + length
            head.skip(length)
        head.usual &= head.at == entry_end
    length, entry_end = _payload(head, "image")
    head.usual &= (length == pixels) & (head.at == start + before) & (head.at + length == entry_end)
    tail = Cursor(data, start + before, start + before + behind)
    for name in _BEHIND:
        length, entry_end = _payload(tail, name)
        numbers[name] = _number_of(tail, length)
        tail.usual &= tail.at == entry_end
    tail.usual &= tail.at == start + before + behind
    return Layout(head.usual & tail.usual, numbers, strings)


def _payload(cursor: Cursor, name: str) -> tuple[Integers, Integers]:
    """Reads up to the one value of a field; returns the length of the value and the end of the field."""
    cursor.expect(tag(ENTRY_FIELD))
    length = cursor.number()
    entry_end = cursor.at + length
    cursor.expect(tag(NAME_FIELD), len(name), *name.encode(), tag(FEATURE_FIELD))
    for field in (LIST_FIELD[FIELDS[name]], VALUE_FIELD):
        length = cursor.number()
        cursor.usual &= cursor.at + length == entry_end
        cursor.expect(tag(field))
    return cursor.number(), entry_end


def _number_of(cursor: Cursor, length: Integers) -> Integers:
    end = cursor.at + length
    value = cursor.number()
    cursor.usual &= cursor.at == end
    return value
