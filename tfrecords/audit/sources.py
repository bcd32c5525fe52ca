"""Numbers of the source files, from sources.csv: how an image was stored tells who made it."""

import csv
from pathlib import Path
from typing import Final

import numpy as np

from tfrecords.audit.numbers import Floats, Number
from tfrecords.manifest import SOURCES_NAME

FAMILY: Final = "source file"
SOURCE_NUMBERS: Final = (
    Number("source_height", "height of the source, pixels", FAMILY),
    Number("source_width", "width of the source, pixels", FAMILY),
    Number("source_aspect", "width of the source over its height", FAMILY),
    Number("source_bytes", "size of the source file, bytes", FAMILY),
    Number("source_density", "bytes of the source file for each pixel", FAMILY),
    Number("source_is_jpeg", "whether the source is a JPEG", FAMILY),
    Number("source_quality", "JPEG quality of the source (-1 if it is no JPEG)", FAMILY),
    Number("source_progressive", "whether the source is a progressive JPEG", FAMILY),
)


def source_numbers(directory: Path, sources: list[int]) -> Floats | None:
    """Returns float64 [N, 8] of the sources of N records, in the order of `SOURCE_NUMBERS`.

    None if the data set does not have the facts of all of them: it is of an older version, or sources.csv is
    not there.
    """
    try:
        with (directory / SOURCES_NAME).open(encoding="utf-8", errors="backslashreplace", newline="") as file:
            rows = {int(row["source"]): row for row in csv.DictReader(file)}
        found = [_numbers(rows[source]) for source in sources]
    except (OSError, KeyError, ValueError, TypeError):
        return None
    return np.array(found, np.float64).reshape(len(found), len(SOURCE_NUMBERS))


def _numbers(row: dict[str, str]) -> tuple[float, ...]:
    height, width, size = (float(row[name]) for name in ("height", "width", "bytes"))
    quality, progressive = float(row["jpeg_quality"]), float(row["jpeg_progressive"])
    return (
        *(height, width, width / height, size, size / (height * width)),
        *(float(row["format"] == "JPEG"), quality, progressive),
    )
