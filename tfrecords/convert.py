"""Converts an image folder into sharded TFRecords, once, with the augmented copies baked in.

    python -m tfrecords.convert --images=chest_xray --out=data/chest_xray

The folder holds one folder for each class, or `train`, `val` and `test` folders with these inside.
A missing val or test split is carved from train, whole groups (patients) at a time. The same
command again resumes what was interrupted and leaves alone what is complete.
"""

from pathlib import Path

from absl import flags

from tfrecords.augment import Augmentation
from tfrecords.command import run
from tfrecords.conversion import (
    Conversion,
    ConvertOptions,
    convert_images,
    parse_bytes,
    parse_size,
)
from tfrecords.manifest import ENCODINGS

_DEFAULT = ConvertOptions(Path(), Path())
_STRENGTHS = _DEFAULT.augmentation

_IMAGES = flags.DEFINE_string("images", None, "Folder of the images.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for shards and manifest.json.", required=True)
_NAME = flags.DEFINE_string("name", "", "First part of the shard names; the folder's name if empty.")
_SIZE = flags.DEFINE_string("size", "180", "Pixels: one number, or HEIGHTxWIDTH.")
_CHANNELS = flags.DEFINE_enum(
    "channels", "grayscale", ["grayscale", "rgb", "1", "3"], "Channels of the records."
)
_GROUP_REGEX = flags.DEFINE_string(
    "group_regex",
    None,
    "Finds what must not be split, a patient for example, in an image's path below its class "
    "folder; its first group counts. Default: the chest X-ray naming; an image whose name does "
    "not follow it is a group of its own.",
)
_VAL = flags.DEFINE_float("val_fraction", _DEFAULT.val_fraction, "Share for a missing val split.")
_TEST = flags.DEFINE_float(
    "test_fraction",
    None,
    "Share for a missing test split. Default: 0.15 for plain class folders, else 0.",
)
_COPIES = flags.DEFINE_integer("copies", _DEFAULT.copies, "Augmented copies of each train image.")
_FLIP = flags.DEFINE_float("flip", _STRENGTHS.flip, "Probability of a left-right flip.")
_ROTATION = flags.DEFINE_float("rotation", _STRENGTHS.rotation, "Degrees to either side.")
_ZOOM = flags.DEFINE_float("zoom", _STRENGTHS.zoom, "Share of the size, in or out.")
_CROP = flags.DEFINE_float("crop", _STRENGTHS.crop, "Share of the size cut away at most.")
_TRANSLATION = flags.DEFINE_float("translation", _STRENGTHS.translation, "Share of the size.")
_BRIGHTNESS = flags.DEFINE_float("brightness", _STRENGTHS.brightness, "Share of the grey range.")
_CONTRAST = flags.DEFINE_float("contrast", _STRENGTHS.contrast, "Share of the contrast.")
_FILL = flags.DEFINE_enum(
    "fill", _STRENGTHS.fill, ["reflect", "edge"], "What a copy shows beyond the image's border."
)
_ENCODING = flags.DEFINE_enum(
    "encoding", _DEFAULT.encoding, ENCODINGS, "raw trains fastest, png is smaller, jpeg is lossy."
)
_SHARD_SIZE = flags.DEFINE_string("shard_size", "64MB", "About; with KB, MB or GB.")
_SEED = flags.DEFINE_integer("seed", _DEFAULT.seed, "Of splits, order and copies.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace another conversion in --out.")
_WORKERS = flags.DEFINE_integer("workers", _DEFAULT.workers, "Processes; 0: one for each core.")


def main(_: list[str]) -> None:
    """Parses the flags and converts."""
    options = ConvertOptions(
        images=Path(_IMAGES.value),
        out=Path(_OUT.value),
        name=_NAME.value,
        size=parse_size(_SIZE.value),
        channels={"grayscale": 1, "1": 1, "rgb": 3, "3": 3}[_CHANNELS.value],
        group_regex=_GROUP_REGEX.value,
        val_fraction=_VAL.value,
        test_fraction=_TEST.value,
        copies=_COPIES.value,
        augmentation=Augmentation(
            flip=_FLIP.value,
            rotation=_ROTATION.value,
            zoom=_ZOOM.value,
            crop=_CROP.value,
            translation=_TRANSLATION.value,
            brightness=_BRIGHTNESS.value,
            contrast=_CONTRAST.value,
            fill=_FILL.value,
        ),
        encoding=_ENCODING.value,
        shard_size=parse_bytes(_SHARD_SIZE.value),
        seed=_SEED.value,
        overwrite=_OVERWRITE.value,
        workers=_WORKERS.value,
    )
    print(_summary(options, convert_images(options)))


def _summary(options: ConvertOptions, conversion: Conversion) -> str:
    manifest = conversion.manifest
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    images = sum(split.images for split in manifest.splits.values())
    size = sum(shard.bytes for shard in shards) / 1e6
    done = "complete already, left alone" if conversion.was_complete else "converted"
    rate = images / max(conversion.seconds, 1e-9)
    return (
        f"{options.out}: {done}\n{manifest.describe()}\n"
        f"{len(shards)} shards, {size:,.1f} MB, {len(manifest.rejected)} images rejected, "
        f"{conversion.seconds:.1f} s"
        + ("" if conversion.was_complete else f", {rate:,.0f} images/s")
        + f"\nNext:\n  python -m tfrecords.show --data={options.out}\n"
        f"  python -m trainer.main --data={options.out} --strategy=mirrored --model=cnn"
    )


if __name__ == "__main__":
    run(main)
