"""TFRecord framing: length, its CRC, data, its CRC.

The format is that of tensorflow/core/lib/io/record_writer.h: little-endian 64-bit length, masked
CRC-32C of the length, the bytes, masked CRC-32C of the bytes.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from tfrecords.errors import InputError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h


def frame(data: bytes) -> bytes:
    """Returns the bytes of one record in a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _FOOTER.pack(_masked_crc(length)), data, _FOOTER.pack(_masked_crc(data))))


def read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, both CRCs of each checked.

    Raises:
        InputError: a record is cut or damaged; names the file, the record and its byte offset.
    """
    with path.open("rb") as file:
        number = offset = 0
        while header := file.read(_HEADER.size):
            where = f"{path}: record {number} at byte {offset}"
            if len(header) < _HEADER.size:
                raise InputError(f"{where} is cut in its header; convert again")
            length, crc = _HEADER.unpack(header)
            if _masked_crc(header[:8]) != crc:
                raise InputError(f"{where} has a damaged length (CRC mismatch); convert again")
            data, footer = file.read(length), file.read(_FOOTER.size)
            if len(footer) < _FOOTER.size:
                raise InputError(f"{where} is cut: {length} bytes announced; convert again")
            if _masked_crc(data) != _FOOTER.unpack(footer)[0]:
                raise InputError(f"{where} has damaged data (CRC mismatch); convert again")
            yield data
            number += 1
            offset = file.tell()


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
