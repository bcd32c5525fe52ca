"""A folder of images to a sorted list of sources: path, label, group and, where given, split."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes

from tfrecords.decode import DecodeError, check_kind
from tfrecords.errors import InputError

SPLITS: Final = ("train", "val", "test")

# personN_bacteria_M, personN_virus_M, IM-N-M, NORMAL2-IM-N-M: the counters run separately per series.
CHEST_XRAY_GROUP: Final = r"(?:^|/)(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[-_][^/]*$"

_SPLIT_FOLDERS: Final = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_CLUTTER: Final = frozenset({"thumbs.db", "desktop.ini", "__macosx"})  # and every name with a dot first
_HEAD = 16  # bytes that tell an image's kind
_SHOWN = 10  # problems listed in an error


@dataclass(frozen=True, slots=True)
class Source:
    """One image file.

    Attributes:
        path: below the root, with `/`.
        label: index into the sorted class names.
        group: what must not be split: images of one patient share it. The raw name, never stored.
        split: the split that the folders give it, or None.
        size: of the file, bytes.
    """

    path: str
    label: int
    group: str
    split: str | None
    size: int

    @property
    def id(self) -> str:
        """The path in printable ASCII, other bytes percent-encoded."""
        return quote_from_bytes(os.fsencode(self.path), safe="/ ()[]{}@=+,;!'&~$#")


@dataclass(frozen=True)
class Listing:
    """The sources below a root, sorted by split and path, and their class names, sorted."""

    root: Path
    class_names: tuple[str, ...]
    sources: tuple[Source, ...]


def list_images(root: Path, group_regex: str | None = None) -> Listing:
    """Lists an image folder: class folders, or class folders below `train`, `val` and `test`.

    Names that start with a dot and the clutter of desktop systems are passed over; every other
    file in a class folder must be an image, told by its first bytes.

    Args:
        root: the folder.
        group_regex: searched in each path below its class folder; the group is its first group,
            or all that matches. None: the chest X-ray naming, and where that does not match, every
            image is a group of its own.

    Raises:
        InputError: the folder, its layout, a file or the expression cannot be used.
    """
    find_group = _group_finder(group_regex)
    try:
        return _list(root, group_regex, find_group)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _list(root: Path, group_regex: str | None, find_group: Callable[[str], str | None]) -> Listing:
    if not root.is_dir():
        raise InputError(f"--images={root}: {'not a folder' if root.exists() else 'no such folder'}")
    layout = _layout(root)
    names = sorted({folder.name for _, folders in layout for folder in folders})
    if len(names) < 2:
        raise InputError(
            f"{root}: found {len(names)} class folder{'s'[: len(names) != 1]} ({', '.join(names) or '-'}); "
            f"classification needs two or more, one folder for each class with its images inside"
        )
    if odd_names := [name for name in names if not name.isprintable()]:
        raise InputError(f"{root}: class folder {odd_names[0]!r} must have a printable name; rename it")
    labels = {name: label for label, name in enumerate(names)}
    sources: list[Source] = []
    problems: list[str] = []
    for split, folders in layout:
        if missing := sorted(set(names) - {folder.name for folder in folders}):
            raise InputError(
                f"{root}: split {split!r} has no folder for class {', '.join(missing)}; every split "
                f"needs the same class folders ({', '.join(names)})"
            )
        for folder in folders:
            before = len(sources) + len(problems)
            for path, size in _files(folder, set()):
                relative = path.relative_to(root).as_posix()
                try:
                    if size is None:
                        path.stat()  # says what is wrong with a link
                        raise DecodeError("neither a file nor a folder")
                    with path.open("rb") as file:
                        check_kind(file.read(_HEAD))
                except (DecodeError, OSError) as error:
                    problems.append(f"{relative}: {getattr(error, 'strerror', None) or error}")
                    continue
                group = find_group(path.relative_to(folder).as_posix()) or relative
                sources.append(Source(relative, labels[folder.name], group, split, size))
            if before == len(sources) + len(problems):
                raise InputError(f"{folder}: class folder without images; fill it or remove it")
    if problems:
        raise InputError(_refusal(root, problems, len(sources) + len(problems)))
    if group_regex is not None and (odd := [s.path for s in sources if s.group == s.path]):
        raise InputError(
            f"--group_regex={group_regex!r} does not match {len(odd)} of {len(sources)} images, "
            f"first {odd[0]}; it must match every path below its class folder (or leave the flag out)"
        )
    return Listing(root, tuple(names), tuple(sources))


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Returns files as given, and all files below folders, sorted; each must be an image.

    Raises:
        InputError: a path that is not there, a folder without files, or a file that is no image.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        found = [file for file, _ in _files(path, set())] if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: a folder without images")
        files += found
    for file in files:
        try:
            with file.open("rb") as opened:
                check_kind(opened.read(_HEAD))
        except (DecodeError, OSError) as error:
            raise InputError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    return files


def _group_finder(expression: str | None) -> Callable[[str], str | None]:
    try:
        pattern = re.compile(CHEST_XRAY_GROUP if expression is None else expression)
    except re.error as error:
        raise InputError(f"--group_regex={expression!r} is no regular expression: {error}") from None

    def find(path: str) -> str | None:
        match = pattern.search(path)
        if match is None:
            return None
        return next((found for found in match.groups() if found), match.group())

    return find


def _layout(root: Path) -> list[tuple[str | None, list[Path]]]:
    """Returns [(split or None, class folders)], sorted."""
    folders = _folders(root)
    splits = [folder for folder in folders if folder.name.lower() in _SPLIT_FOLDERS]
    if not splits:
        _refuse_loose_images(root)
        return [(None, folders)]
    if others := [folder.name for folder in folders if folder not in splits]:
        raise InputError(
            f"{root}: has split folders ({', '.join(f.name for f in splits)}) and others beside them "
            f"({', '.join(others)}); use either class folders, or class folders below train, val, test"
        )
    by_split = {_SPLIT_FOLDERS[folder.name.lower()]: folder for folder in splits}
    if len(by_split) < len(splits):
        raise InputError(f"{root}: two folders for one split: {', '.join(f.name for f in splits)}")
    if "train" not in by_split:
        raise InputError(f"{root}: has {', '.join(f.name for f in splits)} but no train folder")
    for folder in splits:
        _refuse_loose_images(folder)
    return [(split, _folders(by_split[split])) for split in SPLITS if split in by_split]


def _folders(root: Path) -> list[Path]:
    paths = sorted(path for path in root.iterdir() if not _is_clutter(path.name))
    if broken := [path for path in paths if path.is_symlink() and not path.exists()]:
        raise InputError(f"{broken[0]}: a symbolic link that leads nowhere; mend or remove it")
    return [path for path in paths if path.is_dir()]


def _refuse_loose_images(folder: Path) -> None:
    """An image beside the class folders has no class; other files may be there."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not _is_clutter(path.name):
            with path.open("rb") as file:
                head = file.read(_HEAD)
            try:
                check_kind(head)
            except DecodeError:
                continue
            raise InputError(
                f"{path}: an image outside the class folders; put it into the folder of its class"
            )


def _files(folder: Path, parents: set[tuple[int, int]]) -> Iterator[tuple[Path, int | None]]:
    """Yields every file below a folder with its size (None: no file), sorted; links are followed."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in parents:
        raise InputError(f"{folder}: a symbolic link to a folder above it; remove the link")
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if _is_clutter(entry.name):
            continue
        path = folder / entry.name
        found = path if entry.is_symlink() else entry  # an entry raises for a link that leads nowhere
        if found.is_dir():
            yield from _files(path, parents | {here})
        else:
            yield path, found.stat().st_size if found.is_file() else None


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER


def _refusal(root: Path, problems: list[str], total: int) -> str:
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
    more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return (
        f"{root}: {len(problems)} of {total} files in class folders cannot be used:\n"
        f"{shown}{more}\n"
        f"Repair, convert or remove them, then run the same command again."
    )
