"""Converts an image folder into sharded TFRecords, once, with the augmented copies baked in.

    python -m tfrecords.convert --images=chest_xray --out=data/chest_xray

The folder holds one folder for each class, or `train`, `val` and `test` folders with these inside, or
each class folder holds `train`, `val` and `test`.
A missing val or test split is carved from train, whole groups (patients) at a time. With --listing a
CSV or Parquet file names the images, their classes, groups and splits instead of folders. The same
command again resumes what was interrupted and leaves alone what is complete.
"""

from dataclasses import replace
from pathlib import Path

from absl import flags

from tfrecords.augment import PRESETS
from tfrecords.command import define_path, run
from tfrecords.convert.balance import parse_copies
from tfrecords.convert.conversion import Conversion, convert_images, convert_task
from tfrecords.convert.engines import ENGINES, Engine, parse_task
from tfrecords.convert.options import ConvertOptions, parse_bytes, parse_size
from tfrecords.convert.remote import convert_remote, is_remote
from tfrecords.duplicates.sets import POLICIES
from tfrecords.duplicates.table import DUPLICATES_NAME
from tfrecords.errors import InputError
from tfrecords.images.resize import RESIZES
from tfrecords.images.wide import parse_value_range
from tfrecords.manifest import ENCODINGS
from tfrecords.positive import positive_in_words
from tfrecords.sources.rejection import REJECTED_NAME, parse_max_rejects, shown

_DEFAULT = ConvertOptions(Path(), Path())

_IMAGES = define_path("images", None, "Folder of the images, or its URL.", required=True)
_OUT = define_path("out", None, "Folder for shards and manifest.json, or its URL.", required=True)
_WORK = define_path(
    "work",
    None,
    "Local folder for the copies where --images or --out is a URL, as s3://bucket/folder; the same command "
    "again goes on from what is there.",
)
_NAME = flags.DEFINE_string("name", "", "First part of the shard names; the folder's name if empty.")
_SIZE = flags.DEFINE_string("size", "180", "Pixels: one number, or HEIGHTxWIDTH.")
_CHANNELS = flags.DEFINE_enum(
    "channels",
    "grayscale",
    ["grayscale", "rgb", "1", "3"],
    "Channels of the records. grayscale keeps the brightness of a colour image alone.",
)
_RESIZE = flags.DEFINE_enum(
    "resize",
    _DEFAULT.resize,
    RESIZES,
    "What becomes of the aspect ratio. stretch: it is not kept. pad: the whole image fits in, and black bars "
    "fill the rest. crop: the image fills the size, and what stands out is cut off evenly. Prediction does "
    "the same.",
)
_VALUE_RANGE = flags.DEFINE_string(
    "value_range",
    _DEFAULT.value_range,
    "Which values are black and white in grayscale images of more than 8 bits, such as 16-bit PNG and TIFF, "
    "but not DICOM. full: 0 and the largest that the file can hold. LOW:HIGH, as 0:4095: these two; values "
    "beyond are clipped. auto: 0 and the largest number of the bits in use, found over all images before "
    "they are converted. Prediction does the same.",
)
_LISTING = define_path(
    "listing",
    None,
    "CSV (with a header; separated by commas, semicolons, tabs or |) or Parquet file with the columns path, "
    "label and, if wanted, group and split; paths are below --images. Only what it names is converted; "
    "labels are the class names, a group beats --group_regex, and a split (train, val, test) stays as it is.",
)
_ALLOW_COLUMNS = flags.DEFINE_bool(
    "allow_columns", False, "Pass over other columns of the --listing; without it they are an error."
)
_COLUMNS = {
    what: flags.DEFINE_string(
        f"{what}_column", None, f"Name of the --listing's column {text}. Default: {what}."
    )
    for what, text in {
        "path": "of image paths",
        "label": "of class names",
        "group": "of what must not be split, a patient for example",
        "split": "of splits",
    }.items()
}
_SUBFOLDERS = flags.DEFINE_string(
    "subfolders",
    "",
    "What is done with folders of the same name below two or more class folders; without it they are "
    "refused. keep: all images below a class folder are its images, whatever the folder; if each such "
    "folder is a patient, add --group_regex='^([^/]+)/'. ignore=NAMES, as ignore=masks,other: folders of "
    "these names are passed over, and all others are taken.",
)
_CLASSES = flags.DEFINE_list(
    "classes",
    [],
    "Names of all classes, in the order of their labels, as healthy,sick. Default: sorted, numbers by their "
    "value.",
)
_GROUP_REGEX = flags.DEFINE_string(
    "group_regex",
    None,
    "Finds what must not be split, a patient for example, in an image's path below its class "
    "folder; its first group counts. Default: the chest X-ray naming; an image whose name does "
    "not follow it is a group of its own.",
)
_GROUP_KEY_FILE = define_path(
    "group_key_file",
    None,
    "File of 32 or more random bytes, kept secret: groups and ids are hashed with it, errors name no file, "
    "and DICOM images, which need it, are grouped by patient. Make one: head -c 32 /dev/urandom > FILE",
)
_VAL = flags.DEFINE_float("val_fraction", _DEFAULT.val_fraction, "Share for a missing val split.")
_TEST = flags.DEFINE_float(
    "test_fraction",
    None,
    "Share for a missing test split. Default: 0.15 for plain class folders, else 0.",
)
_COPIES = flags.DEFINE_string(
    "copies",
    str(_DEFAULT.copies),
    "Augmented copies of each train image: a number; balance: as many for each class as level them all, "
    "none for the largest; balance:N: the same, with N for the largest. With --augment=none, 0 by default.",
)
_AUGMENT = flags.DEFINE_enum(
    "augment",
    "standard",
    list(PRESETS),
    "Strengths of the changes in a copy; radiograph is standard without the flip, exposure is radiograph "
    "with gamma. Each can be set by its own flag besides: "
    + "; ".join(f"{n}: {', '.join(f'{k} {v:g}' for k, v in p.strengths())}" for n, p in PRESETS.items()),
)
_STRENGTHS = {
    "flip": flags.DEFINE_float("flip", None, "Probability of a left-right flip."),
    "rotation": flags.DEFINE_float("rotation", None, "Degrees to either side."),
    "zoom": flags.DEFINE_float("zoom", None, "Share of the size, in or out."),
    "crop": flags.DEFINE_float("crop", None, "Share of the size cut away at most."),
    "translation": flags.DEFINE_float("translation", None, "Share of the size."),
    "brightness": flags.DEFINE_float("brightness", None, "Share of the grey range."),
    "contrast": flags.DEFINE_float("contrast", None, "Share of the contrast."),
    "gamma": flags.DEFINE_float(
        "gamma",
        None,
        "Change of the exposure: the exponent of the tone curve is drawn from 1/(1+gamma) to 1+gamma; 0 "
        "turns it off.",
    ),
    "fill": flags.DEFINE_enum(
        "fill", None, ["reflect", "edge"], "What a copy shows beyond the image's border. Default: reflect."
    ),
}
_ENCODING = flags.DEFINE_enum(
    "encoding", _DEFAULT.encoding, ENCODINGS, "raw trains fastest, png is smaller, jpeg is lossy."
)
_SHARD_SIZE = flags.DEFINE_string(
    "shard_size",
    None,
    "About; with KB, MB or GB. Default: 64MB, and less where a split of 100 images or more would have fewer "
    "than 16 shards, each of which is one process's work.",
)
_SEED = flags.DEFINE_integer("seed", _DEFAULT.seed, "Of splits, order and copies.")
_MAX_REJECTS = flags.DEFINE_string(
    "max_rejects",
    "0",
    "How many images that cannot be used may be left out: a number, or a percentage as 0.5%. They are listed "
    "with the reasons in manifest.json and rejected.csv.",
)
_DUPLICATES = flags.DEFINE_enum(
    "duplicates",
    _DEFAULT.duplicates,
    POLICIES,
    "What to do with images that are the same to the pixel. refuse: stop if some are in two splits or have "
    "two labels. keep: change nothing. drop: leave out all but the first of each set, wherever it is; every "
    "image is decoded twice. All are counted and listed in duplicates.csv.",
)
_POSITIVE = flags.DEFINE_string(
    "positive",
    _DEFAULT.positive,
    "Of two classes the one that is looked for: reports tell its sensitivity. Also later, for shards that "
    "are there. Default: the one whose name does not say normal (normal, healthy, negative, no_finding, "
    "benign, control, ...).",
)
_DALI_INDEX = flags.DEFINE_bool(
    "dali_index",
    False,
    "Also write index/SHARD.idx for NVIDIA DALI and for PyTorch's tfrecord package; also later, for shards "
    "that are there.",
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace another conversion in --out, or that of images that have changed since."
)
_CHECK_SOURCES = flags.DEFINE_bool(
    "check_sources",
    False,
    "Read every image of a conversion that is there, and compare it with what was converted. Without it only "
    "those are read whose size, modification time, change time or inode is another.",
)
_WORKERS = flags.DEFINE_integer("workers", _DEFAULT.workers, "Processes; 0: one for each core.")
_ENGINE = flags.DEFINE_enum(
    "engine",
    _DEFAULT.engine.name,
    ENGINES,
    "Who writes the shards: the cores of this machine, or the runner that --beam_args name.",
)
_BEAM_ARGS = flags.DEFINE_string(
    "beam_args",
    "",
    "Apache Beam's own flags in one string, as --beam_args='--runner=DirectRunner --direct_num_workers=2 "
    "--direct_running_mode=multi_processing'.",
)
_TASK = flags.DEFINE_string(
    "task",
    None,
    "I/N: write only the shards of task I of N, for the array jobs of a scheduler; all tasks get the same "
    "flags and share --out. Then --finish once.",
)
_FINISH = flags.DEFINE_bool("finish", False, "Seal what the tasks have written.")


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
                "--work: is missing; a remote --images or --out needs a local folder for the copies, with "
                "room for both"
            )
        places = {"images": _IMAGES.value, "out": _OUT.value, "work": Path(_WORK.value)}
        print(_summary(convert_remote(options, **places), _OUT.value))
    elif options.engine.task is None:
        print(_summary(convert_images(options), options.out))
    else:
        shards = convert_task(options)
        print(f"{options.out}: {shards} shards of --task={_TASK.value} are whole; after all tasks --finish")


def _summary(conversion: Conversion, out: Path | str) -> str:
    manifest = conversion.manifest
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    images = sum(split.images for split in manifest.splits.values())
    size = sum(shard.bytes for shard in shards) / 1e6
    done = "complete already, left alone" if conversion.was_complete else "converted"
    rate = images / max(conversion.seconds, 1e-9)
    found = [*manifest.trust.describe_duplicates()]
    if positive := positive_in_words(manifest.class_names, manifest.positive):
        found.insert(0, f"positive class: {positive}")
    if manifest.trust.listed_sha256:
        found.append(f"all listed in {DUPLICATES_NAME}")
    return (
        f"{out}: {done}\n{manifest.describe()}\n"
        f"{len(shards)} shards, {size:,.1f} MB, {len(manifest.rejected)} images rejected, "
        f"{conversion.seconds:.1f} s"
        + ("" if conversion.was_complete else f", {rate:,.0f} images/s")
        + (f"\nLeft out, all in {REJECTED_NAME}:\n{shown(manifest.rejected)}" if manifest.rejected else "")
        + "".join(f"\n{line}" for line in (*found, *conversion.notes))
        + f"\nNext:\n  python -m tfrecords.show --data={out}\n"
        f"  python -m trainer.main --data={out} --strategy=mirrored --model=cnn"
    )


if __name__ == "__main__":
    run(main)
