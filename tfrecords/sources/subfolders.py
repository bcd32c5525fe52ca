"""Checks folders below class folders: one name in several class folders needs the user's decision."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tfrecords.errors import InputError, first_names
from tfrecords.sources.clutter import Walk, folder_key
from tfrecords.sources.keys import SPLIT_NAMES
from tfrecords.sources.rejection import shown

# Words in the names of folders whose files are derived from images, and are no images of a class.
_DERIVED: Final = re.compile(
    r"(mask|segmentation|annotation|contour|heatmap|overlay|thumbnail)s?|groundtruth"
)
_WHOLE_NAMES: Final = re.compile(r"labels?|thumbs?|gt|ground[_ ]truth")
_COMPANION: Final = re.compile(
    r"[-_ .](mask|seg|segmentation|annotation|gt|groundtruth|label|contour|heatmap|overlay|thumb|thumbnail)s?"
    r"([-_ ]?\d+)?\.\w+$",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Subfolders:
    """What to do with folders below class folders.

    Attributes:
        keep: whether to take all images in folders that have the same name below several class folders.
        ignored: names of folders to skip, as `folder_key` returns them; all other folders are taken.
    """

    keep: bool = False
    ignored: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses the flag: `keep`, `ignore=NAMES` with commas between the names, or "".

        Raises:
            InputError: the text is none of these.
        """
        word, equals, rest = text.partition("=")
        names = tuple(dict.fromkeys(folder_key(name) for name in rest.split(","))) if equals else ()
        if text == "keep":
            return cls(keep=True)
        if not text:
            return cls()
        if word != "ignore" or not names or not all(names) or any("/" in name for name in names):
            raise InputError(
                f"--subfolders={text}: must be keep, or ignore=NAMES with the names of folders, as "
                f"ignore=masks,other"
            )
        return cls(ignored=names)

    @property
    def chosen(self) -> bool:
        """Whether the user has decided."""
        return self.keep or bool(self.ignored)


def check_subfolders(
    root: Path, files: Mapping[tuple[str, str], int], subfolders: Subfolders, walk: Walk, *, keyed: bool
) -> list[str]:
    """Returns lines for the closing summary: which folders were ignored or kept.

    Args:
        root: the folder of the images.
        files: number of files in each (class folder below the root, folder below it).
        subfolders: the user's decision.
        walk: what was skipped.
        keyed: whether there is a key; then no folder below a class folder is named.

    Raises:
        InputError: the user has not decided, and folders have the same name below two or more class folders,
            or names of splits or of derived images; or no folder has an ignored name.
    """
    names: dict[str, str] = {}
    counts: dict[str, Counter[str]] = {}
    for (folder, below), count in files.items():
        parts = {folder_key(part): part for part in below.split("/")}
        for key, part in parts.items():
            names.setdefault(key, part)
            counts.setdefault(key, Counter())[folder] += count
    if absent := [name for name in subfolders.ignored if not walk.ignored_folders[name]]:
        there = f"; there are {first_names(sorted(names.values()))}" if not keyed else ""
        raise InputError(
            f"--subfolders=ignore={','.join(subfolders.ignored)}: no folder below the class folders of "
            f"{root} is called {first_names(absent)}{there}"
        )
    found = {
        names[key]: where
        for key, where in sorted(counts.items())
        if len(where) > 1 or _is_derived(key) or (key in SPLIT_NAMES and key != "train")
    }
    total = sum(
        count
        for (_, below), count in files.items()
        if any(names[folder_key(part)] in found for part in below.split("/"))
    )
    if found and not subfolders.chosen:
        raise InputError(_refusal(root, found, total, keyed=keyed))
    notes = []
    if subfolders.ignored:
        each = [
            f"{walk.ignored_folders[name]:,} folders {name} ({walk.ignored_files[name]:,} files)"
            for name in subfolders.ignored
        ]
        all_folders, all_files = walk.ignored_folders.total(), walk.ignored_files.total()
        listed = f"{all_folders:,} folders ({all_files:,} files)" if keyed else first_names(each)
        notes.append(f"Skipped by --subfolders=ignore: {listed}")
    if found:
        which = f"{len(found):,} names" if keyed else first_names(list(found))
        notes.append(
            f"Subfolders of the same name below several class folders, taken: {which} ({total:,} files)"
        )
    return notes


def check_companions(root: Path, paths: Sequence[str], subfolders: Subfolders, *, keyed: bool) -> list[str]:
    """Returns a line that counts files named like masks of other images, such as `a_mask.png` of `a.png`.

    Args:
        root: the folder of the images.
        paths: paths of the files below the root.
        subfolders: the user's decision; with `keep` such files are images of the class.
        keyed: whether there is a key; then no file is named.

    Raises:
        InputError: there are such files, and the user does not keep them.
    """
    marked = [(path, path[: match.start()]) for path in paths if (match := _COMPANION.search(path))]
    if not marked:
        return []
    stems = {path.rpartition(".")[0] for path in paths}
    found = [path for path, stem in marked if stem in stems]
    if not found:
        return []
    if subfolders.keep:
        return [f"Files named like masks of other images, taken as images: {len(found):,}"]
    first = "" if keyed else f", first {found[0]}"
    raise InputError(
        f"{root}: {len(found)} of {len(paths)} files are named like masks of other images{first}, and would "
        f"become images of the class; move them out of the class folders, or name the images in a --listing, "
        f"or take them as images with --subfolders=keep"
    )


def _is_derived(key: str) -> bool:
    return bool(_WHOLE_NAMES.fullmatch(key)) or any(map(_DERIVED.fullmatch, _WORD.findall(key)))


def _refusal(root: Path, found: Mapping[str, Counter[str]], total: int, *, keyed: bool) -> str:
    folders = sorted({folder for where in found.values() for folder in where})
    derived = [name for name in found if _is_derived(folder_key(name))]
    example = "masks" if keyed else (derived or list(found))[0]
    if keyed:
        listed = f"  {len(found):,} names, {total:,} files below {first_names(folders)}"
    else:
        listed = shown(
            [
                (name, first_names([f"{folder} {count:,} files" for folder, count in sorted(where.items())]))
                for name, where in found.items()
            ]
        )
    return (
        f"{root}: the images of some folders below class folders would be merged into the class; these "
        f"folders have the same name below two or more class folders, or names of splits, masks or the "
        f"like:\n"
        f"{listed}\n"
        f"Say what they are:\n"
        f"  --subfolders=keep: all images below a class folder belong to the class, for example one folder "
        f"for each patient or site\n"
        f"  --subfolders=ignore=NAMES: skip the folders of these names, for example ignore={example}, and "
        f"take all others\n"
        f"  --listing: a table names the images and their labels\n"
        f"If {first_names(folders)} are not classes, name split folders train, val and test, or set --images "
        f"to the folder that holds the class folders."
    )
