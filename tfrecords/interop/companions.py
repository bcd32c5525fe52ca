"""What lets other tools open a data set as it is, beside its shards, without importing any of them.

TensorFlow Datasets reads three files that follow from the manifest alone (`tfds`), NVIDIA DALI an index
file for each shard (`index`).
"""

from contextlib import suppress
from pathlib import Path

from tfrecords.errors import InputError
from tfrecords.files.atomic import write_atomically
from tfrecords.interop.index import index_files, index_name, index_of, shard_names
from tfrecords.interop.tfds import tfds_files
from tfrecords.manifest import Manifest


def write_companions(directory: Path, manifest: Manifest, *, index: bool) -> None:
    """Writes the files that other tools read, each atomically; leaves alone those that are right.

    Args:
        directory: of the data set; all its shards are there.
        manifest: its manifest.
        index: whether to write index files too; where there are some already, they are kept right.

    Raises:
        InputError: a file cannot be written, or a shard is cut.
    """
    for name, content in tfds_files(manifest).items():
        _write(directory / name, content)
    if index or index_files(directory):
        for shard in shard_names(manifest):
            _write(directory / index_name(shard), index_of(directory / shard))


def check_companions(directory: Path, manifest: Manifest) -> list[str]:
    """Returns what is wrong with the files that other tools read, each with its name; [] if nothing.

    Index files are optional, but where there is one, all must be there and right. A shard that cannot
    be followed from header to header has no index to compare with: it is passed over.
    """
    wanted = tfds_files(manifest)
    there = index_files(directory)
    names = {index_name(shard): directory / shard for shard in shard_names(manifest)} if there else {}
    for name, shard in names.items():
        with suppress(InputError, OSError):
            wanted[name] = index_of(shard)
    problems = [
        f"{directory / name}: an index of no shard that the manifest knows; remove it"
        for name in there
        if name not in names
    ]
    for name, content in wanted.items():
        found = _content(directory / name)
        if found != content:
            wrong = "is not there or cannot be read" if found is None else "is not as it was written"
            flag = " with --dali_index" if name in names else ""
            problems.append(f"{directory / name}: {wrong}; the same conversion again{flag} writes it")
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
