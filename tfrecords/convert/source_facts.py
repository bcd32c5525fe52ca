"""What the header of a source file tells of how it was made: columns of sources.csv that the audit reads.

They hold no name, no date and no other text of the file.
"""

from functools import lru_cache
from typing import Final

import numpy as np

from tfrecords.images.kinds import HEAD_BYTES, check_kind

FACTS: Final = ("height", "width", "bytes", "format", "jpeg_quality", "jpeg_progressive")

# Quantisation of luma at quality 50, in the order of rows. Source: ITU-T T.81 (1992), table K.1.
_LUMA: Final = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_QUALITIES: Final = range(1, 101)
_TABLES, _START_OF_SCAN, _END = 0xDB, 0xDA, 0xD9
_PROGRESSIVE: Final = (0xC2, 0xC6, 0xCA, 0xCE)
_WITHOUT_LENGTH: Final = (0x01, *range(0xD0, 0xD9))


def facts_of(data: bytes, size: tuple[int, int]) -> tuple[int, int, int, str, int, int]:
    """Returns the facts of an image file that could be decoded, in the order of `FACTS`.

    Args:
        data: the whole file.
        size: (height, width) before the resize, pixels.

    Returns:
        Height and width in pixels, bytes of the file, its kind, and of a JPEG the quality from 1 to 100 that
        its luma table is nearest to, and whether it is progressive; -1 for both of other kinds.
    """
    kind = check_kind(data[:HEAD_BYTES])
    quality, progressive = _jpeg(data) if kind == "JPEG" else (-1, -1)
    return (*size, len(data), kind, quality, progressive)


def _jpeg(data: bytes) -> tuple[int, int]:
    """Returns quality and whether it is progressive, from the segments before the first scan."""
    quality, progressive, at = -1, 0, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in (_START_OF_SCAN, _END):
            break
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _TABLES and quality < 0:
            quality = _quality(data[at + 4 : at + 2 + length])
        progressive |= marker in _PROGRESSIVE
        at += 2 + length
    return quality, int(progressive)


@lru_cache(maxsize=256)
def _quality(tables: bytes) -> int:
    """Returns the quality that the first table of a segment is nearest to; -1: there is no whole table.

    Files list a table in zigzag order; sorted values are compared, so that the order does not matter.
    """
    wide = tables[:1] and tables[0] >> 4
    values = np.frombuffer(tables[1 : 129 if wide else 65], ">u2" if wide else np.uint8)
    if len(values) != len(_LUMA):
        return -1
    away = np.abs(_tables_of_qualities() - np.sort(values).astype(np.int64)).sum(axis=1)
    return _QUALITIES[int(away.argmin())]


@lru_cache(maxsize=1)
def _tables_of_qualities() -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Returns int64 [qualities, 64], each row sorted, scaled as libjpeg's `jpeg_quality_scaling` does."""
    quality = np.array(_QUALITIES)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = np.clip((np.array(_LUMA) * scale + 50) // 100, 1, 255)
    return np.sort(tables, axis=1).astype(np.int64)
