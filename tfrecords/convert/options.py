"""What to convert, and how: the options of a conversion, checked when they are made."""

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
_LARGEST_SEED: Final = 2**32 - 1  # RandomState's
_UNITS: Final = {"": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


@dataclass(frozen=True)
class ConvertOptions:
    """What to convert, and how.

    Attributes:
        images: the image folder; with a listing, the folder that its paths are below.
        out: folder of the result.
        name: of the data set, for the shard names; "" takes the image folder's name.
        size: (height, width), pixels.
        channels: 1 or 3.
        resize: what becomes of the aspect ratio; see `resized`.
        value_range: of grayscale of more than 8 bits what is black and what is white: "full", "auto" or
            "LOW:HIGH"; see `parse_value_range`.
        listing: CSV or Parquet file that names the images; see `read_listing`. None: all in the folder.
        allow_columns: whether the listing may have columns of other names.
        path_column: the name of the listing's column of paths; None: path. So for labels, groups and splits.
        label_column: see `path_column`.
        group_column: see `path_column`.
        split_column: see `path_column`.
        group_regex: see `list_images`.
        subfolders: what to do with folders of the same name below several class folders: "keep" or
            "ignore=NAMES"; "" refuses them; see `list_images`.
        classes: the class names in the order of their labels; () for the order of `class_order`.
        group_key_file: file of the secret that groups and ids are hashed with; DICOM files need it.
        val_fraction: see `assign_splits`.
        test_fraction: see `assign_splits`.
        copies: augmented copies of each train image.
        balance: more copies of the smaller classes, so that all are level; see `balanced_copies`.
        augmentation: their strengths.
        encoding: "raw", "png" or "jpeg".
        shard_size: bytes, about; 0: see `plan_split`.
        seed: of splits, order and copies.
        max_rejects: how many images may be left out because they cannot be used; changes no shard.
        duplicates: images that are the same to the pixel, in two splits or with two labels: "refuse"
            them, "keep" them, or "drop" all but the first of each set, wherever they are.
        positive: of two classes the finding; "": as the names say. It changes no shard, and may be given
            later.
        dali_index: write index files too; changes no shard, and may be asked for later.
        overwrite: replace a conversion of another plan, or of images that have changed since.
        check_sources: read each image of a conversion that is there, to see whether it has changed; without
            it only those are read whose size, times or inode have.
        workers: processes; 0 takes one for each core that this process may use.
        engine: who writes the shards; changes no shard.
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
                f"and one cannot replace what the others write; choose another --out"
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
        """Raises InputError for what is for a listing where there is none, or for class folders."""
        if self.allow_columns and self.listing is None:
            raise InputError("--allow_columns: is for a --listing, and there is none; give one or leave it")
        for what, name in self.columns.items():
            if self.listing is None:
                raise InputError(
                    f"--{what}_column={name}: is for a --listing, and there is none; give one or leave it"
                )
        Subfolders.parse(self.subfolders)
        if self.subfolders and self.listing is not None:
            raise InputError(
                f"--subfolders={self.subfolders}: is for class folders, and a --listing names each image; "
                f"leave out one of them"
            )

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the listing that the user named, by what they hold."""
        named = {
            "path": self.path_column,
            "label": self.label_column,
            "group": self.group_column,
            "split": self.split_column,
        }
        return {what: name for what, name in named.items() if name is not None}


def refuse_nested(images: Path, out: Path, *, listed: bool, called: str = "") -> None:
    """Raises InputError if a folder of results is in that of the images, or the other way round.

    There the next conversion would take its own results for images. Links and `..` are followed.

    Args:
        images: folder of the images.
        out: folder of the results; it need not be there yet.
        listed: whether a listing names the images; then results may be below them.
        called: what errors call `out`; "": --out.
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
        f"{called or f'--out={out}'}: {where} --images={images}, so the next conversion would take its own "
        f"results for images; choose a folder beside --images"
    )


def _same(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)  # by another mount, or in another case
    except OSError:
        return False


def parse_size(text: str) -> tuple[int, int]:
    """Returns (height, width) from `180` or `180x240` (height x width)."""
    if not re.fullmatch(r"\d+(x\d+)?", text):
        raise InputError(f"--size={text}: must be pixels, as 180 or as HEIGHTxWIDTH, 180x240")
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def parse_bytes(text: str) -> int:
    """Returns bytes from `64MB`, `512KB`, `1GB` or plain digits; units are powers of 1,024."""
    match = re.fullmatch(r"(\d+)\s*(KB|MB|GB)?", text.strip(), re.IGNORECASE)
    if not match:
        raise InputError(f"--shard_size={text}: must be a number with KB, MB or GB, as 64MB")
    return int(match[1]) * _UNITS[(match[2] or "").upper()]
