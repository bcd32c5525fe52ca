"""manifest.json describes a converted data set. It is written last, so where it exists, all is there."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from tfrecords.errors import InputError
from tfrecords.example import SCHEMA_VERSION
from tfrecords.files.atomic import write_atomically
from tfrecords.manifest_schema import FIRST_SCHEMA, MANIFEST_SCHEMA, from_schema, to_schema
from tfrecords.quality import SplitQuality

MANIFEST_NAME: Final = "manifest.json"
SOURCES_NAME: Final = "sources.csv"
PIPELINE_NAME: Final = "pipeline.json"  # the fastest input options, found by data_pipeline.tune
ENCODINGS: Final = ("raw", "png", "jpeg")
MOST_CLASSES_SHOWN: Final = 10  # of more classes, summaries show the rarest and the most frequent


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
        shards: in the order of their numbers.
        records: in all shards: originals and copies.
        images: the originals among the records.
        groups: how many groups (patients, for example) the images are of.
        records_per_class: records of each class, copies included, in the order of the class names.
    """

    shards: tuple[Shard, ...]
    records: int
    images: int
    groups: int
    records_per_class: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A converted data set; the fields are the keys of manifest.json.

    Attributes:
        schema: version of the keys of manifest.json.
        name: name of the data set, the first part of each shard's name.
        class_names: in the order of their labels: label 0 is the first.
        positive: of two classes the positive one, the finding; "": the class names tell which.
        image_shape: (height, width, channels).
        encoding: of the images in the records: "raw", "png" or "jpeg".
        resize: how an image was brought to its shape: "stretch", "pad" or "crop".
        value_range: how grayscale of more than 8 bits was scaled: "full", "auto", or "LOW:HIGH".
        copies: augmented copies of each train image; if classes differ, the most that a class has.
        copies_per_class: copies of each train image by class; (): `copies` for every class.
        augmentation: the strengths that the copies were drawn with.
        seed: of the splits, the order of the records, and the copies.
        splits: by name.
        split_quality: how far results on the splits can be trusted.
        rejected: (id, reason) of each source that was left out.
        versions: of the libraries whose output the records are.
        record_schema: version of the fields of a record.
        plan: SHA-256 of all that the shards follow from; equal plans give equal shards.
        sources_sha256: of sources.csv, which lists all sources.
    """

    schema: int = MANIFEST_SCHEMA
    name: str
    class_names: tuple[str, ...]
    positive: str = ""
    image_shape: tuple[int, int, int]
    encoding: str
    resize: str = "stretch"
    value_range: str = "full"
    copies: int
    copies_per_class: tuple[int, ...] = ()
    augmentation: Mapping[str, float | str]
    seed: int
    splits: Mapping[str, Split]
    split_quality: SplitQuality = field(default_factory=SplitQuality)
    rejected: tuple[tuple[str, str], ...]
    versions: Mapping[str, str]
    record_schema: int = SCHEMA_VERSION
    plan: str
    sources_sha256: str

    def split(self, name: str) -> Split:
        """Returns a split by name; raises InputError, with the names of all splits, if there is none."""
        if name not in self.splits:
            raise InputError(
                f"split {name!r} is not in data set {self.name!r}; it has {', '.join(self.splits)}: "
                f"convert with --val_fraction or --test_fraction to make the missing split"
            )
        return self.splits[name]

    def copies_of(self, split: str, label: int) -> int:
        """Returns how many copies each image of a class has in a split."""
        if split != "train":
            return 0
        return self.copies_per_class[label] if self.copies_per_class else self.copies

    def copies_in_words(self) -> str:
        """Returns how many copies train images have, for example "1 augmented copies of each train image"."""
        if not self.copies_per_class:
            return f"{self.copies} augmented copies of each train image"
        if len(self.class_names) > MOST_CLASSES_SHOWN:
            least, most = min(self.copies_per_class), max(self.copies_per_class)
            return f"{least} to {most} augmented copies of each train image, by its class"
        each = zip(self.copies_per_class, self.class_names, strict=True)
        return f"augmented copies of each train image: {', '.join(f'{n} of {name}' for n, name in each)}"

    def class_weights(self) -> tuple[float, ...]:
        """Returns n / (classes * n_class) for each class of train, so that rare classes weigh more."""
        counts = self.split("train").records_per_class
        return tuple(sum(counts) / (len(counts) * count) for count in counts)

    def describe(self) -> str:
        """Returns the data set as text: a row for each split, with the records of each class."""
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
        """Writes manifest.json atomically; its last key is the SHA-256 of all others."""
        write_atomically(Path(directory) / MANIFEST_NAME, self._sealed())

    @property
    def sha256(self) -> str:
        """The SHA-256 at the end of manifest.json, of all other keys."""
        return _sha256(self._values())

    def in_current_schema(self) -> Self:
        """Returns the same data set, to be saved with the current keys."""
        return replace(self, schema=MANIFEST_SCHEMA)

    def _values(self) -> dict[str, Any]:
        return to_schema(asdict(self), self.schema)

    def _sealed(self) -> bytes:
        values = self._values()
        return (json.dumps(values | {"sha256": _sha256(values)}, indent=1) + "\n").encode()

    @classmethod
    def load(cls, directory: str | os.PathLike[str], *, check_shards: bool = True) -> Self:
        """Reads manifest.json and checks that every shard is there with its size.

        Args:
            directory: of the data set.
            check_shards: whether to check that each shard exists with its size.

        Raises:
            InputError: there is no manifest, it has an unknown schema or was changed, or a shard is missing
                or has another size.
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
        """Returns the manifest in the bytes of a file; `path` names it in errors.

        Raises:
            InputError: it has an unknown schema, or was changed after it was written.
        """
        try:
            values = json.loads(data)
        except ValueError as error:
            raise InputError(f"{path}: is not JSON ({error}); restore it or convert again") from None
        found = values.get("schema") if isinstance(values, dict) else None
        if type(found) is not int or not FIRST_SCHEMA <= found <= MANIFEST_SCHEMA:
            raise InputError(
                f"{path}: schema {found!r} found, this version reads {FIRST_SCHEMA} to {MANIFEST_SCHEMA}; "
                f"use the version that wrote it, or convert the images again with this one"
            )
        values.pop("sha256", None)
        try:
            manifest = cls(**_from_json(from_schema(values)))
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: is damaged ({error!r}); convert again") from None
        if manifest.record_schema != SCHEMA_VERSION:
            raise InputError(
                f"{path}: record_schema {manifest.record_schema!r} found, this version reads "
                f"{SCHEMA_VERSION}; use the version that wrote it, or convert the images again with this one"
            )
        if manifest._sealed() != data:  # byte by byte, so an edit or a flipped bit is found
            raise InputError(
                f"{path}: is not as it was written (its content and its SHA-256 differ); restore "
                f"it or convert again"
            )
        return manifest

    def check_shards(self, directory: str | os.PathLike[str], *splits: str) -> None:
        """Raises InputError unless every shard of these splits exists with its size; no splits: of all."""
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
        "split_quality": SplitQuality.from_json(values["split_quality"]),
        "rejected": tuple(tuple(pair) for pair in values["rejected"]),
    }
