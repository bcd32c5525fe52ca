"""Writes a data set as one self-contained HTML page: tables, histograms, and images of each split."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image

from tfrecords.audit.audit import Audit
from tfrecords.audit.page import audit_section
from tfrecords.duplicates.table import DUPLICATES_NAME, read_sets
from tfrecords.example import Record, decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records
from tfrecords.show.contact_sheet import picture, sample_images

_SHOWN_SETS: Final = 24  # most sets of duplicates of each kind that are shown
_SHOWN_OF_SET: Final = 4
_WIDEST: Final = 240  # pixels of an image in the page
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #181c21; --faint: #66707c; --paper: #fafaf8; --line: #d9dce0;
  --bar: #265c9e; --copy: #265c9e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --faint: #9aa3ad; --paper: #16191d; --line: #363c44; --bar: #6ea3e0;
    --copy: #6ea3e0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1120px; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p, li { max-width: 75ch; } .faint, figcaption { color: var(--faint); font-size: .85rem; }
table { border-collapse: collapse; margin-bottom: 1rem; }
th, td { padding: .25rem .8rem; text-align: right;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; min-width: 10rem; }
td:not(:first-child) { white-space: nowrap; }
.name { min-width: 10rem; } svg { display: block; } svg rect { fill: var(--bar); }
.scroll { overflow-x: auto; }
.images { display: flex; flex-wrap: wrap; gap: 1rem 1.6rem; }
figure { margin: 0; }
figure div { display: flex; gap: 4px; }
figcaption { overflow-wrap: anywhere; }
img { width: 120px; border: 2px solid transparent; }
img.copy { border-color: var(--copy); }
"""


def data_page(directory: Path, manifest: Manifest, *, count: int, audit: Audit | None = None) -> bytes:
    """Returns the page as UTF-8: without scripts, with embedded images, light or dark as the reader's system.

    Args:
        directory: folder of the data set.
        manifest: manifest of the data set.
        count: number of images of each split, each with its copies.
        audit: the shortcut audit of a split, which gets a section of its own.

    Raises:
        InputError: a shard is damaged.
    """
    height, width, channels = manifest.image_shape
    augmentation = ", ".join(f"{name} {value}" for name, value in manifest.augmentation.items())
    parts = [
        f"<h1>{_text(manifest.name)}</h1>",
        f"<p class=faint>{height}x{width}x{channels} {manifest.encoding}, "
        f"{_text(manifest.copies_in_words())}, seed {manifest.seed}</p>",
        "<h2>Splits</h2>",
        _splits_table(manifest),
        f"<p class=faint>Copies: {_text(augmentation)}. {len(manifest.rejected):,} images rejected.</p>",
        "<h2>How far the splits can be trusted</h2>",
        "<ul>"
        + "".join(
            f"<li>{_text(line[0].upper() + line[1:])}</li>"
            for line in manifest.split_quality.describe(
                {name: split.images for name, split in manifest.splits.items()}, manifest.class_names
            )
        )
        + "</ul>",
        "<h2>Class balance</h2>",
        *(_classes_table(manifest, name) for name in manifest.splits),
        "<h2>Sizes of the source images</h2>",
        _histogram("width, pixels", manifest.split_quality.source_widths),
        _histogram("height, pixels", manifest.split_quality.source_heights),
    ]
    if audit:
        parts += [f"<h2>Shortcut audit of {_text(audit.split)}</h2>", audit_section(audit)]
    for name, split in manifest.splits.items():
        shown = sample_images(directory, manifest, name, count)
        copies = " Copies have a coloured border." if manifest.copies and name == "train" else ""
        parts += [
            f"<h2>Split {_text(name)}</h2>",
            f"<p class=faint>{len(shown)} of {split.images:,} images.{copies}</p>",
            "<div class=images>",
            *(_figure([(record, "") for record in variants], manifest) for variants in shown),
            "</div>",
        ]
    parts += _duplicates(directory, manifest)
    body = "\n".join(parts)
    title = _text(manifest.name)
    return (
        f"<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        f'<meta name=viewport content="width=device-width">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    ).encode()


def _splits_table(manifest: Manifest) -> str:
    head = ["split", "groups", "images", "records", "largest group", "shards"]
    rows = [
        [
            _text(name),
            f"{split.groups:,}",
            f"{split.images:,}",
            f"{split.records:,}",
            f"{manifest.split_quality.images_in_largest_group.get(name, 0):,}",
            f"{len(split.shards):,}",
        ]
        for name, split in manifest.splits.items()
    ]
    return _table(head, rows)


def _classes_table(manifest: Manifest, split: str) -> str:
    counts = dict(zip(manifest.class_names, manifest.splits[split].records_per_class, strict=True))
    return _histogram(f"records in {split}", counts, share=True)


def _histogram(name: str, counts: Mapping[str, int], *, share: bool = False) -> str:
    """Returns a table with a bar in each row, whose length is the count."""
    most, total = max(counts.values(), default=1) or 1, sum(counts.values())
    rows = [
        [
            _text(label),
            f"{count:,}",
            *([f"{count / total:.1%}"] if share else []),
            f'<svg width=320 height=14 role=img aria-label="{count:,}">'
            f'<rect width="{320 * count / most:.1f}" height=14 rx=2></rect></svg>',
        ]
        for label, count in counts.items()
    ]
    return _table([f"<div class=name>{_text(name)}</div>", "count", *(["share"] if share else []), ""], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<div class=scroll><table>{line(head, 'th')}{body}</table></div>"


def _duplicates(directory: Path, manifest: Manifest) -> list[str]:
    """Returns the section on duplicates: the first sets of each kind, those in two splits first."""
    sets = read_sets(directory / DUPLICATES_NAME)
    titles = {
        "near": "Images in two splits that look the same",
        "exact": "Images that are the same to the pixel",
    }
    parts: list[str] = []
    for kind, title in titles.items():
        own = [[(name, split) for name, split in images if split] for found, images in sets if found == kind]
        own = [images for images in own if len(images) > 1]
        own.sort(key=lambda images: len({split for _, split in images}) == 1)
        if not own:
            continue
        shown = [images[:_SHOWN_OF_SET] for images in own[:_SHOWN_SETS]]
        records = _originals(directory, manifest, {image for images in shown for image in images})
        parts += [
            f"<h2>{title}</h2>",
            f"<p class=faint>{len(shown)} of {len(own):,} sets listed in {DUPLICATES_NAME}.</p>",
            "<div class=images>",
            *(_figure([(records[image], image[1]) for image in images], manifest) for images in shown),
            "</div>",
        ]
    return parts


def _originals(
    directory: Path, manifest: Manifest, wanted: set[tuple[str, str]]
) -> dict[tuple[str, str], Record]:
    """Returns the original of each (id, split); reads a split only until all of its originals are found."""
    found: dict[tuple[str, str], Record] = {}
    for name, split in manifest.splits.items():
        missing = {identity.encode() for identity, own in wanted if own == name}
        for shard in split.shards:
            if not missing:
                break
            for data in read_records(directory / shard.name):
                record = decode(data)
                if record.copy == 0 and record.id in missing:
                    found[record.id.decode(), name] = record
                    missing.discard(record.id)
    return found


def _figure(images: Sequence[tuple[Record, str]], manifest: Manifest) -> str:
    """Returns images side by side, with label and id of each one that is no copy."""
    pictures = "".join(
        f'<img src="{_data(picture(record, manifest))}" alt="{_text(record.id.decode())}"'
        f"{' class=copy' * bool(record.copy)}>"
        for record, _ in images
    )
    captions = "<br>".join(
        f"{_text(manifest.class_names[record.label])}{f', {split}' * bool(split)}: "
        f"{_text(record.id.decode())}"
        for record, split in images
        if not record.copy
    )
    width = len(images) * 128
    caption = f"<figcaption>{captions}</figcaption>"
    return f'<figure style="max-width:{width}px"><div>{pictures}</div>{caption}</figure>'


def _data(image: Image.Image) -> str:
    image.thumbnail((_WIDEST, _WIDEST))
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _text(text: str) -> str:
    return html.escape(text)
