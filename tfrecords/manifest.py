"""What a converted data set is, in one JSON file; it is written last, so it exists = all is there."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tfrecords.errors import InputError
from tfrecords.example import SCHEMA_VERSION
from tfrecords.files.atomic import write_atomically
from tfrecords.quality import SplitQuality

MANIFEST_NAME: Final = "manifest.json"
SOURCES_NAME: Final = "sources.csv"
PIPELINE_NAME: Final = "pipeline.json"  # the best options for it, by data_pipeline.tune
ENCODINGS: Final = ("raw", "png", "jpeg")
MOST_CLASSES_SHOWN: Final = 10  # each in a column of the closing summary


_SINCE: Final = {"positive": "", "resize": "stretch", "value_range": "full"}


@dataclass(frozen=True)
class Shard:
    """One TFRecord file: name, number of records, size in bytes, SHA-256 in hex."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
        shards: in order.
        records: of all shards, copies included.
        images: the originals among them.
        groups: distinct groups.
        records_per_class: records of each class, copies included, in the order of the class names.
    """

    shards: tuple[Shard, ...]
    records: int
    images: int
    groups: int
    records_per_class: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """A converted data set.

    Attributes:
        name: of the data set, the first part of each shard's name.
        class_names: in the order of their labels, which index them.
        image_shape: (height, width, channels).
        encoding: "raw", "png" or "jpeg".
        splits: by name.
        copies: augmented copies of each train image; the most that a class has.
        augmentation: the strengths they were drawn with.
        seed: of splits, order and copies.
        sources_sha256: of sources.csv, which lists each source by its number.
        plan: fingerprint of all that the shards follow from.
        rejected: sources left out, with the reason.
        versions: of the tools that wrote it.
        schema: version of records and manifest.
        copies_per_class: of each train image of each class; () where all have `copies`.
        trust: how far the splits can be trusted.
        positive: of two classes the one that is looked for, the finding; "" where the names tell it.
        resize: how an image was brought to its shape: "stretch", "pad" or "crop".
        value_range: how pixels of more than 8 bits were scaled: "full", "auto", or "LOW:HIGH".
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    encoding: str
    splits: Mapping[str, Split]
    copies: int
    augmentation: Mapping[str, float | str]
    seed: int
    sources_sha256: str
    plan: str
    rejected: tuple[tuple[str, str], ...]
    versions: Mapping[str, str]
    schema: int = SCHEMA_VERSION
    copies_per_class: tuple[int, ...] = ()
    trust: SplitQuality = field(default_factory=SplitQuality)
    positive: str = ""
    resize: str = "stretch"
    value_range: str = "full"

    def split(self, name: str) -> Split:
        """Returns a split by name, or raises InputError with the names there are."""
        if name not in self.splits:
            raise InputError(
                f"split {name!r} is not in data set {self.name!r}; it has {', '.join(self.splits)}: "
                f"convert with --val_fraction and --test_fraction to carve what is missing"
            )
        return self.splits[name]

    def copies_of(self, split: str, label: int) -> int:
        """Returns how many copies each image of a class has in a split."""
        if split != "train":
            return 0
        return self.copies_per_class[label] if self.copies_per_class else self.copies

    def copies_in_words(self) -> str:
        """Returns how many copies train images have, as "1 augmented copies of each train image"."""
        if not self.copies_per_class:
            return f"{self.copies} augmented copies of each train image"
        if len(self.class_names) > MOST_CLASSES_SHOWN:
            least, most = min(self.copies_per_class), max(self.copies_per_class)
            return f"{least} to {most} augmented copies of each train image, by its class"
        each = zip(self.copies_per_class, self.class_names, strict=True)
        return f"augmented copies of each train image: {', '.join(f'{n} of {name}' for n, name in each)}"

    def class_weights(self) -> tuple[float, ...]:
        """Returns n / (classes * n_class) for each class of train: rare classes weigh more."""
        counts = self.split("train").records_per_class
        return tuple(sum(counts) / (len(counts) * count) for count in counts)

    def describe(self) -> str:
        """Returns the data set in words: a table of splits and classes; of many the least and the most."""
        names = self.class_names
        if len(names) > MOST_CLASSES_SHOWN:
            return self._describe_many()
        wide = [max(7, len(name)) for name in names]
        lines = [
            self._head(),
            f"{'split':7}{'groups':>8}{'images':>9}{'records':>9}  "
            + "".join(f"{name:>{w + 1}}" for name, w in zip(names, wide, strict=True)),
        ]
        for name, split in self.splits.items():
            counts = zip(split.records_per_class, wide, strict=True)
            lines.append(
                f"{name:7}{split.groups:8,}{split.images:9,}{split.records:9,}  "
                + "".join(f"{count:>{w + 1},}" for count, w in counts)
            )
        return "\n".join(lines)

    def _describe_many(self) -> str:
        lines = [
            self._head(),
            f"{'split':7}{'groups':>8}{'images':>9}{'records':>9}  "
            f"of a class, least and most of {len(self.class_names):,}",
        ]
        for name, split in self.splits.items():
            counts = sorted(zip(split.records_per_class, self.class_names, strict=True))
            (least, rarest), (most, commonest) = counts[0], counts[-1]
            lines.append(
                f"{name:7}{split.groups:8,}{split.images:9,}{split.records:9,}  "
                f"{least:,} ({rarest}) to {most:,} ({commonest})"
            )
        return "\n".join(lines)

    def _head(self) -> str:
        height, width, channels = self.image_shape
        return (
            f"{self.name}: {height}x{width}x{channels} {self.encoding}, {self.copies_in_words()}, "
            f"seed {self.seed}"
        )

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes manifest.json, atomically, with the SHA-256 of its content as the last line."""
        write_atomically(Path(directory) / MANIFEST_NAME, self._sealed())

    @property
    def sha256(self) -> str:
        """The SHA-256 that manifest.json ends with: of all else in it."""
        return _sha256(self._values())

    def _values(self) -> dict[str, Any]:
        values = asdict(self)
        for name, default in _SINCE.items():  # manifests from before they were there stay as they are
            if values[name] == default:
                del values[name]
        return values

    def _sealed(self) -> bytes:
        values = self._values()
        return (json.dumps(values | {"sha256": _sha256(values)}, indent=1) + "\n").encode()

    @classmethod
    def load(cls, directory: str | os.PathLike[str], *, check_shards: bool = True) -> Self:
        """Reads manifest.json and checks that every shard is there with its size.

        Args:
            directory: of the data set.
            check_shards: whether to look at the shards.

        Raises:
            InputError: no manifest, one of another schema, one that is not what was written, or a
                shard that is missing or cut.
        """
        directory = Path(directory)
        path = directory / MANIFEST_NAME
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(_no_manifest(directory)) from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        manifest = cls.from_bytes(data, path)
        if check_shards:
            manifest.check_shards(directory)
        return manifest

    @classmethod
    def from_bytes(cls, data: bytes, path: Path | str) -> Self:
        """Returns the manifest that a file holds; `path` is what errors call it.

        Raises:
            InputError: it is of another schema, or not what was written.
        """
        try:
            values = json.loads(data)
        except ValueError as error:
            raise InputError(f"{path}: is no JSON ({error}); convert again") from None
        found = values.get("schema") if isinstance(values, dict) else None
        if found != SCHEMA_VERSION:
            raise InputError(
                f"{path}: schema {found!r} found, this version reads {SCHEMA_VERSION}; convert the "
                f"images again with this version"
            )
        values.pop("sha256", None)
        try:
            manifest = cls(**_from_json(values))
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: is damaged ({error!r}); convert again") from None
        if manifest._sealed() != data:  # to the byte: an edit and a flipped bit are both found
            raise InputError(
                f"{path}: is not as it was written (its content and its SHA-256 differ); restore it or "
                f"convert again"
            )
        return manifest

    def check_shards(self, directory: str | os.PathLike[str], *splits: str) -> None:
        """Raises InputError unless every shard of the splits, or of all, is there with its size."""
        for name in splits or self.splits:
            for shard in self.split(name).shards:
                path = Path(directory) / shard.name
                try:
                    size = path.stat().st_size
                except FileNotFoundError:
                    raise InputError(
                        f"{path}: the shard is missing; restore it or convert again with --overwrite"
                    ) from None
                if size != shard.bytes:
                    raise InputError(
                        f"{path}: the shard has {size} bytes, the manifest says {shard.bytes}; restore "
                        f"it or convert again with --overwrite"
                    )


def is_shard(name: str) -> bool:
    """Returns whether a file name is a shard's: NAME-SPLIT.tfrecord-00000-of-00008."""
    return bool(re.fullmatch(r"\w+-\w+\.tfrecord-\d{5,}-of-\d{5,}", name))


def _sha256(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _no_manifest(directory: Path) -> str:
    if not directory.exists():
        found = "no such folder"
    elif not directory.is_dir():
        found = "not a folder"
    else:
        shards = sum(is_shard(path.name) for path in directory.iterdir())
        found = f"no {MANIFEST_NAME} in it, {shards} shards: not a finished conversion"
    return (
        f"{directory}: {found}; make the data set with\n"
        f"  python -m tfrecords.convert --images=IMAGE_FOLDER --out={directory}"
    )


def _from_json(values: dict[str, Any]) -> dict[str, Any]:
    splits = {
        name: Split(
            **{
                **split,
                "shards": tuple(Shard(**shard) for shard in split["shards"]),
                "records_per_class": tuple(split["records_per_class"]),
            }
        )
        for name, split in values["splits"].items()
    }
    return {
        **values,
        "splits": splits,
        "class_names": tuple(values["class_names"]),
        "image_shape": tuple(values["image_shape"]),
        "copies_per_class": tuple(values["copies_per_class"]),
        "trust": SplitQuality.from_json(values["trust"]),
        "rejected": tuple(tuple(pair) for pair in values["rejected"]),
    }
