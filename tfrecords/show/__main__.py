"""Shows a converted data set: the manifest in words, and images beside their copies as a picture or a page.

python -m tfrecords.show --data=data/chest_xray --html=chest_xray.html
"""

import io
import sys
from pathlib import Path

from absl import flags

from tfrecords.augment import Augmentation, describe, draw_transform
from tfrecords.command import define_path, run
from tfrecords.errors import InputError
from tfrecords.files import write_output
from tfrecords.manifest import Manifest
from tfrecords.show.contact_sheet import contact_sheet, dealt_variants, sheet_names
from tfrecords.show.page import data_page
from tfrecords.text.names import legend

_DATA = define_path("data", None, "Folder with manifest.json.", required=True)
_SPLIT = flags.DEFINE_string("split", "train", "Split to draw.")
_COUNT = flags.DEFINE_integer("count", 12, "Images to draw, each with its copies.")
_PNG = define_path(
    "png", "", "File to draw to; - is standard output. Default: contact_sheet_SPLIT.png in --data."
)
_HTML = define_path(
    "html", "", "File for one page of everything, with --count images of each split; - is standard output."
)
_DRAWS = flags.DEFINE_bool("draws", False, "Print the draw of each copy of the images drawn.")


def main(_: list[str]) -> None:
    """Parses the flags, prints the manifest in words and saves the sheet."""
    data = Path(_DATA.value)
    manifest = Manifest.load(data)
    sheet = contact_sheet(data, manifest, split=_SPLIT.value, count=_COUNT.value)
    png = _PNG.value or str(data / f"contact_sheet_{_SPLIT.value}.png")
    if _HTML.value == png:
        raise InputError(f"--html={png}: is --png too; name another file for one of them")
    picture = io.BytesIO()
    sheet.save(picture, format="PNG")
    to_stdout = write_output("--png", png, picture.getvalue())
    lines = [*_in_words(manifest), *(_draws(data, manifest) if _DRAWS.value else ()), f"contact sheet: {png}"]
    if told := legend(manifest.class_names, sheet_names(manifest)):
        lines.append(told)
    if _HTML.value:
        to_stdout |= write_output("--html", _HTML.value, data_page(data, manifest, count=_COUNT.value))
        lines.append(f"page: {_HTML.value}")
    print("\n".join(lines), file=sys.stderr if to_stdout else sys.stdout)


def _in_words(manifest: Manifest) -> list[str]:
    changes = ", ".join(f"{name} {value}" for name, value in manifest.augmentation.items())
    images = {name: split.images for name, split in manifest.splits.items()}
    return [
        manifest.describe(),
        f"copies: {changes}",
        f"written with {', '.join(f'{name} {v}' for name, v in manifest.versions.items())}",
        *manifest.trust.describe(images, manifest.class_names),
    ]


def _draws(data: Path, manifest: Manifest) -> list[str]:
    """Returns a line for each copy of the images on the sheet: drawn anew, as it was for the record."""
    spec = Augmentation(**manifest.augmentation)  # type: ignore[arg-type]  # as the manifest was written
    height, width, _ = manifest.image_shape
    lines = []
    for variants in dealt_variants(data, manifest, _SPLIT.value, _COUNT.value):
        for record in variants:
            if record.copy:
                record_id = record.id.decode()
                transform = draw_transform(
                    spec,
                    seed=manifest.seed,
                    record_id=record_id,
                    copy=record.copy,
                    height=height,
                    width=width,
                )
                lines.append(
                    f"{record_id}, copy {record.copy}: {describe(transform, height=height, width=width)}"
                )
    return lines


if __name__ == "__main__":
    run(main)
