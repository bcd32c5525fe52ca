"""Index files with the position of each record in a shard, for NVIDIA DALI and the `tfrecord` package.

A shard has one text file, `index/SHARD.idx`, with one line for each record: offset and size of its frame in
bytes, header and CRCs included. This is the format of DALI's tools/tfrecord2idx. The files have a folder of
their own, so that a file pattern for the shards does not match them.
"""

from pathlib import Path
from typing import Final

from tfrecords.manifest import Manifest
from tfrecords.records import read_spans

INDEX_FOLDER: Final = "index"
INDEX_SUFFIX: Final = ".idx"


def index_name(shard: str) -> str:
    """Returns the name of a shard's index file, below the folder of the data set."""
    return f"{INDEX_FOLDER}/{shard}{INDEX_SUFFIX}"


def index_of(shard: Path) -> bytes:
    """Returns the content of a shard's index file: a line `offset size`, in bytes, for each record.

    Only the headers of the frames are read, 12 bytes each.

    Raises:
        InputError: the shard is cut, or damaged in a header.
        OSError: it cannot be read.
    """
    return b"".join(b"%d %d\n" % span for span in read_spans(shard))


def index_files(directory: Path) -> list[str]:
    """Returns the sorted names of a data set's index files."""
    pattern = index_name("*.tfrecord-*")
    return sorted(path.relative_to(directory).as_posix() for path in directory.glob(pattern))


def shard_names(manifest: Manifest) -> list[str]:
    """Returns the names of all shards of all splits, in order."""
    return [shard.name for split in manifest.splits.values() for shard in split.shards]
