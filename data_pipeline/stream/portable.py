"""Reads the records of a stream by tf.data alone: interleaves shards and shuffles window by window.

It reads what `local` does not: shards behind a URL, a choice of copies, and the input of a tf.data service.
`windows` defines the order for both, so both show the same records in the same order.
"""

import importlib
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_pipeline.copies import FIELDS, mask, records_per_epoch
from data_pipeline.order import window_shuffled
from data_pipeline.parse import parse_batch
from data_pipeline.windows import BLOCK, CYCLE, records_per_window
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest

_CHOSEN_AT_ONCE = 64  # records whose small fields one op parses
_COPIED_AT_ONCE = 64  # records taken from the window by one op
# Bytes read at once from a shard. From a file: as many as stay in a core's cache until they are parsed.
# From a URL: as many as are worth a request.
_BUFFER, _URL_BUFFER = 256 << 10, 4 << 20


def epoch_records(
    directory: Path | str,
    manifest: Manifest,
    split: str,
    *,
    window: int,
    seed: int,
    epoch: Any,
    copies: str = "all",
    parallel_reads: int = 0,
) -> tf.data.Dataset:
    """Returns the serialized records of one shuffled epoch; the order follows from (seed, epoch).

    Args:
        directory: folder of the shards, or its URL.
        manifest: of the data set.
        split: name of the split.
        window: bytes of records that are shuffled together; two windows are in memory, this one and the
            next.
        seed: seed of the run.
        epoch: int64 scalar.
        copies: which variants of each image; see `data_pipeline.copies`.
        parallel_reads: shards read at the same time; 0: TensorFlow decides. The order is the same.
    """
    described = manifest.split(split)
    turn = window_shuffled(len(described.shards), seed=seed, epoch=epoch, window=-1)
    records = (
        tf.data.Dataset.from_tensor_slices(tf.gather(_paths(directory, manifest, split), turn))
        # Several shards at once: they are read in parallel, and their records are mixed before the window.
        .interleave(
            lambda path: tf.data.TFRecordDataset(path, buffer_size=_buffer(directory)),
            cycle_length=CYCLE,
            block_length=BLOCK,
            num_parallel_calls=min(parallel_reads, CYCLE) or tf.data.AUTOTUNE,
            deterministic=True,
        )
        # A shard that is cut between two records reads without an error, and "wrap" would hide the loss.
        .apply(tf.data.experimental.assert_cardinality(described.records))
    )
    shown = records_per_epoch(manifest, split, copies)
    if copies != "all":

        def choose(serialized: Any) -> Any:
            fields = parse_batch(serialized, manifest, FIELDS)
            return tf.boolean_mask(serialized, mask(fields, manifest, split, copies, seed=seed, epoch=epoch))

        records = (
            # Parses only small fields, of many records at once: for a record that is not shown no more.
            records.batch(_CHOSEN_AT_ONCE)
            .map(choose, num_parallel_calls=tf.data.AUTOTUNE)
            .unbatch()
            .apply(tf.data.experimental.assert_cardinality(shown))
        )
    # Shuffles undecoded records: for encoded images a window holds several times as many.
    size = records_per_window(window, described.shards, shown)
    if size == 1:
        return records

    def shown_anew(number: Any, serialized: Any) -> tf.data.Dataset:
        order = window_shuffled(tf.size(serialized), seed=seed, epoch=epoch, window=number)
        # A few records at a time: else this would copy the whole window at once.
        parts = tf.data.Dataset.from_tensor_slices(order).batch(_COPIED_AT_ONCE)
        return parts.map(lambda index: tf.gather(serialized, index)).unbatch()

    return (
        records.batch(size)
        .prefetch(1)
        .enumerate()
        .flat_map(shown_anew)
        .apply(tf.data.experimental.assert_cardinality(shown))
    )


def ordered_records(directory: Path | str, manifest: Manifest, split: str) -> tf.data.Dataset:
    """Returns the serialized records of a split in the order of its shards."""
    records = tf.data.TFRecordDataset(_paths(directory, manifest, split), buffer_size=_buffer(directory))
    return records.apply(tf.data.experimental.assert_cardinality(manifest.split(split).records))


def open_file_systems() -> None:
    """Lets TensorFlow read URLs.

    Raises:
        InputError: tensorflow-io is not installed, or does not fit this TensorFlow.
    """
    try:
        importlib.import_module("tensorflow_io")
    except (ImportError, NotImplementedError) as error:
        raise InputError(
            f"--remote=direct: needs the extra `tfio`, which is TensorFlow 2.16 with tensorflow-io 0.37.1 "
            f"({error}); pip install 'shardlight[tfio]' in an environment of its own, or use --remote=fetch"
        ) from None


def _buffer(directory: Path | str) -> int:
    return _BUFFER if isinstance(directory, Path) else _URL_BUFFER


def _paths(directory: Path | str, manifest: Manifest, split: str) -> Any:
    # As text: a Path would turn the two slashes of a URL into one.
    return tf.constant([f"{directory}/{shard.name}" for shard in manifest.split(split).shards])
