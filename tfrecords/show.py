"""Shows a converted data set: the manifest in words, and a picture of images beside their copies.

python -m tfrecords.show --data=data/chest_xray
"""

from pathlib import Path

from absl import flags

from tfrecords.command import run
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.sheet import contact_sheet

_DATA = flags.DEFINE_string("data", None, "Folder with manifest.json.", required=True)
_SPLIT = flags.DEFINE_string("split", "train", "Split to draw.")
_COUNT = flags.DEFINE_integer("count", 12, "Images to draw, each with its copies.")
_PNG = flags.DEFINE_string("png", "", "File to draw to. Default: contact_sheet_SPLIT.png in --data.")


def main(_: list[str]) -> None:
    """Parses the flags, prints the manifest in words and saves the sheet."""
    data = Path(_DATA.value)
    manifest = Manifest.load(data)
    sheet = contact_sheet(data, manifest, split=_SPLIT.value, count=_COUNT.value)
    png = Path(_PNG.value) if _PNG.value else data / f"contact_sheet_{_SPLIT.value}.png"
    try:
        sheet.save(png, format="PNG")
    except OSError as error:
        raise InputError(f"--png={png}: cannot be written: {error.strerror}") from None
    print(manifest.describe())
    changes = ", ".join(f"{name} {value}" for name, value in manifest.augmentation.items())
    print(f"copies: {changes}")
    print(f"written with {', '.join(f'{name} {v}' for name, v in manifest.versions.items())}")
    print(f"contact sheet: {png}")


if __name__ == "__main__":
    run(main)
