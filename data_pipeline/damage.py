"""Names the shard and the record when TensorFlow meets damaged data."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from data_pipeline.parse import parse_batch
from data_pipeline.stream.service import loss_in
from tfrecords.errors import InputError
from tfrecords.example import FIELDS
from tfrecords.manifest import Manifest
from tfrecords.records import read_records

_FIX = "restore it or convert again with --overwrite"


@contextmanager
def named_damage(directory: Path, manifest: Manifest, *splits: str, direct: bool = False) -> Iterator[None]:
    """Turns a reading error of TensorFlow into one that names the shard and the record.

    TensorFlow says what is wrong but not where, so this reads and parses the splits' shards once more.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        splits: the splits that the block reads.
        direct: whether the shards are behind a URL, not in the folder; the error then stays as it is.

    Raises:
        InputError: a shard is missing, cut, damaged or has another number of records, or one of its
            records is whole but differs from what the manifest says.
    """
    try:
        yield
    except (tf.errors.OpError, ValueError) as error:
        if lost := loss_in(str(error)):
            raise InputError(lost) from None
        if direct:  # TensorFlow's file systems name the URL
            raise
        manifest.check_shards(directory, *splits)
        for shard in [shard for split in splits for shard in manifest.split(split).shards]:
            path, count = directory / shard.name, 0
            for count, record in enumerate(read_records(path), 1):
                _refuse_record(record, manifest, f"{path}: record {count - 1}")
            if count != shard.records:
                raise InputError(
                    f"{path}: has {count} records, the manifest says {shard.records}; {_FIX}"
                ) from None
        raise


def _refuse_record(serialized: bytes, manifest: Manifest, where: str) -> None:
    try:
        parse_batch([serialized], manifest, tuple(FIELDS))
    except (tf.errors.OpError, ValueError) as error:
        height, width, channels = manifest.image_shape
        raise InputError(
            f"{where}: cannot be used ({str(error).splitlines()[0]}); it must have the fields "
            f"{', '.join(FIELDS)} and an image of {height}x{width}x{channels}, {manifest.encoding}; {_FIX}"
        ) from None
