"""Lists a folder of images as sorted sources: path, label, group and, where the folders give it, split."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError, first_names
from tfrecords.pool import Pool
from tfrecords.sources.classes import class_order, classes_flag
from tfrecords.sources.clutter import Walk, folders_in, loose_image
from tfrecords.sources.groups import group_finder
from tfrecords.sources.headers import read_headers, reject_without_patient
from tfrecords.sources.layout import Layout, find_layout
from tfrecords.sources.listing import Listing, Source, refuse_rejects
from tfrecords.sources.privacy import GroupKey, positions
from tfrecords.sources.rejection import MaxRejects
from tfrecords.sources.subfolders import Subfolders, check_companions, check_subfolders

_DEEP: Final = 5  # most levels of single folders that an unpacked archive may add
# Class folders that all have such names hold parts of a data set, not classes.
_ROLES: Final = re.compile(r"(image|img|mask|label|annotation|segmentation)s?|ground_?truth|gt")


def list_images(
    root: Path,
    group_regex: str | None = None,
    max_rejects: MaxRejects | None = None,
    key: GroupKey | None = None,
    pool: Pool | None = None,
    *,
    subfolders: str = "",
    classes: Sequence[str] = (),
) -> Listing:
    """Lists an image folder: class folders, with split folders above or below them if there are any.

    Hidden names and files of operating systems (`clutter.CLUTTER`) are skipped and counted. Every other file
    in a class folder must be an image by its header. No pixel is decoded.

    Args:
        root: the folder.
        group_regex: regular expression that is searched in each path below its class folder. The group is
            the expression's first group, or all that matches. None: the group is the PatientID of a DICOM
            file, or follows the chest X-ray naming; an image without either is a group of its own.
        max_rejects: how many unusable files may be left out; None for none.
        key: hashes groups and ids; errors then name no path below the class folders. DICOM files need it.
        pool: processes that read the headers; None for this process.
        subfolders: what to do with folders of the same name below several class folders: "keep",
            "ignore=NAMES", or "" to refuse them; see `Subfolders`.
        classes: the class names in the order of their labels; () for the order of `class_order`.

    Raises:
        InputError: the folder, its layout, its files or the expression cannot be used. Of the files, all are
            counted and the first are named.
    """
    odd_groups: set[str] = set()
    find_group = group_finder(group_regex, odd_groups)
    policy = Subfolders.parse(subfolders)
    try:
        listing = _list(
            root, group_regex, find_group, max_rejects or MaxRejects(), key, pool or Pool(1), policy, classes
        )
    except OSError as error:
        if key:
            raise InputError(f"{root}: a folder below it cannot be read: {error.strerror}") from None
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not odd_groups:
        return listing
    note = f"Group names with stray spaces or in another Unicode form, normalized: {len(odd_groups):,}"
    return replace(listing, notes=(*listing.notes, note))


def _list(
    root: Path,
    group_regex: str | None,
    find_group: Callable[[str], str | None],
    max_rejects: MaxRejects,
    key: GroupKey | None,
    pool: Pool,
    subfolders: Subfolders,
    classes: Sequence[str],
) -> Listing:
    if not root.is_dir():
        raise InputError(f"--images={root}: {'is not a folder' if root.exists() else 'no such folder'}")
    layout = find_layout(root, subfolders, classes, keyed=key is not None)
    names = _class_names(root, layout, classes, keyed=key is not None)
    labels = {name: label for label, name in enumerate(names)}
    walk = Walk(subfolders.ignored)
    sources: list[Source] = []
    in_folders: Counter[tuple[str, str]] = Counter()  # files of each (class folder, folder below it)
    for folder in layout.folders:
        before = len(sources)
        prefix, below = len(str(folder.path)) + 1, folder.path.relative_to(root).as_posix()
        for path, size in walk.files(folder.path, folder.path if key else None):
            inside = path[prefix:]
            relative = f"{below}/{inside}"
            if "/" in inside:
                in_folders[below, inside.rpartition("/")[0]] += 1
            group = find_group(inside) or relative
            sources.append(Source(relative, labels[folder.name], group, folder.split, size or 0))
        if before == len(sources):
            raise InputError(f"{folder.path}: class folder without images; fill it or remove it")
    for parent, is_class in layout.above(root):
        walk.above(parent, is_class=is_class)
    notes = [*layout.notes(), *check_subfolders(root, in_folders, subfolders, walk, keyed=key is not None)]
    notes += check_companions(root, [s.path for s in sources], subfolders, keyed=key is not None)
    grouped = range(len(sources)) if group_regex is not None else ()
    headers = read_headers(root, [s.path for s in sources], pool, keyed=key is not None)
    headers = reject_without_patient(headers, grouped)
    for number, (_, patient) in headers.items():
        if patient and group_regex is None:
            sources[number] = replace(sources[number], group=patient)
    rejected = [(number, reason) for number, (reason, _) in headers.items() if reason]
    bad = {number for number, _ in rejected}
    odd = [number for number, s in enumerate(sources) if s.group == s.path and number not in bad]
    sources = _with_hashed_names(sources, key) if key else sources
    refuse_rejects(root, sources, rejected, max_rejects, "files in class folders")
    if group_regex is not None and odd:
        raise InputError(
            f"--group_regex={group_regex!r} does not match {len(odd)} of {len(sources)} images, "
            f"first {sources[odd[0]].shown}; it must match every path below its class folder (or leave the "
            f"flag out)"
        )
    has_dicom = any(patient is not None for _, patient in headers.values())
    notes += walk.notes()
    return Listing(root, names, tuple(sources), tuple(rejected), has_dicom, notes=tuple(notes))


def _class_names(root: Path, layout: Layout, classes: Sequence[str], *, keyed: bool) -> tuple[str, ...]:
    """Returns the class names in the order of their labels; each split must have a folder for each."""
    names = class_order({folder.name for folder in layout.folders})
    if len(names) < 2:
        inner = None if keyed else _nested_folder(root)
        raise InputError(
            f"{root}: found {len(names)} class folder{'s'[: len(names) != 1]} ({first_names(names) or '-'}); "
            f"classification needs two or more, one folder for each class with its images inside"
            + (
                f"; if the class or split folders are those in {inner}, give --images={inner}"
                if inner
                else ""
            )
        )
    names = class_order(names, classes)
    for split in layout.splits:
        there = {folder.name for folder in layout.folders if folder.split == split}
        if missing := [name for name in names if name not in there]:
            raise InputError(
                f"{root}: split {split!r} has no folder for class {first_names(missing)}; every split "
                f"needs the same class folders ({first_names(names)})"
            )
    if not classes and all(_ROLES.fullmatch(name.casefold()) for name in names):
        raise InputError(
            f"{root}: the class folders are called {first_names(names)}: names of kinds of files, not of "
            f"classes; set --images to the folder that holds the class folders, or name the images with "
            f"their labels in a --listing; if these are classes, name all of them: {classes_flag(names)}"
        )
    return names


def _nested_folder(root: Path) -> Path | None:
    """Returns the folder with several folders at the end of a chain of single ones; None if there is none."""
    folder = root
    for _ in range(_DEEP):
        inside = folders_in(folder)
        if len(inside) != 1 or loose_image(folder):
            return folder if len(inside) > 1 and folder != root else None
        folder = inside[0]
    return None


def _with_hashed_names(sources: Sequence[Source], key: GroupKey) -> list[Source]:
    """Returns the sources with hashed groups and ids, and with the positions by which errors name them."""
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
