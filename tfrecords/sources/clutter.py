"""Finds files and folders below a folder; skips and counts what operating systems leave there."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from fnmatch import translate
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind
from tfrecords.sources.keys import normalized

# Names of files and folders, in any case, and what makes them; `*` is any text. docs/folders.md lists the
# same.
CLUTTER: Final = {
    ".DS_Store": "macOS",
    "._*": "macOS",
    ".AppleDouble": "macOS",
    ".fseventsd": "macOS",
    ".Spotlight-V100": "macOS",
    "__MACOSX": "macOS",
    "Icon\r": "macOS",
    "Icon\uf00d": "macOS",  # the same, on a Windows share
    ".*.icloud": "macOS",  # stands for a file that was not downloaded
    "Network Trash Folder": "macOS",
    "Temporary Items": "macOS",
    "TheVolumeSettingsFolder": "macOS",
    "Thumbs.db": "Windows",
    "Thumbs.db:*": "Windows",
    "ehthumbs.db": "Windows",
    "ehthumbs_vista.db": "Windows",
    "desktop.ini": "Windows",
    "$RECYCLE.BIN": "Windows",
    "System Volume Information": "Windows",
    "FOUND.0*": "Windows",
    "*:Zone.Identifier*": "Windows",
    "*\uf03aZone.Identifier*": "Windows",  # the same, copied by WSL
    "~$*": "Microsoft Office",
    "@eaDir": "Synology",
    "*@SynoEAStream": "Synology",
    "*@SynoResource": "Synology",
    "@tmp": "Synology",
    "#recycle": "Synology",
    "#snapshot": "Synology",
    "@Recycle": "QNAP",
    "@Recently-Snapshot": "QNAP",
    ".@__thumb": "QNAP",
    "@__thumb": "QNAP",
    "~snapshot": "NetApp",
    "lost+found": "Linux",
    ".Trash*": "Linux",
    ".nfs*": "Linux",
    "Picasa.ini": "Picasa",
    ".picasa.ini": "Picasa",
    "ZbThumbnail.info": "Canon",
    "pspbrwse.jbf": "Paint Shop Pro",
    ".ipynb_checkpoints": "Jupyter",
    "__pycache__": "Python",
}
HIDDEN: Final = "hidden names (.*)"  # all other names that start with a dot

_EXACT: Final = {name.casefold(): name for name in CLUTTER if "*" not in name}
_PATTERNS: Final = [name for name in CLUTTER if "*" in name]
_ANY: Final = re.compile("|".join(f"({translate(name.casefold())})" for name in _PATTERNS))


def clutter(name: str) -> str:
    """Returns the entry of `CLUTTER` that matches a name, `HIDDEN` for other hidden names, or ""."""
    small = name.casefold()
    if found := _EXACT.get(small):
        return found
    if match := _ANY.match(small):
        return _PATTERNS[(match.lastindex or 1) - 1]
    return HIDDEN if small.startswith(".") else ""


def _printable(name: str) -> str:
    return name if name.isprintable() else name.encode("unicode_escape").decode()


class Walk:
    """Finds files below folders, and counts what it skips.

    Args:
        ignored: names of folders to skip, as `folder_key` returns them.

    Attributes:
        passed: number of skipped files and folders for each entry of `CLUTTER`.
        ignored_folders: number of skipped folders for each ignored name.
        ignored_files: number of files below them.
    """

    def __init__(self, ignored: Collection[str] = ()) -> None:
        self._ignored = frozenset(ignored)
        self.passed: Counter[str] = Counter()
        self.ignored_folders: Counter[str] = Counter()
        self.ignored_files: Counter[str] = Counter()

    def above(self, folder: Path, *, is_class: bool) -> None:
        """Counts what is skipped directly in a folder.

        Args:
            folder: a folder above those whose files were listed.
            is_class: whether it is a class folder, where ignored names are skipped, too.
        """
        for entry in os.scandir(folder):
            if kind := clutter(entry.name):
                self.passed[kind] += 1
            elif is_class and (key := folder_key(entry.name)) in self._ignored and entry.is_dir():
                self.ignored_folders[key] += 1
                self.ignored_files[key] += sum(1 for _ in self.files(entry.path, folder))

    def notes(self) -> list[str]:
        """Returns one line that counts the skipped names by kind; no line if nothing was skipped."""
        if not self.passed:
            return []
        each = ", ".join(f"{count:,} {_printable(kind)}" for kind, count in sorted(self.passed.items()))
        return [f"Skipped, not images: {each}"]

    def files(
        self, folder: str | Path, shown: Path | None = None, parents: frozenset[tuple[int, int]] = frozenset()
    ) -> Iterator[tuple[str, int | None]]:
        """Yields every path below a folder, sorted, with its size in bytes (None: no regular file).

        Links are followed. Paths are strings, because making a million Paths takes longer than opening files.

        Args:
            folder: folder to search.
            shown: if given, errors name this folder instead of one below it.
            parents: (device, inode) of the folders above.

        Raises:
            InputError: a link leads to a folder above it.
        """
        status = os.stat(folder)  # noqa: PTH116
        here = (status.st_dev, status.st_ino)
        if here in parents:
            link = f"{shown}: has a symbolic link below it" if shown else f"{folder}: a symbolic link"
            raise InputError(f"{link} to a folder above it; remove the link")
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if kind := clutter(entry.name):
                self.passed[kind] += 1
                continue
            # An entry raises for a link that leads nowhere.
            found = Path(entry.path) if entry.is_symlink() else entry
            if not found.is_dir():
                yield entry.path, found.stat().st_size if found.is_file() else None
                continue
            below = self.files(entry.path, shown, parents | {here})
            if self._ignored and (key := folder_key(entry.name)) in self._ignored:
                self.ignored_folders[key] += 1
                self.ignored_files[key] += sum(1 for _ in below)
            else:
                yield from below


def folder_key(name: str) -> str:
    """Returns the key that compares names of folders: spaces, Unicode form and case do not matter."""
    return normalized(name).casefold()


def folders_in(folder: Path) -> list[Path]:
    """Returns the folders in a folder, links to folders included, sorted, without clutter."""
    found = [
        entry.name
        for entry in os.scandir(folder)
        if (Path(entry.path) if entry.is_symlink() else entry).is_dir() and not clutter(entry.name)
    ]
    return [folder / name for name in sorted(found)]


def refuse_broken_links(folder: Path) -> None:
    """Raises InputError if a link in a folder leads nowhere: it may have been a class."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists() and not clutter(path.name):
            raise InputError(f"{path}: a symbolic link that leads nowhere; repair or remove it")


def loose_image(folder: Path) -> tuple[Path, str] | None:
    """Returns the first image directly in a folder, and its kind; None if there is none."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if clutter(entry.name) or not entry.is_file():
            continue
        with open(entry.path, "rb") as file:  # noqa: PTH123
            head = file.read(HEAD_BYTES)
        try:
            return folder / entry.name, check_kind(head)
        except DecodeError:
            continue
    return None
