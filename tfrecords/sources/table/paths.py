"""Which file below a folder a path in a table means: as it is written, or as programs and people write it."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final, NamedTuple

from tfrecords.errors import first_names
from tfrecords.sources.keys import unified, unified_path
from tfrecords.sources.rejection import SHOWN

_SUFFIXES: Final = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "webp", "tif", "tiff", "gif"),
        *("avif", "heic", "heif", "jp2", "j2k", "jpx", "dcm", "dicom"),
    )
)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_MOST_LOOKED_AT: Final = 50  # names in the folder, for a hint

# What `PathFinder.told` counts.
SPACES: Final = "path"  # unified, as values of the other columns are
EXTENSION: Final = "extension"
BACKSLASH: Final = "backslash"
ABSOLUTE: Final = "absolute"


class Found(NamedTuple):
    """What a path leads to.

    Attributes:
        path: below the folder, as it is on the disk; of what is not there, as it is written.
        size: of the file, bytes; None for what is neither file nor folder.
        problem: why it is none, or "".
    """

    path: str
    size: int | None
    problem: str = ""


class PathFinder:
    """Finds files below a folder.

    A path as it is written goes first. If nothing is there, a backslash is read as a slash, then the names in
    each folder are compared in their unified form, and a name without a suffix is that of the one image
    file that has it. An absolute path must lead below the folder.

    Args:
        root: the folder.
        quote: whether problems may show names.

    Attributes:
        told: how many paths were not simply there, by what had to be done.
    """

    def __init__(self, root: Path, *, quote: bool) -> None:
        self.told: Counter[str] = Counter()
        self._root = str(root)
        self._quote = quote
        self._names: dict[str, dict[str, list[str]]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}
        self._places: dict[str, str | None] = {}
        self._hints = SHOWN  # a hint is looked for on the disk, so only for problems that are shown

    def find(self, written: str) -> Found:
        """Returns the file that a path means, or what is wrong with it."""
        if "\0" in written:
            return Found(written, None, f"the path{self._named(written)} holds a NUL character")
        path = posixpath.normpath(written)
        if not path.startswith(("/", ".")):  # as nearly all are
            size, problem = self._size(path)
            if not problem:
                return Found(path, size)
        spellings = _spellings(written)
        below = [self._below_root(spelling) for spelling in spellings]
        problem = ""
        for spelling, (path, wrong) in zip(spellings, below, strict=True):
            size, not_there = (None, wrong) if wrong else self._size(path)
            if not not_there:
                if path != written:
                    self._tell(written, spelling, path)
                return Found(path, size)
            problem = problem or not_there
        for spelling, (path, wrong) in zip(spellings, below, strict=True):
            matches = [] if wrong else self._matches(path)
            if len(matches) > 1:
                named = f"{len(matches)} files"
                if self._quote:
                    named = first_names(list(map(repr, matches)))
                return Found(path, None, f"the path{self._named(path)} could be {named}: write it in full")
            if matches:
                self._tell(written, spelling, matches[0])
                return Found(matches[0], *self._size(matches[0]))
        return Found(written, None, problem + self._hint(spellings[-1]))

    def _below_root(self, written: str) -> tuple[str, str]:
        """Returns a path below the folder, normal, and what is wrong with it or ""."""
        path = posixpath.normpath(written)
        if path.startswith("/"):
            folder, name = posixpath.split(path)
            below = self._place(folder)
            if below is None:
                return path, f"the path{self._named(path)} is absolute and not below --images={self._root}"
            path = posixpath.join(below, name)
        if path == ".." or path.startswith("../"):
            return path, f"the path{self._named(path)} leads out of --images"
        return path, ""

    def _place(self, folder: str) -> str | None:
        """Returns where an absolute folder is below the root, through links too, or None."""
        if folder not in self._places:
            above, name = posixpath.split(folder)
            place: str | None = None
            if _is_same(folder, self._root):
                place = ""
            elif above != folder and (parent := self._place(above)) is not None:
                place = posixpath.join(parent, name)
            self._places[folder] = place
        return self._places[folder]

    def _size(self, path: str) -> tuple[int | None, str]:
        try:
            status = os.stat(f"{self._root}/{path}")  # noqa: PTH116 - a Path for each of a million takes long
        except OSError as error:
            return None, f"the file{self._named(path)} cannot be found: {error.strerror}"
        if S_ISDIR(status.st_mode):
            return None, f"the path{self._named(path)} is a folder"
        return (status.st_size if S_ISREG(status.st_mode) else None), ""

    def _matches(self, path: str) -> list[str]:
        """Returns the files whose names are alike, sorted."""
        *parents, last = path.split("/")
        folders = [""]
        for part in parents:
            folders = [f"{folder}{name}/" for folder in folders for name in self._alike(folder, part)]
        found = [folder + name for folder in folders for name in self._alike(folder, last)]
        files = [path for path in found if not os.path.isdir(f"{self._root}/{path}")]  # noqa: PTH112
        if not files and posixpath.splitext(last)[1].casefold() not in _SUFFIXES:
            found = [folder + name for folder in folders for name in self._with_stem(folder, last)]
            files = [path for path in found if not os.path.isdir(f"{self._root}/{path}")]  # noqa: PTH112
        return sorted(files, key=os.fsencode)

    def _alike(self, folder: str, name: str) -> list[str]:
        """Returns the names in a folder with the same unified form; the very same alone if it is there."""
        names = self._scanned(folder).get(unified(name), [])
        return [name] if name in names else names

    def _with_stem(self, folder: str, stem: str) -> list[str]:
        if folder not in self._stems:
            stems: dict[str, list[str]] = {}
            for name in (name for names in self._scanned(folder).values() for name in names):
                start, suffix = posixpath.splitext(name)
                if suffix.strip().casefold() in _SUFFIXES:
                    stems.setdefault(unified(start), []).append(name)
            self._stems[folder] = stems
        return self._stems[folder].get(unified(stem), [])

    def _scanned(self, folder: str) -> dict[str, list[str]]:
        """Returns the names in a folder by their unified form; a folder is read once."""
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            try:
                for name in os.listdir(f"{self._root}/{folder}"):  # noqa: PTH208 - names alone are wanted
                    names.setdefault(unified(name), []).append(name)
            except OSError:  # nothing to be found in it: the path is told as not there
                names = {}
            self._names[folder] = names
        return self._names[folder]

    def _tell(self, written: str, spelling: str, found: str) -> None:
        path = self._below_root(spelling)[0]
        plain = unified_path(path)
        self.told[EXTENSION] += plain != unified_path(found)
        self.told[SPACES] += path != found and (plain == unified_path(found) or plain != path)
        self.told[BACKSLASH] += "\\" in written and "\\" not in spelling
        self.told[ABSOLUTE] += spelling.startswith("/")

    def _hint(self, path: str) -> str:
        """Returns where the file may be, or ""."""
        self._hints -= 1
        if self._hints < 0:
            return ""
        if _URL.match(path):
            return "; it is a URL: give the path below --images"
        path = posixpath.normpath(path)
        return next(self._likely(path.split("/")), "")

    def _likely(self, parts: Sequence[str]) -> Iterator[str]:
        for start in range(1, len(parts)):
            found = self._matches("/".join(parts[start:])) if parts[start] else []
            if len(found) == 1 and self._quote:
                left = "/".join(parts[:start]) + "/"
                yield f"; it is there as {found[0]!r}: leave {left!r} out of the paths"
            elif len(found) == 1:
                yield f"; it is there without the first {start} of its folders: leave them out"
        if not parts or not self._quote:
            return
        for folder in self._folders():
            if self._matches("/".join([folder, *parts])):
                yield f"; it is there below {folder!r}: give --images={self._root}/{folder}"
        folder = "".join(f"{part}/" for part in parts[:-1])
        like = unified(parts[-1]).casefold()
        for name in (name for names in self._scanned(folder).values() for name in names):
            other = unified(name).casefold()
            if name == parts[-1]:  # a folder
                continue
            if other == like or posixpath.splitext(other)[0] == posixpath.splitext(like)[0]:
                yield f"; did you mean {folder + name!r}?"

    def _folders(self) -> list[str]:
        names = sorted(name for names in self._scanned("").values() for name in names)
        return [n for n in names[:_MOST_LOOKED_AT] if os.path.isdir(f"{self._root}/{n}")]  # noqa: PTH112

    def _named(self, path: str) -> str:
        return f" {path!r}" * self._quote


def _spellings(written: str) -> list[str]:
    """Returns the path as it is written, and what else it may be: other separators, another encoding."""
    out = [written]
    if "\\" in written:
        out.append(written.replace("\\", "/"))
    if not written.isprintable():
        with suppress(UnicodeError):  # a spreadsheet on Windows writes what is no UTF-8
            out.append(os.fsencode(written).decode("cp1252" if _has_bytes(written) else "utf-8"))
    trimmed = unified_path(unified(out[-1]))
    if trimmed.startswith("/") and trimmed not in out:
        out.append(trimmed)
    return list(dict.fromkeys(out))


def _has_bytes(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def _is_same(folder: str, root: str) -> bool:
    try:
        return os.path.samefile(folder, root)  # noqa: PTH121
    except OSError:
        return False
