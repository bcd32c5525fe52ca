"""Lists the files to predict: those that are named, and all files in folders."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tfrecords.sources.clutter import clutter

_DICOM_ENDINGS: Final = frozenset({".dcm", ".dicom", ".ima"})
_IMAGE_ENDINGS: Final = _DICOM_ENDINGS | {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif", ".mpo"),
    *(".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".pgm", ".ppm", ".pbm", ".pnm", ".psd"),
}
_CONTROL: Final = frozenset(range(32)) - set(b"\t\n\f\r\x1b")  # bytes that text does not have


class ListedFile(NamedTuple):
    """A path that may be an image's.

    Attributes:
        path: as given, or found in a folder.
        named: whether it was given; then it must be an image.
        problem: why it cannot be read; "" if no reason is known yet.
    """

    path: str
    named: bool
    problem: str = ""


def list_files(paths: Sequence[Path]) -> list[ListedFile]:
    """Returns the files that are given, and all files in folders, sorted, without hidden system files.

    No file is opened. Links are followed. A link that leads nowhere, and a folder that cannot be read, has a
    `problem`. In folders, pipes and devices are skipped.
    """
    listed: list[ListedFile] = []
    for path in paths:
        name = str(path)
        try:
            is_folder = path.is_dir()
            path.stat()
        except OSError as error:
            listed.append(ListedFile(name, True, error.strerror or "cannot be read"))
            continue
        below = list(_below(name, frozenset())) if is_folder else [ListedFile(name, True)]
        listed += below or [ListedFile(name, True, "a folder without files")]
    return listed


def is_no_image(path: str, head: bytes) -> bool:
    """Returns whether a file of no known image kind is meant to be something else, so that it may be skipped.

    It is if its name has an ending that no image has, or no ending and its content is text.

    Args:
        path: its path; the part after the last point is no ending if it is a number, as in a DICOM UID.
        head: its first bytes.
    """
    ending = ending_of(path)
    if ending:
        return ending not in _IMAGE_ENDINGS
    return bool(head) and _CONTROL.isdisjoint(head)


def named_as_dicom(path: str) -> bool:
    """Returns whether a file has the ending of a DICOM file; then its name may hold a patient's."""
    return ending_of(path) in _DICOM_ENDINGS


def ending_of(path: str) -> str:
    """Returns the ending of a file's name in small letters, with its point; "" if there is none."""
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122 - a Path takes longer
    return "" if ending[1:].isdigit() else ending


def _below(folder: str, parents: frozenset[tuple[int, int]]) -> Iterator[ListedFile]:
    try:
        status = os.stat(folder)  # noqa: PTH116
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield ListedFile(folder, False, f"a folder that cannot be read: {error.strerror}")
        return
    here = (status.st_dev, status.st_ino)
    if here in parents:
        yield ListedFile(folder, False, "a symbolic link to a folder above it")
        return
    for entry in entries:
        if clutter(entry.name):
            continue
        try:
            if entry.is_dir():
                yield from _below(entry.path, parents | {here})
            elif entry.is_file():
                yield ListedFile(entry.path, False)
            elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                yield ListedFile(entry.path, False, "a symbolic link that leads nowhere")
        except OSError as error:
            yield ListedFile(entry.path, False, error.strerror or "cannot be read")
