"""The listing: the images of folders or a table, each with its class, group and split."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes

from tfrecords.errors import InputError
from tfrecords.sources.rejection import MaxRejects, shown

SPLITS: Final = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Source:
    """One image file.

    Attributes:
        path: path below the root, with `/`.
        label: index into the class names.
        group: name of what must not be split, such as a patient. It is never stored as it is; with a key
            it is already a hash.
        split: the split that the folders or the table give it, or None.
        size: size of the file in bytes; 0 if it is no regular file.
        position: with a key, the name that errors use for it, because its path may hold a patient's name.
        hashed_id: with a key, its id.
    """

    path: str
    label: int
    group: str
    split: str | None
    size: int
    position: str = ""
    hashed_id: str = ""

    @property
    def shown(self) -> str:
        """The name that errors use."""
        return self.position or self.path

    @property
    def id(self) -> str:
        """The path in printable ASCII, with other bytes percent-encoded; with a key, a hash of the path."""
        return self.hashed_id or quote_from_bytes(os.fsencode(self.path), safe="/ ()[]{}@=+,;!'&~$#")


@dataclass(frozen=True)
class Listing:
    """The sources below a root.

    Attributes:
        root: the folder.
        class_names: the class names in the order of their labels; see `class_order`.
        sources: the images, sorted by split and path, including those that will be left out.
        rejected: (index into `sources`, reason) of each image that will be left out, in order.
        has_dicom: whether some images are DICOM files.
        splits_are_fixed: whether missing splits are carved only from sources without a split, and not from a
            given train split.
        notes: lines for the closing summary: what was skipped, which names were normalized.
    """

    root: Path
    class_names: tuple[str, ...]
    sources: tuple[Source, ...]
    rejected: tuple[tuple[int, str], ...] = ()
    has_dicom: bool = False
    splits_are_fixed: bool = False
    notes: tuple[str, ...] = ()


def refuse_rejects(
    root: Path,
    sources: Sequence[Source],
    rejected: Sequence[tuple[int, str]],
    max_rejects: MaxRejects,
    what: str,
) -> None:
    """Raises InputError, which names the first ones, if more sources are rejected than allowed."""
    limit = max_rejects.of(len(sources))
    if len(rejected) <= limit:
        return
    named = [(sources[number].shown, reason) for number, reason in rejected]
    allowed = f" (--max_rejects={max_rejects} allows {limit})" if limit else ""
    which = "docs/images.md (Errors) shows how to find such a file.\n" if sources[0].position else ""
    raise InputError(
        f"{root}: {len(rejected)} of {len(sources)} {what} cannot be used{allowed}:\n"
        f"{shown(named)}\n{which}"
        f"Repair, convert or remove them, or leave them out with --max_rejects, then run the same command "
        f"again."
    )
