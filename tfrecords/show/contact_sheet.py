"""Draws a contact sheet: originals beside their augmented copies, with labels."""

from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont, features

from tfrecords.errors import InputError
from tfrecords.example import Record, decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records
from tfrecords.stored_image import pixels
from tfrecords.text.fonts import font_of, has_font
from tfrecords.text.names import columns, drawn_names, wrapped

_TILE: Final = 180  # pixels, the longer side of a picture
_MARGIN: Final = 14
_CAPTION: Final = 34  # height with a name of one line; each further line takes `_LINE`
_LINE: Final = 17
_HEADER: Final = 60  # height with a title of one line; each further line takes `_TITLE_LINE`
_TITLE_LINE: Final = 25
_WIDEST: Final = 1500
_INK, _FAINT, _PAPER, _COPY = (24, 28, 33), (110, 118, 128), (250, 250, 248), (38, 92, 158)


def contact_sheet(directory: Path, manifest: Manifest, *, split: str, count: int) -> Image.Image:
    """Draws `count` images of a split, alternating between the classes, each followed by its copies.

    Raises:
        InputError: the data set has no such split, or a shard is damaged.
    """
    if count < 1:
        raise InputError(f"--count={count}: must be 1 or more")
    variants = sample_images(directory, manifest, split, count)
    height, width, _ = manifest.image_shape
    scale = _TILE / max(height, width)
    tile = (max(1, round(width * scale)), max(1, round(height * scale)))
    most = max(len(image_variants) for image_variants in variants)
    step = (tile[0] + 4) * most - 4 + 2 * _MARGIN
    in_a_row = max(1, min(len(variants), (_WIDEST - _MARGIN) // step))
    rows = -(-len(variants) // in_a_row)
    room, across = step - 2 * _MARGIN, in_a_row * step - 2 * _MARGIN
    names = [_fitted(name, room, 14) for name in sheet_names(manifest)]
    title = f"split {split}: {len(variants)} of {manifest.split(split).images:,} images"
    if _is_drawn(manifest.name):
        title = f"{manifest.name}, {title}"
    titles = _fitted(title, across, 20)
    kinds = "original" + (", then its augmented copies" if most > 1 else ", without copies")
    more = [_LINE * (len(names[image_variants[0].label]) - 1) for image_variants in variants]
    caption, header = _CAPTION + max(more), _HEADER + _TITLE_LINE * (len(titles) - 1)
    size = (in_a_row * step + 2 * _MARGIN, header + rows * (tile[1] + caption + _MARGIN) + _MARGIN)
    canvas = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(titles):
        _write(pen, (2 * _MARGIN, 12 + _TITLE_LINE * number), line, _INK, 20)
    _write(pen, (2 * _MARGIN, header - 22), f"Each: {kinds}.", _FAINT, 12)
    for index, image_variants in enumerate(variants):
        left = _MARGIN + index % in_a_row * step + _MARGIN
        top = header + index // in_a_row * (tile[1] + caption + _MARGIN)
        for number, line in enumerate(names[image_variants[0].label]):
            _write(pen, (left, top + _LINE * number), line, _INK, 14)
        shown = _shortened(_id(image_variants[0]), room // 6)  # about six pixels a character
        _write(pen, (left, top + caption - _CAPTION + _LINE), shown, _FAINT, 10)
        for turn, record in enumerate(image_variants):
            corner = (left + turn * (tile[0] + 4), top + caption)
            canvas.paste(picture(record, manifest).resize(tile), corner)
            if record.copy:
                box = (*corner, corner[0] + tile[0] - 1, corner[1] + tile[1] - 1)
                pen.rectangle(box, outline=_COPY, width=2)
    return canvas


def sheet_names(manifest: Manifest) -> list[str]:
    """Returns the text for each class on the sheet: its name, or its number where no font has the name."""
    return drawn_names(manifest.class_names, shapes=_shapes())


def _shapes() -> bool:
    """Returns whether this Pillow can join letters and write from right to left."""
    return bool(features.check("raqm"))


def _font(text: str, size: int) -> Any:
    """Returns a font with the letters of a text; Pillow's own font has ASCII and the ellipsis."""
    path = None if text.strip("…").isascii() else font_of(text, shapes=_shapes())
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


def _fitted(text: str, room: int, size: int) -> list[str]:
    """Returns a text in lines of at most `room` pixels."""
    return wrapped(text, room, _font(text, size).getlength)


def _id(record: Record) -> str:
    """Returns a record's id; its number in sources.csv if no font has the letters of the id."""
    name = record.id.decode()
    return name if _is_drawn(name) else f"source {record.source}"


def _is_drawn(text: str) -> bool:
    return has_font(text, shapes=_shapes())


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, ink: Any, size: int) -> None:
    """Writes a line of text; all fonts share the baseline of Pillow's own font."""
    font = _font(text, size)
    rise = _font("", size).getmetrics()[0] - font.getmetrics()[0]
    pen.text((place[0], place[1] + rise), text, ink, font)


def picture(record: Record, manifest: Manifest) -> Image.Image:
    """Returns a record's image as a Pillow image."""
    array = pixels(record, manifest)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def sample_images(directory: Path, manifest: Manifest, split: str, count: int) -> list[list[Record]]:
    """Returns images of the split's first shards with their variants, alternating between the classes."""
    by_source: dict[int, list[Record]] = defaultdict(list)
    for shard in manifest.split(split).shards:  # one small shard may not hold enough
        if len(by_source) >= count:
            break
        for data in read_records(directory / shard.name):
            record = decode(data)
            by_source[record.source].append(record)
    by_class: dict[int, list[list[Record]]] = defaultdict(list)
    for image_variants in by_source.values():
        by_class[image_variants[0].label].append(sorted(image_variants, key=lambda record: record.copy))
    turns = max(len(variants) for variants in by_class.values())
    in_turn = [by_class[c][i] for i in range(turns) for c in sorted(by_class) if i < len(by_class[c])]
    return in_turn[:count]


def _shortened(text: str, room: int) -> str:
    if columns(text) <= room:
        return text
    while columns(text) > room - 1:
        text = text[1:]
    return "…" + text
