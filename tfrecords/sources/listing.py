"""What was listed, whether from folders or a table: the images with class, group and split."""

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
        path: below the root, with `/`.
        label: index into the class names.
        group: what must not be split: images of one patient share it. The raw name, never stored; with
            a key it is hashed already.
        split: the split that the folders give it, or None.
        size: of the file, bytes; 0 for what is no file.
        position: with a key, what errors call it in place of its path, which may hold a name.
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
        """What errors call it."""
        return self.position or self.path

    @property
    def id(self) -> str:
        """The path in printable ASCII, other bytes percent-encoded; with a key a hash of it."""
        return self.hashed_id or quote_from_bytes(os.fsencode(self.path), safe="/ ()[]{}@=+,;!'&~$#")


@dataclass(frozen=True)
class Listing:
    """The sources below a root.

    Attributes:
        root: the folder.
        class_names: in the order of their labels; see `class_order`.
        sources: sorted by split and path, those to be left out among them.
        rejected: (index into `sources`, reason) of those to be left out, in order.
        has_dicom: whether there are DICOM files among them.
        splits_are_fixed: whether missing splits are carved only from sources without a split, and not
            from a train split that is given.
        notes: what was done to make the listing that the user must know, a line each, for the closing
            summary: what was passed over, which keys were unified.
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
    """Raises InputError, with the first of them, if more sources are rejected than may be."""
    limit = max_rejects.of(len(sources))
    if len(rejected) <= limit:
        return
    named = [(sources[number].shown, reason) for number, reason in rejected]
    allowed = f" (--max_rejects={max_rejects} allows {limit})" if limit else ""
    which = "Which file that is, tells docs/images.md (Errors).\n" if sources[0].position else ""
    raise InputError(
        f"{root}: {len(rejected)} of {len(sources)} {what} cannot be used{allowed}:\n"
        f"{shown(named)}\n{which}"
        f"Repair, convert or remove them, or leave them out with --max_rejects, then run the same command "
        f"again."
    )
