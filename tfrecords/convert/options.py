"""The options of a conversion, checked when they are built."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tfrecords.augment import Augmentation
from tfrecords.convert.engines import Engine
from tfrecords.duplicates.sets import POLICIES
from tfrecords.errors import InputError
from tfrecords.images.resize import RESIZES
from tfrecords.images.wide import parse_value_range
from tfrecords.manifest import ENCODINGS
from tfrecords.sources.rejection import MaxRejects
from tfrecords.sources.subfolders import Subfolders

_LARGEST_SIDE: Final = 8192
_SMALLEST_SHARD: Final = 1 << 16
_LARGEST_SEED: Final = 2**32 - 1  # the limit of NumPy's RandomState
_UNITS: Final = {"": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


@dataclass(frozen=True)
class ConvertOptions:
    """The options of a conversion.

    Attributes:
        images: the image folder; with a listing, its paths are relative to this folder.
        out: folder of the result.
        name: of the data set, for the names of the shards; "": the name of the image folder.
        size: (height, width), pixels.
        channels: 1 or 3.
        resize: how an image of another shape is fitted to `size`; see `resized`.
        value_range: which values of grayscale images of more than 8 bits become black and white: "full",
            "auto" or "LOW:HIGH"; see `parse_value_range`.
        listing: CSV or Parquet file that names the images, see `read_listing`; None: all images in the
        folder.
        allow_columns: whether other columns of the listing are ignored; if not, they are an error.
        path_column: name of the listing's column of paths; None: path.
        label_column: name of its column of class names; None: label.
        group_column: name of its column of groups; None: group.
        split_column: name of its column of splits; None: split.
        group_regex: finds the group in a path; see `list_images`.
        subfolders: how folders of the same name below several class folders are treated: "keep" or
            "ignore=NAMES"; "": they are refused. See `list_images`.
        classes: the class names in the order of their labels; (): the order of `class_order`.
        group_key_file: file with the secret that groups and ids are hashed with; DICOM files require it.
        val_fraction: share of the images for a missing val split, see `assign_splits`.
        test_fraction: share of the images for a missing test split, see `assign_splits`.
        copies: augmented copies of each train image.
        balance: whether smaller classes get more copies, so that all are about equally frequent; see
            `balanced_copies`.
        augmentation: strengths of the copies.
        encoding: "raw", "png" or "jpeg".
        shard_size: approximate size of a shard, bytes; 0: see `plan_split`.
        seed: of the splits, the order of the records, and the copies.
        max_rejects: how many unusable images may be left out; changes no shard.
        duplicates: how images that are the same to the pixel are treated: "refuse" those in two splits or
            with two labels, "keep" all, or "drop" all but the first of each set.
        positive: of two classes the positive one; "": the class names tell. It changes no shard, and may be
            given later.
        dali_index: whether index files are written too. It changes no shard, and may be given later.
        overwrite: whether a conversion of another plan, or of images that have changed since, is replaced.
        check_sources: whether every image of a finished conversion is read and compared. If not, only images
            whose size, times or inode have changed are read.
        workers: processes; 0: one for each core that this process may use.
        engine: what writes the shards; changes no shard.
    """

    images: Path
    out: Path
    name: str = ""
    size: tuple[int, int] = (180, 180)
    channels: int = 1
    resize: str = "stretch"
    value_range: str = "full"
    listing: Path | None = None
    allow_columns: bool = False
    path_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    group_regex: str | None = None
    subfolders: str = ""
    classes: tuple[str, ...] = ()
    group_key_file: Path | None = None
    val_fraction: float = 0.15
    test_fraction: float | None = None
    copies: int = 1
    balance: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    encoding: str = "raw"
    shard_size: int = 0
    seed: int = 0
    max_rejects: MaxRejects = field(default_factory=MaxRejects)
    duplicates: str = "refuse"
    positive: str = ""
    dali_index: bool = False
    overwrite: bool = False
    check_sources: bool = False
    workers: int = 0
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        if self.overwrite and (self.engine.task or self.engine.finish):
            raise InputError(
                f"--overwrite with {'--task' if self.engine.task else '--finish'}: tasks share the folder, "
                f"so none may replace what the others write; choose another --out"
            )
        self._check_listing()
        if not all(1 <= side <= _LARGEST_SIDE for side in self.size):
            raise InputError(f"--size={self.size}: each side must be from 1 to {_LARGEST_SIDE} pixels")
        if self.channels not in (1, 3):
            raise InputError(f"--channels={self.channels}: must be 1 (grayscale) or 3 (RGB)")
        if self.resize not in RESIZES:
            raise InputError(f"--resize={self.resize}: must be one of {', '.join(RESIZES)}")
        parse_value_range(self.value_range)
        if self.encoding not in ENCODINGS:
            raise InputError(f"--encoding={self.encoding}: must be one of {', '.join(ENCODINGS)}")
        if self.duplicates not in POLICIES:
            raise InputError(f"--duplicates={self.duplicates}: must be one of {', '.join(POLICIES)}")
        if self.copies < 0:
            raise InputError(f"--copies={self.copies}: must be 0 or more")
        if self.shard_size and self.shard_size < _SMALLEST_SHARD:
            raise InputError(f"--shard_size={self.shard_size} bytes: must be 64KB or more")
        if self.workers < 0:
            raise InputError(f"--workers={self.workers}: must be 0 (one for each core) or more")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise InputError(f"--seed={self.seed}: must be from 0 to {_LARGEST_SEED}")

    def _check_listing(self) -> None:
        """Raises InputError for options that need a listing, or that must not be given with one."""
        if self.allow_columns and self.listing is None:
            raise InputError(
                "--allow_columns: needs a --listing, and there is none; give one, or leave this flag out"
            )
        for what, name in self.columns.items():
            if self.listing is None:
                raise InputError(
                    f"--{what}_column={name}: needs a --listing, and there is none; give one, or leave this "
                    f"flag out"
                )
        Subfolders.parse(self.subfolders)
        if self.subfolders and self.listing is not None:
            raise InputError(
                f"--subfolders={self.subfolders}: is for class folders, but a --listing names each image; "
                f"leave out one of them"
            )

    @property
    def columns(self) -> dict[str, str]:
        """The names that the user gave to columns of the listing, by the default names."""
        named = {
            "path": self.path_column,
            "label": self.label_column,
            "group": self.group_column,
            "split": self.split_column,
        }
        return {what: name for what, name in named.items() if name is not None}


def refuse_nested(images: Path, out: Path, *, listed: bool, called: str = "") -> None:
    """Raises InputError if the result folder is inside the image folder, or the other way round.

    The next conversion would then treat its own results as images. Links and `..` are followed.

    Args:
        images: the image folder.
        out: the result folder; it need not exist yet.
        listed: whether a listing names the images; then every place is allowed.
        called: the name of `out` in errors; "": --out.
    """
    if listed:
        return
    found, result = Path(os.path.realpath(images)), Path(os.path.realpath(out))
    if _same(result, found):
        where = "is the folder of"
    elif any(_same(path, found) for way in (result, Path(os.path.abspath(out))) for path in way.parents):  # noqa: PTH100
        where = "is inside"
    elif any(_same(path, result) for path in found.parents):
        where = "holds"
    else:
        return
    raise InputError(
        f"{called or f'--out={out}'}: {where} --images={images}, so the next conversion would treat "
        f"its own results as images; choose a folder beside --images"
    )


def _same(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(
            other
        )  # the same folder by another mount, or in other letter case
    except OSError:
        return False


def parse_size(text: str) -> tuple[int, int]:
    """Returns (height, width) from `180` or `180x240` (height x width)."""
    if not re.fullmatch(r"\d+(x\d+)?", text):
        raise InputError(
            f"--size={text}: must be pixels, one number or HEIGHTxWIDTH, for example 180 or 180x240"
        )
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def parse_bytes(text: str) -> int:
    """Returns bytes from `64MB`, `512KB`, `1GB` or plain digits; units are powers of 1,024."""
    match = re.fullmatch(r"(\d+)\s*(KB|MB|GB)?", text.strip(), re.IGNORECASE)
    if not match:
        raise InputError(
            f"--shard_size={text}: must be a number of bytes, or with KB, MB or GB, for example 64MB"
        )
    return int(match[1]) * _UNITS[(match[2] or "").upper()]
