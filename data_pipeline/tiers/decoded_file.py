"""Decodes a split once into one file; the processes of a machine map the file and so share its memory.

The file has a header, one line of JSON in 4 KiB: folder and hash of the data, the place of each field,
SHA-256 of the content. The fields follow, each [N, ...] and each from a multiple of 4 KiB on. The file's name
holds the hash of the manifest, so another conversion of the same images has another file.

A start checks the header, the size and the SHA-256 of the first 64 bytes in each of 64 pages, spread evenly.
`require_sound` checks all of the content. A file that fails is written again, with a message. One process
writes a file while the others wait. Before it writes, it removes the files whose data set is gone: their
folder holds no data set any more, or another. A file may be removed at any time, because a process that has
mapped it keeps it. A file must never be cut or written into.
"""

import hashlib
import json
import mmap
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from data_pipeline.tiers import decoding
from data_pipeline.tiers.free_memory import free_memory
from tfrecords.errors import InputError
from tfrecords.example import FIELDS
from tfrecords.files.atomic import publish
from tfrecords.files.cache import user_cache
from tfrecords.files.locks import file_lock
from tfrecords.manifest import MANIFEST_NAME, Manifest

_FORMAT: Final = 1  # raise it when the file's layout or the decoding changes
_SUFFIX: Final = ".decoded"
_PAGE: Final = 4096  # bytes
_SAMPLES: Final = 64

Header = dict[str, Any]


def load(
    directory: Path, manifest: Manifest, split: str, fields: tuple[str, ...], cache_dir: str = ""
) -> dict[str, Any]:
    """Maps the split's file; writes it first if it is not there.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        split: name of the split.
        fields: names out of `tfrecords.example.FIELDS`.
        cache_dir: the file is in its folder "decoded"; "": the user's cache folder.

    Returns:
        what `decoding.load` returns, in the same order; `image` is the file's pages, not a copy.

    Raises:
        InputError: a shard is missing, cut or damaged, or the file cannot be written.
    """
    path = _path(cache_dir, manifest, split)
    try:
        header = _sound(path)
        if header is None:
            with _alone(path):
                header = _sound(path, aloud=True)  # another process may have written it meanwhile
                if header is None:
                    _remove_stale(path.parent)
                    header = _write(path, directory, manifest, split)
        arrays = _mapped(path, header)
    except OSError as error:
        raise InputError(
            f"{path}: the decoded data cannot be written or read: {error.strerror}; make room, name "
            f"another folder with --cache_dir, or use --cache=memory"
        ) from None
    return {
        name: decoding.in_place(arrays[name]) if name == "image" else tf.constant(arrays[name])
        for name in fields
    }


def room(cache_dir: str, manifest: Manifest, split: str) -> int:
    """Returns the bytes that a split's file may take: what is free on disk, and its size if it is there."""
    path = _path(cache_dir, manifest, split)
    there = path.stat().st_size if path.exists() else 0
    return there + shutil.disk_usage(next(p for p in path.parents if p.exists())).free


def require_sound(cache_dir: str, manifest: Manifest) -> None:
    """Removes the files of a data set whose content has changed since they were written.

    The next start writes them again from the shards.
    """
    for split in manifest.splits:
        path = _path(cache_dir, manifest, split)
        header = _sound(path)
        if header is not None and header["sha256"] != _content_sha256(path):
            _say_damaged(path, "its content is not what was written")
            path.unlink(missing_ok=True)


def folder_of(cache_dir: str) -> Path:
    """Returns the folder of the files: "decoded" in `cache_dir`, or if that is "" in the user's cache."""
    return (Path(cache_dir) if cache_dir else user_cache()) / "decoded"


def _path(cache_dir: str, manifest: Manifest, split: str) -> Path:
    manifest.split(split)
    return folder_of(cache_dir) / f"{manifest.name}-{split}-{manifest.sha256[:16]}-{_FORMAT}{_SUFFIX}"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keeps other processes from writing the same file; the system frees the lock of a dead process."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # images of patients: for this user only
    with file_lock(path.with_suffix(".lock")):
        yield


def _write(path: Path, directory: Path, manifest: Manifest, split: str) -> Header:
    temporary = path.with_name(f".{path.name}.tmp")  # one writer at a time: what a dead one left is removed
    image_shape = (manifest.split(split).records, *manifest.image_shape)
    size = int(np.prod(image_shape))
    fields = {"image": {"dtype": "|u1", "shape": image_shape, "offset": _PAGE}}
    temporary.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as file:
            # A full disk is an error here; later, when the mapping is written, it would be a SIGBUS.
            os.posix_fallocate(file.fileno(), 0, _PAGE + size)
            pages = mmap.mmap(file.fileno(), _PAGE + size)
            images = np.frombuffer(pages, np.uint8, size, _PAGE).reshape(image_shape)
            columns = decoding.read(directory, manifest, split, tuple(FIELDS), images)
            del images, pages
            file.seek(0, os.SEEK_END)
            for name, column in columns.items():
                values = column.astype("S") if column.dtype == object else column
                file.write(bytes(-file.tell() % _PAGE))
                place = {"dtype": values.dtype.str, "shape": values.shape, "offset": file.tell()}
                fields[name] = place
                file.write(values.tobytes())
            file.flush()
            header = {
                "data": str(directory.resolve()),
                "manifest": manifest.sha256,
                "size": file.tell(),
                "fields": fields,
                "sample": _sample(temporary),
                "sha256": _content_sha256(temporary),
            }
            line = json.dumps(header).encode()
            file.seek(0)
            file.write(line.ljust(_PAGE - 1) + b"\n")
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return header


def _mapped(path: Path, header: Header) -> dict[str, npt.NDArray[Any]]:
    with path.open("rb") as file:
        # dlpack takes no read-only array, so the map is private and writable; no page is written or copied.
        pages = mmap.mmap(file.fileno(), header["size"], mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    if header["size"] < free_memory():  # read ahead: else gathering waits for each page
        pages.madvise(mmap.MADV_WILLNEED)
    return {
        name: np.frombuffer(pages, place["dtype"], int(np.prod(place["shape"])), place["offset"]).reshape(
            place["shape"]
        )
        for name, place in header["fields"].items()
    }


def _sound(path: Path, *, aloud: bool = False) -> Header | None:
    """Returns the header of a file that passes the checks of a start, else None."""
    if not path.exists():
        return None
    try:
        header = _header(path)
        if path.stat().st_size != header["size"]:
            raise ValueError(f"{path.stat().st_size} bytes, its header says {header['size']}")
        if _sample(path) != header["sample"]:
            raise ValueError("its content is not what was written")
    except (ValueError, KeyError, TypeError) as error:
        if aloud:
            _say_damaged(path, str(error))
        return None
    return header


def _say_damaged(path: Path, why: str) -> None:
    print(f"{path}: is damaged ({why}): it is written again from the shards", file=sys.stderr)


def _header(path: Path) -> Header:
    with path.open("rb") as file:
        return json.loads(file.read(_PAGE))


def _sample(path: Path) -> str:
    """Returns the SHA-256 of the first 64 bytes of pages spread evenly over the content."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        last = (file.seek(0, os.SEEK_END) - 1) // _PAGE
        for page in np.linspace(1, last, _SAMPLES).astype(int):
            file.seek(int(page) * _PAGE)
            digest.update(file.read(64))
    return digest.hexdigest()


def _content_sha256(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(_PAGE)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_stale(folder: Path) -> None:
    """Removes the files whose data set is gone: their folder holds no data set any more, or another."""
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            header = _header(path)
            manifest = json.loads((Path(header["data"]) / MANIFEST_NAME).read_bytes())
            stale = manifest["sha256"] != header["manifest"]
        except (OSError, ValueError, KeyError, TypeError):
            stale = True
        if stale:
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)
