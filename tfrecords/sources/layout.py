"""Tells class folders from split folders, by their names and by what they hold."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError, first_names
from tfrecords.sources.classes import classes_flag
from tfrecords.sources.clutter import folder_key, folders_in, loose_image, refuse_broken_links
from tfrecords.sources.keys import SPLIT_NAMES, normalized
from tfrecords.sources.listing import SPLITS
from tfrecords.sources.subfolders import Subfolders

# Split names with something added, such as train_images, test_set, trainA, seg_train, are never classes.
_WORDS: Final = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]*")
_ADDED: Final = re.compile(
    rf"({'|'.join(sorted(SPLIT_NAMES, key=len, reverse=True))})(sets?|data|images?|imgs?|split|folder)?"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class ClassFolder:
    """A folder with the images of one class, in one split.

    Attributes:
        path: path of the folder.
        name: name of the class.
        split: "train", "val" or "test"; None if the folders name no splits.
    """

    path: Path
    name: str
    split: str | None


@dataclass(frozen=True)
class Layout:
    """The class folders below a root.

    Attributes:
        folders: the class folders, sorted by split and path.
        splits: the splits that have folders, in order; () if the folders name no splits.
        splits_inside: whether split folders are in class folders, and not the other way round.
    """

    folders: tuple[ClassFolder, ...]
    splits: tuple[str, ...] = ()
    splits_inside: bool = False

    def above(self, root: Path) -> list[tuple[Path, bool]]:
        """Returns the folders above those with images, each with whether it is a class folder."""
        parents = dict.fromkeys(folder.path.parent for folder in self.folders)
        return [(root, False), *((path, self.splits_inside) for path in parents if path != root)]

    def notes(self) -> list[str]:
        """Returns one line with the class folders whose names were normalized; no line if none were."""
        paths = [f.path.parent if self.splits_inside else f.path for f in self.folders]
        odd = {
            ascii(path.name): folder.name
            for path, folder in zip(paths, self.folders, strict=True)
            if path.name != folder.name
        }
        if not odd:
            return []
        named = first_names([f"{found} as {name!r}" for found, name in odd.items()])
        return [f"Class folders with stray spaces or in another Unicode form, normalized: {named}"]


def find_layout(
    root: Path, subfolders: Subfolders, classes: Collection[str] = (), *, keyed: bool = False
) -> Layout:
    """Returns the class folders below a root.

    Three layouts are allowed: class folders in the root; split folders that all hold the same class folders;
    class folders that hold only split folders.

    Args:
        root: the folder.
        subfolders: what to do with folders below class folders.
        classes: the class names, if given; folders of exactly these names are class folders.
        keyed: whether there is a key; errors then show no name below a class folder.

    Raises:
        InputError: the folders fit none of these layouts, or several.
    """
    refuse_broken_links(root)
    folders = folders_in(root)
    _by_class_name(folders)
    if classes and {normalized(folder.name) for folder in folders} == set(map(normalized, classes)):
        return _in_root(root, folders, subfolders, sure=True, keyed=keyed)
    splits = [folder for folder in folders if _split_of(folder)]
    others = [folder for folder in folders if not _split_of(folder)]
    inside = [{folder_key(found.name) for found in folders_in(folder)} for folder in splits]
    if not any(inside):
        if len(splits) > 1 and any(map(loose_image, splits)):
            raise InputError(
                f"{root}: {first_names([f.name for f in splits])} are named like splits and hold images, but "
                f"no class folders; put the images into one folder for each class inside them, or name them "
                f"with their labels in a --listing; if these are classes, name all of them: {_flag(folders)}"
            )
        return _in_root(root, folders, subfolders, sure=False, keyed=keyed)
    if not others:
        return _below_splits(root, splits)
    if len(splits) == 1 and any(inside[0] & {folder_key(f.name) for f in folders_in(o)} for o in others):
        # The same folders as in other folders: so it is a class. Equal names are checked later.
        return _in_root(root, folders, subfolders, sure=False, keyed=keyed)
    raise InputError(
        f"{root}: has split folders ({first_names([f.name for f in splits])}) and other folders beside them "
        f"({first_names([f.name for f in others])}); use either class folders, or class folders inside "
        f"train, val and test; if all of these are classes, name all of them: {_flag(folders)}"
    )


def split_hint(name: str) -> str | None:
    """Returns the split that a word in a name stands for: train for `train_images` and `trainA`."""
    for word in _WORDS.findall(name):
        if match := _ADDED.fullmatch(word.casefold()):
            return SPLIT_NAMES[match[1]]
    return None


def _split_of(folder: Path) -> str | None:
    return SPLIT_NAMES.get(folder_key(folder.name))


def _flag(folders: Sequence[Path]) -> str:
    return classes_flag([normalized(folder.name) for folder in folders])


def _by_class_name(folders: Sequence[Path]) -> dict[str, Path]:
    """Returns sibling folders by the names of their classes."""
    found: dict[str, Path] = {}
    for folder in folders:
        name = normalized(folder.name)
        if not name or not name.isprintable() or _CONTROL.search(folder.name.strip()):
            raise InputError(
                f"{folder.parent}: class folder {folder.name!r} must have a printable name; rename it"
            )
        if name in found:
            raise InputError(
                f"{folder.parent}: class folders {found[name].name!a} and {folder.name!a} differ only "
                f"in spaces or Unicode form; put their images into one of them"
            )
        found[name] = folder
    return found


def _in_root(
    root: Path, folders: Sequence[Path], subfolders: Subfolders, *, sure: bool, keyed: bool
) -> Layout:
    """Returns the layout of class folders in the root, which may hold split folders.

    Args:
        root: the folder.
        folders: the folders in it.
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
            f"name all of them: {_flag(folders)}"
        )
    below = {
        folder: [f for f in folders_in(folder) if folder_key(f.name) not in subfolders.ignored]
        for folder in folders
    }
    if len(below) > 1 and all(found and all(map(_split_of, found)) for found in below.values()):
        return _below_classes(root, below)
    if len(below) > 1 and not subfolders.keep:
        _refuse_split_names(root, below, keyed=keyed)
    return Layout(tuple(ClassFolder(folder, normalized(folder.name), None) for folder in folders))


def _below_classes(root: Path, below: Mapping[Path, Sequence[Path]]) -> Layout:
    """Returns the layout of class folders that hold only split folders."""
    by_split = {folder: _by_split(folder, found) for folder, found in below.items()}
    splits = tuple(split for split in SPLITS if any(split in found for found in by_split.values()))
    if "train" not in splits:
        there = sorted({path.name for found in below.values() for path in found})
        raise InputError(f"{root}: has {first_names(there)} in its class folders but no train folder")
    for folder in below:
        _refuse_loose_images(folder, "the split folders", "its split")
    folders = [
        ClassFolder(by_split[folder][split], normalized(folder.name), split)
        for split in splits
        for folder in below
        if split in by_split[folder]
    ]
    return Layout(tuple(folders), splits, splits_inside=True)


def _below_splits(root: Path, folders: Sequence[Path]) -> Layout:
    """Returns the layout of split folders that hold class folders."""
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
        for name, folder in _by_class_name(folders_in(by_split[split])).items()
    ]
    return Layout(tuple(classes), splits)


def _by_split(parent: Path, folders: Sequence[Path]) -> dict[str, Path]:
    found = {_split_of(folder) or "": folder for folder in folders}
    if len(found) < len(folders):
        raise InputError(f"{parent}: two folders for one split: {', '.join(f.name for f in folders)}")
    return found


def _refuse_loose_images(folder: Path, beside: str = "the class folders", its: str = "its class") -> None:
    """Raises InputError for an image beside the class folders: it has no class. Other files may be there."""
    if found := loose_image(folder):
        path, kind = found
        if kind == "DICOM":  # its name may hold a patient's
            raise InputError(f"{folder}: has a DICOM file outside {beside}; put it into the folder of {its}")
        raise InputError(f"{path}: an image outside {beside}; put it into the folder of {its}")


def _refuse_split_names(root: Path, below: Mapping[Path, Sequence[Path]], *, keyed: bool) -> None:
    """Raises InputError for split folders in only some class folders: they would be merged into one class.

    A single folder named train, among others in its class folder, is allowed: it may show a train.
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
        f"{root}: class folder {folder.name} holds {holds}, named like splits, but not every class folder "
        f"holds only split folders; put train, val and test folders, and nothing else, into each class "
        f"folder; or take all images below the class folders with --subfolders=keep; or name the images in a "
        f"--listing"
    )
