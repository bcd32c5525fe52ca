"""A contact sheet: originals beside their augmented copies, with labels."""

from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from tfrecords.errors import InputError
from tfrecords.example import Record, decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records

_TILE: Final = 180  # pixels, the longer side of a picture
_MARGIN: Final = 14
_CAPTION: Final = 34
_HEADER: Final = 60
_WIDEST: Final = 1500
_INK, _FAINT, _PAPER, _COPY = (24, 28, 33), (110, 118, 128), (250, 250, 248), (38, 92, 158)


def contact_sheet(directory: Path, manifest: Manifest, *, split: str, count: int) -> Image.Image:
    """Draws `count` images of a split, classes in turn, each followed by its copies.

    Raises:
        InputError: the split is not there, or a shard that is read is damaged.
    """
    if count < 1:
        raise InputError(f"--count={count}: must be 1 or more")
    families = dealt_families(directory, manifest, split, count)
    height, width, _ = manifest.image_shape
    scale = _TILE / max(height, width)
    tile = (max(1, round(width * scale)), max(1, round(height * scale)))
    variants = max(len(family) for family in families)
    step = (tile[0] + 4) * variants - 4 + 2 * _MARGIN
    columns = max(1, min(len(families), (_WIDEST - _MARGIN) // step))
    rows = -(-len(families) // columns)
    size = (columns * step + 2 * _MARGIN, _HEADER + rows * (tile[1] + _CAPTION + _MARGIN) + _MARGIN)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    title = f"{manifest.name}, split {split}: {len(families)} of {manifest.split(split).images:,} images"
    pen.text((2 * _MARGIN, 12), title, _INK, ImageFont.load_default(20))
    kinds = "original" + (", then its augmented copies" if variants > 1 else ", without copies")
    pen.text((2 * _MARGIN, 38), f"Each: {kinds}.", _FAINT, ImageFont.load_default(12))
    for index, family in enumerate(families):
        left = _MARGIN + index % columns * step + _MARGIN
        top = _HEADER + index // columns * (tile[1] + _CAPTION + _MARGIN)
        name = manifest.class_names[family[0].label]
        pen.text((left, top), name, _INK, ImageFont.load_default(14))
        room = (step - 2 * _MARGIN) // 6  # about six pixels a character
        pen.text(
            (left, top + 17), _shortened(family[0].id.decode(), room), _FAINT, ImageFont.load_default(10)
        )
        for turn, record in enumerate(family):
            corner = (left + turn * (tile[0] + 4), top + _CAPTION)
            sheet.paste(picture(record, manifest).resize(tile), corner)
            if record.copy:
                box = (*corner, corner[0] + tile[0] - 1, corner[1] + tile[1] - 1)
                pen.rectangle(box, outline=_COPY, width=2)
    return sheet


def pixels(record: Record, manifest: Manifest) -> npt.NDArray[np.uint8]:
    """Returns a record's image as uint8 [H, W, C]."""
    if manifest.encoding == "raw":
        return np.frombuffer(record.image, np.uint8).reshape(manifest.image_shape)
    with Image.open(BytesIO(record.image)) as image:
        return np.asarray(image).reshape(manifest.image_shape)


def picture(record: Record, manifest: Manifest) -> Image.Image:
    """Returns a record's image to look at."""
    array = pixels(record, manifest)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def dealt_families(directory: Path, manifest: Manifest, split: str, count: int) -> list[list[Record]]:
    """Returns images of the split's first shards with all their variants, classes in turn."""
    by_source: dict[int, list[Record]] = defaultdict(list)
    for shard in manifest.split(split).shards:  # a shard may be small, and hold nothing
        if len(by_source) >= count:
            break
        for data in read_records(directory / shard.name):
            record = decode(data)
            by_source[record.source].append(record)
    by_class: dict[int, list[list[Record]]] = defaultdict(list)
    for family in by_source.values():
        by_class[family[0].label].append(sorted(family, key=lambda record: record.copy))
    turns = max(len(families) for families in by_class.values())
    dealt = [by_class[c][i] for i in range(turns) for c in sorted(by_class) if i < len(by_class[c])]
    return dealt[:count]


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else "…" + text[-(room - 1) :]
