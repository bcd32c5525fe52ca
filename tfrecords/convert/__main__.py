"""Converts a folder of images into sharded TFRecords, once, with augmented copies.

    python -m tfrecords.convert --images=chest_xray --out=data/chest_xray

The image folder holds one folder for each class. Or it holds `train`, `val` and `test` folders with class
folders inside, or each class folder holds `train`, `val` and `test`. With --listing, a CSV or Parquet file
names the images, their classes, groups and splits instead. If the val or test split is missing, whole groups
(patients, for example) are moved into it from train. The same command again resumes an interrupted conversion
and leaves a complete one alone.
"""

from dataclasses import replace
from pathlib import Path

from absl import flags

from tfrecords.augment import LATER, PRESETS
from tfrecords.command import define_path, flag_group, run
from tfrecords.convert.balance import parse_copies
from tfrecords.convert.conversion import Conversion, convert_images, convert_task
from tfrecords.convert.engines import ENGINES, Engine, parse_task
from tfrecords.convert.options import ConvertOptions, parse_bytes, parse_size
from tfrecords.convert.remote import convert_remote
from tfrecords.duplicates.sets import POLICIES
from tfrecords.duplicates.table import DUPLICATES_NAME
from tfrecords.errors import InputError
from tfrecords.files.urls import is_remote
from tfrecords.images.resize import RESIZES
from tfrecords.images.wide import parse_value_range
from tfrecords.manifest import ENCODINGS
from tfrecords.positive import positive_in_words
from tfrecords.sources.rejection import REJECTED_NAME, parse_max_rejects, shown

_DEFAULT = ConvertOptions(Path(), Path())

flag_group("Source images")
_IMAGES = define_path("images", None, "The folder of the images, or its URL.", required=True)
_LISTING = define_path(
    "listing",
    None,
    "CSV file (with a header; separated by commas, semicolons, tabs or |) or Parquet file that names the "
    "images to convert; no others are converted. The column path is relative to --images, label is the "
    "class name. Optional columns: group replaces --group_regex, and split (train, val or test) is kept as "
    "it is.",
)
_COLUMNS = {
    what: flags.DEFINE_string(
        f"{what}_column", None, f"The name of the --listing's column {text}. Default: {what}."
    )
    for what, text in {
        "path": "of image paths",
        "label": "of class names",
        "group": "of groups (patients, for example), each of which stays in one split",
        "split": "of splits",
    }.items()
}
_ALLOW_COLUMNS = flags.DEFINE_bool(
    "allow_columns", False, "Ignore all other columns of the --listing. Without this flag they are an error."
)
_SUBFOLDERS = flags.DEFINE_string(
    "subfolders",
    "",
    "How to treat folders of the same name inside two or more class folders. Without this flag they are "
    "refused. keep: all images below a class folder belong to its class; if each such folder is a patient, "
    "add --group_regex='^([^/]+)/'. ignore=NAMES (for example ignore=masks,other): skip folders of these "
    "names and keep all others.",
)
_MAX_REJECTS = flags.DEFINE_string(
    "max_rejects",
    "0",
    "How many unusable images may be left out: a number, or a percentage such as 0.5%. They are listed with "
    "reasons in manifest.json and rejected.csv.",
)
_DUPLICATES = flags.DEFINE_enum(
    "duplicates",
    _DEFAULT.duplicates,
    POLICIES,
    "How to treat images that are equal to the pixel. refuse: stop if equal images are in two splits or "
    "have two labels. keep: convert all of them. drop: keep the first of each set, in any split; every "
    "image is then decoded twice. With each choice they are counted, and listed in duplicates.csv.",
)

flag_group("Classes, groups and splits")
_CLASSES = flags.DEFINE_list(
    "classes",
    [],
    "The names of all classes in the order of their labels, for example healthy,sick. Default: sorted by "
    "name, or by value if the names are numbers.",
)
_POSITIVE = flags.DEFINE_string(
    "positive",
    _DEFAULT.positive,
    "Of two classes, the positive one: reports give its sensitivity. It may be given later for finished "
    "shards. Default: the class whose name does not mean normal (normal, healthy, negative, no_finding, "
    "benign, control, ...).",
)
_GROUP_REGEX = flags.DEFINE_string(
    "group_regex",
    None,
    "Regular expression that finds an image's group, for example its patient, in its path below the class "
    "folder: the first parenthesised part of the match. Default: the naming of the chest X-ray data; an "
    "image without a match is a group of its own.",
)
_GROUP_KEY_FILE = define_path(
    "group_key_file",
    None,
    "File with a secret of at least 32 random bytes. Groups and ids are hashed with it, errors name no "
    "file, and DICOM images, which require it, are grouped by patient. To make one: head -c 32 /dev/urandom "
    "> FILE",
)
_VAL = flags.DEFINE_float(
    "val_fraction", _DEFAULT.val_fraction, "The share of images, from 0 to 1, for a missing val split."
)
_TEST = flags.DEFINE_float(
    "test_fraction",
    None,
    "The share of images, from 0 to 1, for a missing test split. Default: 0.15 for plain class folders, "
    "else 0.",
)
_SEED = flags.DEFINE_integer(
    "seed", _DEFAULT.seed, "The seed of the random splits, the order of the records, and the copies."
)

flag_group("Images in the records")
_SIZE = flags.DEFINE_string(
    "size", "180", "Height and width in pixels: one number for both, or HEIGHTxWIDTH."
)
_CHANNELS = flags.DEFINE_enum(
    "channels",
    "grayscale",
    ["grayscale", "rgb", "1", "3"],
    "The channels of the images. grayscale or 1: keep only the brightness. rgb or 3: keep the colour.",
)
_RESIZE = flags.DEFINE_enum(
    "resize",
    _DEFAULT.resize,
    RESIZES,
    "How an image of another shape is fitted to --size. stretch: both sides are scaled, the aspect ratio "
    "changes. pad: the whole image is kept, and black bars fill the rest. crop: the image fills the size, "
    "and the parts that stick out are cut off evenly. Prediction does the same.",
)
_VALUE_RANGE = flags.DEFINE_string(
    "value_range",
    _DEFAULT.value_range,
    "Which values become black and white in grayscale images of more than 8 bits, such as 16-bit PNG and "
    "TIFF; DICOM files bring their own. full: 0, and the largest value that the file format can hold. "
    "LOW:HIGH (for example 0:4095): these two; other values are clipped. auto: 0, and the largest value of "
    "the bits that are in use, found in all images before the conversion. Prediction does the same.",
)
_ENCODING = flags.DEFINE_enum(
    "encoding",
    _DEFAULT.encoding,
    ENCODINGS,
    "How images are stored. raw: uncompressed, fastest to train on. png: compressed without loss. jpeg: "
    "smallest, with loss.",
)

flag_group("Augmented copies of train images")
_COPIES = flags.DEFINE_string(
    "copies",
    str(_DEFAULT.copies),
    "Augmented copies of each train image. N: this number for every class. balance: so many for each class "
    "that all classes become about equally frequent, and none for the largest. balance:N: the same, with N "
    "for the largest class. With --augment=none the default is 0.",
)
_AUGMENT = flags.DEFINE_enum(
    "augment",
    "standard",
    list(PRESETS),
    "A preset of the strengths below; a flag for one strength overrides the preset. radiograph is standard "
    "without the flip, exposure is radiograph with gamma, robust has all changes but the flip. "
    + "; ".join(
        f"{n}: {', '.join(f'{k} {v:g}' for k, v in p.strengths() if v or k not in LATER)}"
        for n, p in PRESETS.items()
    )
    + ".",
)
_STRENGTHS = {
    "flip": flags.DEFINE_float("flip", None, "The probability of a left-right flip, from 0 to 1."),
    "rotation": flags.DEFINE_float("rotation", None, "The largest rotation to either side, in degrees."),
    "zoom": flags.DEFINE_float("zoom", None, "The largest zoom in or out, as a share of the size."),
    "crop": flags.DEFINE_float("crop", None, "The largest cut, as a share of the size."),
    "translation": flags.DEFINE_float("translation", None, "The largest shift, as a share of the size."),
    "brightness": flags.DEFINE_float(
        "brightness", None, "The largest change of brightness, as a share of the grey range."
    ),
    "contrast": flags.DEFINE_float("contrast", None, "The largest change of contrast, as a share of it."),
    "gamma": flags.DEFINE_float(
        "gamma",
        None,
        "The largest change of the exposure: the exponent of the tone curve is drawn from 1/(1+gamma) to "
        "1+gamma. 0 turns it off.",
    ),
    "stretch": flags.DEFINE_float(
        "stretch",
        None,
        "The largest change of the ratio of width and height: it is drawn from 1/(1+stretch) to 1+stretch, "
        "and the area stays. 0 turns it off.",
    ),
    "shear": flags.DEFINE_float(
        "shear", None, "The largest angle by which upright lines lean to either side, in degrees, up to 45."
    ),
    "blur": flags.DEFINE_float(
        "blur",
        None,
        "The largest standard deviation of a Gaussian blur, as a share of the shorter side, up to 0.1.",
    ),
    "noise": flags.DEFINE_float(
        "noise", None, "The largest standard deviation of the noise, as a share of the grey range."
    ),
    "rescale": flags.DEFINE_float(
        "rescale",
        None,
        "The largest share of the resolution that is lost: the copy is made smaller by it, then enlarged "
        "again.",
    ),
    "fill": flags.DEFINE_enum(
        "fill",
        None,
        ["reflect", "edge"],
        "How a copy continues beyond the border of the image. reflect: mirrored, the default. edge: with the "
        "pixel at the border.",
    ),
}

flag_group("Output")
_OUT = define_path("out", None, "The folder for shards and manifest.json, or its URL.", required=True)
_NAME = flags.DEFINE_string(
    "name", "", "The first part of the shards' names. Default: the name of the image folder."
)
_SHARD_SIZE = flags.DEFINE_string(
    "shard_size",
    None,
    "The approximate size of a shard in bytes, or with KB, MB or GB (powers of 1,024). Default: 64MB; less "
    "if a split of 100 images or more would have fewer than 16 shards, because each shard is the work of "
    "one process.",
)
_DALI_INDEX = flags.DEFINE_bool(
    "dali_index",
    False,
    "Also write index/SHARD.idx for NVIDIA DALI and for PyTorch's tfrecord package. It may be given later "
    "for finished shards.",
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace another conversion in --out, or the conversion of images that have changed since.",
)
_CHECK_SOURCES = flags.DEFINE_bool(
    "check_sources",
    False,
    "Read every image of a finished conversion and compare it with what was converted. Without this flag, "
    "only images whose size, modification time, change time or inode has changed are read.",
)

flag_group("Processes and machines")
_WORKERS = flags.DEFINE_integer(
    "workers", _DEFAULT.workers, "How many processes work on this machine. 0: one for each core."
)
_WORK = define_path(
    "work",
    None,
    "A local folder for copies, required if --images or --out is a URL such as s3://bucket/folder. The same "
    "command again continues with what is in it.",
)
_TASK = flags.DEFINE_string(
    "task",
    None,
    "I/N: write only the shards of task I of N, in an array job of a scheduler. All tasks get the same other "
    "flags and share --out. After all of them, run the command once with --finish.",
)
_FINISH = flags.DEFINE_bool(
    "finish", False, "Complete a conversion whose shards were written by tasks: write manifest.json."
)
_ENGINE = flags.DEFINE_enum(
    "engine",
    _DEFAULT.engine.name,
    ENGINES,
    "What writes the shards. local: processes on this machine. beam: the Apache Beam runner in --beam_args.",
)
_BEAM_ARGS = flags.DEFINE_string(
    "beam_args",
    "",
    "The flags of Apache Beam in one string, for example --beam_args='--runner=DirectRunner "
    "--direct_num_workers=2 --direct_running_mode=multi_processing'.",
)


def main(_: list[str]) -> None:
    """Parses the flags and converts."""
    copies, balance = parse_copies(_COPIES.value)
    if _AUGMENT.value == "none" and not _COPIES.present:
        copies = 0
    strengths = {name: flag.value for name, flag in _STRENGTHS.items() if flag.value is not None}
    options = ConvertOptions(
        images=Path(_IMAGES.value),
        out=Path(_OUT.value),
        name=_NAME.value,
        size=parse_size(_SIZE.value),
        channels={"grayscale": 1, "1": 1, "rgb": 3, "3": 3}[_CHANNELS.value],
        resize=_RESIZE.value,
        value_range=parse_value_range(_VALUE_RANGE.value),
        listing=None if _LISTING.value is None else Path(_LISTING.value),
        allow_columns=_ALLOW_COLUMNS.value,
        **{f"{what}_column": flag.value for what, flag in _COLUMNS.items()},
        subfolders=_SUBFOLDERS.value,
        classes=tuple(_CLASSES.value),
        group_regex=_GROUP_REGEX.value,
        group_key_file=Path(_GROUP_KEY_FILE.value) if _GROUP_KEY_FILE.value is not None else None,
        val_fraction=_VAL.value,
        test_fraction=_TEST.value,
        copies=copies,
        balance=balance,
        augmentation=replace(PRESETS[_AUGMENT.value], **strengths),
        encoding=_ENCODING.value,
        shard_size=parse_bytes(_SHARD_SIZE.value) if _SHARD_SIZE.value else 0,
        seed=_SEED.value,
        max_rejects=parse_max_rejects(_MAX_REJECTS.value),
        duplicates=_DUPLICATES.value,
        positive=_POSITIVE.value,
        dali_index=_DALI_INDEX.value,
        overwrite=_OVERWRITE.value,
        check_sources=_CHECK_SOURCES.value,
        workers=_WORKERS.value,
        engine=Engine(
            _ENGINE.value,
            _BEAM_ARGS.value,
            None if _TASK.value is None else parse_task(_TASK.value),
            _FINISH.value,
        ),
    )
    if is_remote(_IMAGES.value) or is_remote(_OUT.value):
        if _WORK.value is None:
            raise InputError(
                "--work: is missing; if --images or --out is a URL, name a local folder with room for "
                "copies of both"
            )
        places = {"images": _IMAGES.value, "out": _OUT.value, "work": Path(_WORK.value)}
        print(_summary(convert_remote(options, **places), _OUT.value))
    elif options.engine.task is None:
        print(_summary(convert_images(options), options.out))
    else:
        shards = convert_task(options)
        print(
            f"{options.out}: {shards} shards of --task={_TASK.value} are complete; after all tasks, run the "
            f"command once with --finish instead"
        )


def _summary(conversion: Conversion, out: Path | str) -> str:
    manifest = conversion.manifest
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    images = sum(split.images for split in manifest.splits.values())
    size = sum(shard.bytes for shard in shards) / 1e6
    done = "complete already, all shards kept" if conversion.was_complete else "converted"
    rate = images / max(conversion.seconds, 1e-9)
    facts = [*manifest.split_quality.describe_duplicates()]
    if positive := positive_in_words(manifest.class_names, manifest.positive):
        facts.insert(0, f"positive class: {positive}")
    if manifest.split_quality.duplicates_sha256:
        facts.append(f"all listed in {DUPLICATES_NAME}")
    return (
        f"{out}: {done}\n{manifest.describe()}\n"
        f"{len(shards)} shards, {size:,.1f} MB, {len(manifest.rejected)} images rejected, "
        f"{conversion.seconds:.1f} s"
        + ("" if conversion.was_complete else f", {rate:,.0f} images/s")
        + (f"\nLeft out, all in {REJECTED_NAME}:\n{shown(manifest.rejected)}" if manifest.rejected else "")
        + "".join(f"\n{line}" for line in (*facts, *conversion.notes))
        + f"\nNext:\n  python -m tfrecords.show --data={out}\n"
        f"  python -m trainer.main --data={out} --strategy=mirrored --model=cnn"
    )


if __name__ == "__main__":
    run(main)
