"""Which folders are classes and which are splits, told by their names and by what is in them."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError, first_names
from tfrecords.sources.classes import classes_flag
from tfrecords.sources.clutter import folder_key, folders_in, loose_image, refuse_broken_links
from tfrecords.sources.keys import SPLIT_NAMES, unified
from tfrecords.sources.listing import SPLITS
from tfrecords.sources.subfolders import Subfolders

# These names with something added, as train_images, test_set, trainA, seg_train: never silently a class.
_WORDS: Final = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]*")
_ADDED: Final = re.compile(
    rf"({'|'.join(sorted(SPLIT_NAMES, key=len, reverse=True))})(sets?|data|images?|imgs?|split|folder)?"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class ClassFolder:
    """A folder with the images of one class, in one split.

    Attributes:
        path: of the folder.
        name: of its class.
        split: "train", "val", "test", or None if the folders do not tell.
    """

    path: Path
    name: str
    split: str | None


@dataclass(frozen=True)
class Layout:
    """The class folders below a root.

    Attributes:
        folders: sorted by split and path.
        splits: that there are folders of, in order; () if the folders do not tell.
        splits_inside: whether split folders stand in class folders, and not the other way round.
    """

    folders: tuple[ClassFolder, ...]
    splits: tuple[str, ...] = ()
    splits_inside: bool = False

    def above(self, root: Path) -> list[tuple[Path, bool]]:
        """Returns the folders above those with images, and whether each is a class."""
        parents = dict.fromkeys(folder.path.parent for folder in self.folders)
        return [(root, False), *((path, self.splits_inside) for path in parents if path != root)]

    def notes(self) -> list[str]:
        """Returns which class folders were taken under another name, in a line; none if none were."""
        paths = [f.path.parent if self.splits_inside else f.path for f in self.folders]
        odd = {
            ascii(path.name): folder.name
            for path, folder in zip(paths, self.folders, strict=True)
            if path.name != folder.name
        }
        if not odd:
            return []
        named = first_names([f"{found} as {name!r}" for found, name in odd.items()])
        return [f"Class folders taken without stray spaces and in one Unicode form: {named}"]


def find_layout(
    root: Path, subfolders: Subfolders, classes: Collection[str] = (), *, keyed: bool = False
) -> Layout:
    """Returns the class folders below a root.

    They are in the root; or in split folders that all hold the same class folders; or each of them holds
    nothing but split folders.

    Args:
        root: the folder.
        subfolders: what to do with folders below class folders.
        classes: the class names, if they are given: folders of exactly these names are class folders.
        keyed: whether there is a key; then errors show no name below a class folder.

    Raises:
        InputError: the folders can be none of this, or more than one of it.
    """
    refuse_broken_links(root)
    folders = folders_in(root)
    _named(folders)
    if classes and {unified(folder.name) for folder in folders} == set(map(unified, classes)):
        return _in_root(root, folders, subfolders, sure=True, keyed=keyed)
    splits = [folder for folder in folders if _split_of(folder)]
    others = [folder for folder in folders if not _split_of(folder)]
    inside = [{folder_key(found.name) for found in folders_in(folder)} for folder in splits]
    if not any(inside):
        if len(splits) > 1 and any(map(loose_image, splits)):
            raise InputError(
                f"{root}: {first_names([f.name for f in splits])} are named as splits and hold images, but "
                f"no class folders; put the images into a folder for each class in each of them, or name "
                f"them with their labels in a --listing; if these are classes, name all: {_flag(folders)}"
            )
        return _in_root(root, folders, subfolders, sure=False, keyed=keyed)
    if not others:
        return _below_splits(root, splits)
    if len(splits) == 1 and any(inside[0] & {folder_key(f.name) for f in folders_in(o)} for o in others):
        # As other folders are: a class of this name. That they hold the same names is looked at later.
        return _in_root(root, folders, subfolders, sure=False, keyed=keyed)
    raise InputError(
        f"{root}: has split folders ({first_names([f.name for f in splits])}) and others beside them "
        f"({first_names([f.name for f in others])}); use either class folders, or class folders below train, "
        f"val, test; if all of these are classes, name them: {_flag(folders)}"
    )


def split_hint(name: str) -> str | None:
    """Returns the split that a word of a name tells: of `train_images` and `trainA` it is train."""
    for word in _WORDS.findall(name):
        if match := _ADDED.fullmatch(word.casefold()):
            return SPLIT_NAMES[match[1]]
    return None


def _split_of(folder: Path) -> str | None:
    return SPLIT_NAMES.get(folder_key(folder.name))


def _flag(folders: Sequence[Path]) -> str:
    return classes_flag([unified(folder.name) for folder in folders])


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    """Returns folders that stand beside each other by the names of their classes."""
    found: dict[str, Path] = {}
    for folder in folders:
        name = unified(folder.name)
        if not name or not name.isprintable() or _CONTROL.search(folder.name.strip()):
            raise InputError(
                f"{folder.parent}: class folder {folder.name!r} must have a printable name; rename it"
            )
        if name in found:
            raise InputError(
                f"{folder.parent}: class folders {found[name].name!a} and {folder.name!a} have the same name "
                f"but for spaces or Unicode forms; put their images into one of them"
            )
        found[name] = folder
    return found


def _in_root(
    root: Path, folders: Sequence[Path], subfolders: Subfolders, *, sure: bool, keyed: bool
) -> Layout:
    """Returns class folders that stand in the root, and perhaps hold split folders.

    Args:
        root: the folder.
        folders: in it.
        subfolders: what to do with folders below them.
        sure: whether the user says that these are the classes.
        keyed: see `find_layout`.
    """
    _refuse_loose_images(root)
    hints = [found for folder in folders if (found := split_hint(folder.name))]
    if not sure and "train" in hints and len(set(hints)) > 1 and len(hints) * 2 >= len(folders):
        raise InputError(
            f"{root}: {first_names([f.name for f in folders])} look like splits, not like classes; name "
            f"split folders train, val and test, with the same class folders in each; if these are classes, "
            f"name all: {_flag(folders)}"
        )
    below = {
        folder: [f for f in folders_in(folder) if folder_key(f.name) not in subfolders.ignored]
        for folder in folders
    }
    if len(below) > 1 and all(found and all(map(_split_of, found)) for found in below.values()):
        return _below_classes(root, below)
    if len(below) > 1 and not subfolders.keep:
        _refuse_split_names(root, below, keyed=keyed)
    return Layout(tuple(ClassFolder(folder, unified(folder.name), None) for folder in folders))


def _below_classes(root: Path, below: Mapping[Path, Sequence[Path]]) -> Layout:
    """Returns the split folders that stand in class folders, as these hold nothing else."""
    by_split = {folder: _by_split(folder, found) for folder, found in below.items()}
    splits = tuple(split for split in SPLITS if any(split in found for found in by_split.values()))
    if "train" not in splits:
        there = sorted({path.name for found in below.values() for path in found})
        raise InputError(f"{root}: has {first_names(there)} in its class folders but no train folder")
    for folder in below:
        _refuse_loose_images(folder, "the split folders", "its split")
    folders = [
        ClassFolder(by_split[folder][split], unified(folder.name), split)
        for split in splits
        for folder in below
        if split in by_split[folder]
    ]
    return Layout(tuple(folders), splits, splits_inside=True)


def _below_splits(root: Path, folders: Sequence[Path]) -> Layout:
    """Returns class folders that stand in split folders."""
    by_split = _by_split(root, folders)
    if "train" not in by_split:
        raise InputError(f"{root}: has {', '.join(f.name for f in folders)} but no train folder")
    for folder in folders:
        refuse_broken_links(folder)
        _refuse_loose_images(folder)
    splits = tuple(split for split in SPLITS if split in by_split)
    classes = [
        ClassFolder(folder, name, split)
        for split in splits
        for name, folder in _named(folders_in(by_split[split])).items()
    ]
    return Layout(tuple(classes), splits)


def _by_split(parent: Path, folders: Sequence[Path]) -> dict[str, Path]:
    found = {_split_of(folder) or "": folder for folder in folders}
    if len(found) < len(folders):
        raise InputError(f"{parent}: two folders for one split: {', '.join(f.name for f in folders)}")
    return found


def _refuse_loose_images(folder: Path, beside: str = "the class folders", its: str = "its class") -> None:
    """An image beside the class folders has no class; other files may be there."""
    if found := loose_image(folder):
        path, kind = found
        if kind == "DICOM":  # whose name may hold a patient's
            raise InputError(f"{folder}: has a DICOM file outside {beside}; put it into that of {its}")
        raise InputError(f"{path}: an image outside {beside}; put it into the folder of {its}")


def _refuse_split_names(root: Path, below: Mapping[Path, Sequence[Path]], *, keyed: bool) -> None:
    """Split folders in some class folders, or beside others, would be flattened into one class.

    One folder called train, among others in its class folder, is taken for what it shows.
    """
    named = {
        folder: [path for path in found if _split_of(path) or split_hint(path.name)]
        for folder, found in below.items()
    }
    hints = {_split_of(path) or split_hint(path.name) for paths in named.values() for path in paths}
    odd = [
        folder
        for folder, paths in named.items()
        for path in paths
        if _split_of(path) and (folder_key(path.name) != "train" or len(below[folder]) == 1)
    ]
    if len(hints) < 2 and not odd:
        return
    folder = odd[0] if odd else next(folder for folder, paths in named.items() if paths)
    holds = f"{len(named[folder])} folders" if keyed else first_names([path.name for path in named[folder]])
    raise InputError(
        f"{root}: class folder {folder.name} holds {holds}, named like splits, but not every class "
        f"folder holds split folders alone; make it so, with the names train, val and test; or take all "
        f"images below class folders, whatever the folder, with --subfolders=keep; or name the images in a "
        f"--listing"
    )
