"""Finds the file that a path in a table means, also where it is not written exactly like the file's name."""

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
from tfrecords.sources.keys import normalized, normalized_path
from tfrecords.sources.rejection import SHOWN

_SUFFIXES: Final = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "webp", "tif", "tiff", "gif"),
        *("avif", "heic", "heif", "jp2", "j2k", "jpx", "dcm", "dicom"),
    )
)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_MOST_LOOKED_AT: Final = 50  # names in a folder that a hint is searched in

# The kinds of corrections that `PathFinder.corrections` counts.
SPACES: Final = "path"  # stray spaces or Unicode forms; counted as the column "path"
EXTENSION: Final = "extension"
BACKSLASH: Final = "backslash"
ABSOLUTE: Final = "absolute"


class FoundFile(NamedTuple):
    """The file that a path means.

    Attributes:
        path: path below the folder as it is on the disk; if there is no file, as it is written.
        size: size of the file in bytes; None if it is no regular file.
        problem: why there is no file, or "".
    """

    path: str
    size: int | None
    problem: str = ""


class PathFinder:
    """Finds files below a folder.

    First it takes a path as written. If there is no such file, it reads a backslash as a slash, compares the
    names in each folder in normalized form, and takes a name without a suffix for the only image file with
    that stem. An absolute path must lead below the folder.

    Args:
        root: the folder.
        quote: whether problems may show names.

    Attributes:
        corrections: number of paths that were corrected, by the kind of correction.
    """

    def __init__(self, root: Path, *, quote: bool) -> None:
        self.corrections: Counter[str] = Counter()
        self._root = str(root)
        self._quote = quote
        self._names: dict[str, dict[str, list[str]]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}
        self._places: dict[str, str | None] = {}
        self._hints = SHOWN  # a hint costs a search on the disk, so only shown problems get one

    def find(self, written: str) -> FoundFile:
        """Returns the file that a path means, or the problem of the path."""
        if "\0" in written:
            return FoundFile(written, None, f"the path{self._named(written)} holds a NUL character")
        path = posixpath.normpath(written)
        if not path.startswith(("/", ".")):  # as nearly all are
            size, problem = self._size(path)
            if not problem:
                return FoundFile(path, size)
        spellings = _spellings(written)
        below = [self._below_root(spelling) for spelling in spellings]
        problem = ""
        for spelling, (path, wrong) in zip(spellings, below, strict=True):
            size, not_there = (None, wrong) if wrong else self._size(path)
            if not not_there:
                if path != written:
                    self._count_corrections(written, spelling, path)
                return FoundFile(path, size)
            problem = problem or not_there
        for spelling, (path, wrong) in zip(spellings, below, strict=True):
            matches = [] if wrong else self._matches(path)
            if len(matches) > 1:
                named = f"{len(matches)} files"
                if self._quote:
                    named = first_names(list(map(repr, matches)))
                return FoundFile(
                    path, None, f"the path{self._named(path)} could be {named}: write it in full"
                )
            if matches:
                self._count_corrections(written, spelling, matches[0])
                return FoundFile(matches[0], *self._size(matches[0]))
        return FoundFile(written, None, problem + self._hint(spellings[-1]))

    def _below_root(self, written: str) -> tuple[str, str]:
        """Returns a normalized path below the folder, and its problem or ""."""
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
        """Returns the path of an absolute folder below the root, links followed; None if it is not below."""
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
        """Returns the files whose normalized names match a path, sorted."""
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
        """Returns the names in a folder with the same normalized form; only the exact name if it exists."""
        names = self._scanned(folder).get(normalized(name), [])
        return [name] if name in names else names

    def _with_stem(self, folder: str, stem: str) -> list[str]:
        if folder not in self._stems:
            stems: dict[str, list[str]] = {}
            for name in (name for names in self._scanned(folder).values() for name in names):
                start, suffix = posixpath.splitext(name)
                if suffix.strip().casefold() in _SUFFIXES:
                    stems.setdefault(normalized(start), []).append(name)
            self._stems[folder] = stems
        return self._stems[folder].get(normalized(stem), [])

    def _scanned(self, folder: str) -> dict[str, list[str]]:
        """Returns the names in a folder by their normalized form; a folder is read once."""
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            try:
                for name in os.listdir(f"{self._root}/{folder}"):  # noqa: PTH208 - names alone are wanted
                    names.setdefault(normalized(name), []).append(name)
            except OSError:  # no names: the path is reported as not found
                names = {}
            self._names[folder] = names
        return self._names[folder]

    def _count_corrections(self, written: str, spelling: str, found: str) -> None:
        path = self._below_root(spelling)[0]
        plain = normalized_path(path)
        self.corrections[EXTENSION] += plain != normalized_path(found)
        self.corrections[SPACES] += path != found and (plain == normalized_path(found) or plain != path)
        self.corrections[BACKSLASH] += "\\" in written and "\\" not in spelling
        self.corrections[ABSOLUTE] += spelling.startswith("/")

    def _hint(self, path: str) -> str:
        """Returns a hint where the file may be, or ""."""
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
        like = normalized(parts[-1]).casefold()
        for name in (name for names in self._scanned(folder).values() for name in names):
            other = normalized(name).casefold()
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
    """Returns the path as written, and with other separators or another encoding."""
    out = [written]
    if "\\" in written:
        out.append(written.replace("\\", "/"))
    if not written.isprintable():
        with suppress(UnicodeError):  # spreadsheets on Windows may not write UTF-8
            out.append(os.fsencode(written).decode("cp1252" if _has_bytes(written) else "utf-8"))
    trimmed = normalized_path(normalized(out[-1]))
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
