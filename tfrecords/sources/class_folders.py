"""A folder of images to a sorted list of sources: path, label, group and, where given, split."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind
from tfrecords.pool import Pool
from tfrecords.sources.groups import group_finder
from tfrecords.sources.headers import examine, without_patient
from tfrecords.sources.listing import SPLITS, Listing, Source, refuse_rejects
from tfrecords.sources.privacy import GroupKey, positions
from tfrecords.sources.rejection import MaxRejects

_SPLIT_FOLDERS: Final = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_CLUTTER: Final = frozenset({"thumbs.db", "desktop.ini", "__macosx"})  # and every name with a dot first


def list_images(
    root: Path,
    group_regex: str | None = None,
    max_rejects: MaxRejects | None = None,
    key: GroupKey | None = None,
    pool: Pool | None = None,
) -> Listing:
    """Lists an image folder: class folders, or class folders below `train`, `val` and `test`.

    Names that start with a dot and the clutter of desktop systems are passed over; every other
    file in a class folder must be an image, told by its header; nothing is decoded.

    Args:
        root: the folder.
        group_regex: searched in each path below its class folder; the group is its first group,
            or all that matches. None: the chest X-ray naming, and where that does not match, every
            image is a group of its own. Without it a DICOM file's group is its PatientID.
        max_rejects: how many files that are no such image may be left out; None: none.
        key: with it groups and ids are hashed, and errors name no path below the class folders; DICOM
            files need it.
        pool: who reads the headers; None: this process.

    Raises:
        InputError: the folder, its layout, files or the expression cannot be used; of the files all
            are counted and the first are named.
    """
    find_group = group_finder(group_regex)
    try:
        return _list(root, group_regex, find_group, max_rejects or MaxRejects(), key, pool or Pool(1))
    except OSError as error:
        if key:
            raise InputError(f"{root}: a folder below it cannot be read: {error.strerror}") from None
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _list(
    root: Path,
    group_regex: str | None,
    find_group: Callable[[str], str | None],
    max_rejects: MaxRejects,
    key: GroupKey | None,
    pool: Pool,
) -> Listing:
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
    for split, folders in layout:
        if missing := sorted(set(names) - {folder.name for folder in folders}):
            raise InputError(
                f"{root}: split {split!r} has no folder for class {', '.join(missing)}; every split "
                f"needs the same class folders ({', '.join(names)})"
            )
        for folder in folders:
            before = len(sources)
            prefix, below = len(str(folder)) + 1, folder.relative_to(root).as_posix()
            for path, size in _files(folder, frozenset(), folder if key else None):
                inside = path[prefix:]
                relative = f"{below}/{inside}"
                group = find_group(inside) or relative
                sources.append(Source(relative, labels[folder.name], group, split, size or 0))
            if before == len(sources):
                raise InputError(f"{folder}: class folder without images; fill it or remove it")
    grouped = range(len(sources)) if group_regex is not None else ()
    told = without_patient(examine(root, [s.path for s in sources], pool, keyed=key is not None), grouped)
    for number, (_, patient) in told.items():
        if patient and group_regex is None:
            sources[number] = replace(sources[number], group=patient)
    rejected = [(number, reason) for number, (reason, _) in told.items() if reason]
    bad = {number for number, _ in rejected}
    odd = [number for number, s in enumerate(sources) if s.group == s.path and number not in bad]
    sources = _hidden(sources, key) if key else sources
    refuse_rejects(root, sources, rejected, max_rejects, "files in class folders")
    if group_regex is not None and odd:
        raise InputError(
            f"--group_regex={group_regex!r} does not match {len(odd)} of {len(sources)} images, "
            f"first {sources[odd[0]].shown}; it must match every path below its class folder (or leave the "
            f"flag out)"
        )
    has_dicom = any(patient is not None for _, patient in told.values())
    return Listing(root, tuple(names), tuple(sources), tuple(rejected), has_dicom)


def _hidden(sources: Sequence[Source], key: GroupKey) -> list[Source]:
    """Returns the sources with hashed groups and ids, and with positions to be called by."""
    folders: dict[str, list[str]] = {}
    of = ["/".join(source.path.split("/")[: 2 if source.split else 1]) for source in sources]
    for source, folder in zip(sources, of, strict=True):
        folders.setdefault(folder, []).append(source.path)
    position = {k: v for folder, paths in folders.items() for k, v in positions(folder, paths).items()}
    return [
        replace(
            source,
            group=key.group(source.group),
            position=position[source.path],
            hashed_id=key.id(folder, source.path),
        )
        for source, folder in zip(sources, of, strict=True)
    ]


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Returns files as given, and all files below folders, sorted; each must be an image.

    Raises:
        InputError: a path that is not there, a folder without files, or a file that is no image.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        found = [Path(file) for file, _ in _files(path, frozenset())] if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: a folder without images")
        files += found
    for file in files:
        try:
            with file.open("rb") as opened:
                check_kind(opened.read(HEAD_BYTES))
        except (DecodeError, OSError) as error:
            raise InputError(f"{file}: {getattr(error, 'strerror', None) or error}") from None
    return files


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
                head = file.read(HEAD_BYTES)
            try:
                kind = check_kind(head)
            except DecodeError:
                continue
            if kind == "DICOM":
                raise InputError(
                    f"{folder}: has a DICOM file outside the class folders; put it into that of its class"
                )
            raise InputError(
                f"{path}: an image outside the class folders; put it into the folder of its class"
            )


def _files(
    folder: str | Path, parents: frozenset[tuple[int, int]], shown: Path | None = None
) -> Iterator[tuple[str, int | None]]:
    """Yields every file below a folder with its size (None: no file), sorted; links are followed.

    Errors name `shown`, where it is given, and no folder below it.

    Paths are strings: a Path for each of a million files takes longer than to open them.
    """
    status = os.stat(folder)  # noqa: PTH116
    here = (status.st_dev, status.st_ino)
    if here in parents:
        link = f"{shown}: has a symbolic link below it" if shown else f"{folder}: a symbolic link"
        raise InputError(f"{link} to a folder above it; remove the link")
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if _is_clutter(entry.name):
            continue
        # An entry raises for a link that leads nowhere.
        found = Path(entry.path) if entry.is_symlink() else entry
        if found.is_dir():
            yield from _files(entry.path, parents | {here}, shown)
        else:
            yield entry.path, found.stat().st_size if found.is_file() else None


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER
