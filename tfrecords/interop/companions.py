"""Writes and checks the files beside the shards that other tools need; imports none of these tools.

TensorFlow Datasets reads three files that follow from the manifest (`tfds`). NVIDIA DALI reads an index file
for each shard (`index`).
"""

from contextlib import suppress
from pathlib import Path

from tfrecords.errors import InputError
from tfrecords.files.atomic import write_atomically
from tfrecords.interop.index import index_files, index_name, index_of, shard_names
from tfrecords.interop.tfds import tfds_files
from tfrecords.manifest import Manifest


def write_companions(directory: Path, manifest: Manifest, *, index: bool) -> None:
    """Writes the files for other tools, each atomically, unless they have the right content already.

    Args:
        directory: of the data set, with all its shards.
        manifest: of the data set.
        index: whether to write index files too; existing ones are always brought up to date.

    Raises:
        InputError: a file cannot be written, or a shard is cut.
    """
    for name, content in tfds_files(manifest).items():
        _write(directory / name, content)
    if index or index_files(directory):
        for shard in shard_names(manifest):
            _write(directory / index_name(shard), index_of(directory / shard))


def check_companions(directory: Path, manifest: Manifest) -> list[str]:
    """Returns the problems of the files for other tools, each with a file's name; [] if there are none.

    Index files are optional, but if there is one, all must be there and right. The index of a shard with a
    damaged header is not checked, because nothing is known to compare it with.
    """
    wanted = tfds_files(manifest)
    there = index_files(directory)
    names = {index_name(shard): directory / shard for shard in shard_names(manifest)} if there else {}
    for name, shard in names.items():
        with suppress(InputError, OSError):
            wanted[name] = index_of(shard)
    problems = [
        f"{directory / name}: is an index of a shard that is not in the manifest; remove it"
        for name in there
        if name not in names
    ]
    for name, content in wanted.items():
        found = _content(directory / name)
        if found != content:
            wrong = "is not there or cannot be read" if found is None else "is not as it was written"
            flag = " with --dali_index" if name in names else ""
            problems.append(f"{directory / name}: {wrong}; run the same conversion again{flag} to write it")
    return problems


def _write(path: Path, content: bytes) -> None:
    if _content(path) == content:
        return
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot be made: {error.strerror}; make room or choose another folder"
        ) from None
    write_atomically(path, content)


def _content(path: Path) -> bytes | None:
    """Returns what a file holds, or None if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None
