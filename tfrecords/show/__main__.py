"""Shows a converted data set: prints its manifest, and draws images with their copies as a picture or a page.

python -m tfrecords.show --data=data/chest_xray --html=chest_xray.html
"""

import io
import os
import sys
from pathlib import Path

from absl import flags

from tfrecords.audit.audit import Audit, audit_split
from tfrecords.audit.audit import describe as describe_audit
from tfrecords.augment import Augmentation, describe, draw_transform
from tfrecords.command import define_path, run
from tfrecords.errors import InputError
from tfrecords.files.outputs import write_output
from tfrecords.manifest import Manifest
from tfrecords.pool import Pool
from tfrecords.show.contact_sheet import contact_sheet, sample_images, sheet_names
from tfrecords.show.page import data_page
from tfrecords.text.names import legend

_DATA = define_path("data", None, "Folder of the data set, with its manifest.json.", required=True)
_SPLIT = flags.DEFINE_string("split", "train", "Split whose images the contact sheet and --audit take.")
_COUNT = flags.DEFINE_integer(
    "count",
    12,
    "Number of images, each with its copies, that the contact sheet shows, and that the page shows for each "
    "split.",
)
_PNG = define_path(
    "png",
    "",
    "PNG file of the contact sheet; - writes it to standard output. Default: contact_sheet_SPLIT.png in "
    "--data.",
)
_HTML = define_path(
    "html",
    "",
    "HTML file of a page with the tables of the data set and --count images of each split; - writes it to "
    "standard output. Default: no page.",
)
_DRAWS = flags.DEFINE_bool(
    "draws",
    False,
    "Print how each copy on the contact sheet differs from its image: turn in degrees, enlargement, shift in "
    "pixels, exponent of the tone curve, contrast and brightness.",
)
_AUDIT = flags.DEFINE_bool(
    "audit",
    False,
    "Audit --split for a shortcut: measure numbers of each whole image that carry no anatomy (exposure, "
    "black and white level, sharpness, noise, borders), print how well they alone predict the class, and "
    "add the result to --html. It takes some 2 s for 1,000 images.",
)


def main(_: list[str]) -> None:
    """Parses the flags, prints the manifest, saves the contact sheet and, if asked for, the page."""
    data = Path(_DATA.value)
    manifest = Manifest.load(data)
    sheet = contact_sheet(data, manifest, split=_SPLIT.value, count=_COUNT.value)
    png = _PNG.value or str(data / f"contact_sheet_{_SPLIT.value}.png")
    if _HTML.value == png:
        raise InputError(f"--html={png}: is also the file of --png; choose another file for one of them")
    picture = io.BytesIO()
    sheet.save(picture, format="PNG")
    to_stdout = write_output("--png", png, picture.getvalue())
    audit = _audited(data, manifest) if _AUDIT.value else None
    lines = [
        *_summary(manifest),
        *(describe_audit(audit) if audit else ()),
        *(_transforms(data, manifest) if _DRAWS.value else ()),
        f"contact sheet: {png}",
    ]
    if names := legend(manifest.class_names, sheet_names(manifest)):
        lines.append(names)
    if _HTML.value:
        to_stdout |= write_output(
            "--html", _HTML.value, data_page(data, manifest, count=_COUNT.value, audit=audit)
        )
        lines.append(f"page: {_HTML.value}")
    print("\n".join(lines), file=sys.stderr if to_stdout else sys.stdout)


def _audited(data: Path, manifest: Manifest) -> Audit:
    with Pool(len(os.sched_getaffinity(0))) as pool:
        return audit_split(data, manifest, _SPLIT.value, pool)


def _summary(manifest: Manifest) -> list[str]:
    changes = ", ".join(f"{name} {value}" for name, value in manifest.augmentation.items())
    images = {name: split.images for name, split in manifest.splits.items()}
    return [
        manifest.describe(),
        f"copies: {changes}",
        f"written with {', '.join(f'{name} {v}' for name, v in manifest.versions.items())}",
        *manifest.split_quality.describe(images, manifest.class_names),
    ]


def _transforms(data: Path, manifest: Manifest) -> list[str]:
    """Returns a line for each copy on the sheet; its transform is drawn again as for the record."""
    spec = Augmentation(**manifest.augmentation)  # type: ignore[arg-type]  # checked there
    height, width, _ = manifest.image_shape
    lines = []
    for variants in sample_images(data, manifest, _SPLIT.value, _COUNT.value):
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
