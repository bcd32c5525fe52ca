"""The TFRecord file format: for each record its length, a CRC of the length, the data, a CRC of the data.

The format is that of tensorflow/core/lib/io/record_writer.h: little-endian 64-bit length, masked
CRC-32C of the length, the bytes, masked CRC-32C of the bytes.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import google_crc32c

from tfrecords.errors import InputError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h
HEADER_SIZE: Final = _HEADER.size  # bytes before a record's data
FOOTER_SIZE: Final = _FOOTER.size  # bytes after it


def frame(data: bytes) -> bytes:
    """Returns the bytes of one record in a TFRecord file."""
    return b"".join((header(len(data)), data, _FOOTER.pack(_masked_crc(data))))


def header(size: int) -> bytes:
    """Returns the header of a record with `size` bytes of data."""
    length = struct.pack("<Q", size)
    return length + _FOOTER.pack(_masked_crc(length))


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file and checks both CRCs of each.

    Raises:
        InputError: a record is cut or damaged; the message names the file, the record and its byte offset.
    """
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        number = offset = 0
        while head := file.read(_HEADER.size):
            where = f"{path}: record {number} at byte {offset}"
            if len(head) < _HEADER.size:
                raise InputError(f"{where} is cut in its header; convert again")
            length, crc = _HEADER.unpack(head)
            if _masked_crc(head[:8]) != crc:
                raise InputError(f"{where} has a damaged length (CRC mismatch); convert again")
            if length > end - offset:  # checked before so much memory is allocated
                raise InputError(f"{where} is cut: {length} bytes announced; convert again")
            data, footer = file.read(length), file.read(_FOOTER.size)
            if len(footer) < _FOOTER.size:
                raise InputError(f"{where} is cut: {length} bytes announced; convert again")
            if _masked_crc(data) != _FOOTER.unpack(footer)[0]:
                raise InputError(f"{where} has damaged data (CRC mismatch); convert again")
            yield data
            number += 1
            offset = file.tell()


def read_spans(path: Path, *, record: int = 0, offset: int = 0) -> Iterator[tuple[int, int]]:
    """Yields the (offset, size) in bytes of each record's frame; reads only its header, 12 bytes a record.

    Args:
        path: of the file.
        record: number of the first record.
        offset: the byte at which that record starts.

    Raises:
        InputError: a record is cut or its length is damaged; the message names file, record and byte offset.
    """
    with path.open("rb", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        number = record
        while offset < end:
            where = f"{path}: record {number} at byte {offset}"
            file.seek(offset)
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                raise InputError(f"{where} is cut in its header; convert again")
            length, crc = _HEADER.unpack(head)
            if _masked_crc(head[:8]) != crc:
                raise InputError(f"{where} has a damaged length (CRC mismatch); convert again")
            size = _HEADER.size + length + _FOOTER.size
            if offset + size > end:
                raise InputError(f"{where} is cut: {length} bytes announced; convert again")
            yield offset, size
            number += 1
            offset += size


def frame_length(head: bytes) -> int:
    """Returns the length of a record's data, from the first bytes of its frame.

    Raises:
        ValueError: the header is cut or damaged.
    """
    if len(head) < _HEADER.size:
        raise ValueError("cut in its header")
    length, crc = _HEADER.unpack_from(head)
    if _masked_crc(head[:8]) != crc:
        raise ValueError("a damaged length (CRC mismatch)")
    return length


def masked(crc: Any) -> Any:
    """Returns masked CRC-32Cs, the form that frames store; takes an int, or int64 [N]."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _masked_crc(data: bytes) -> int:
    return masked(google_crc32c.value(data))
