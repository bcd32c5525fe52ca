"""Streams by tf.data alone: interleaved shards, window shuffle, batch-wise parse.

For what `local` does not read: shards behind a URL, a choice of copies, and a tf.data service. The order
is the one that `windows` tells, so both show the same records in the same order.
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
# Bytes read at once from a shard: of a file as many as stay in a core's cache until they are parsed, by
# URL as many as are worth a request.
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
        window: bytes of records that are shuffled among themselves; two windows are in memory, the one
            shown and the next.
        seed: of the run.
        epoch: int64 scalar.
        copies: which variants of each image; see `data_pipeline.copies`.
        parallel_reads: shards read at the same time; 0: TensorFlow decides. The order is the same.
    """
    described = manifest.split(split)
    turn = window_shuffled(len(described.shards), seed=seed, epoch=epoch, window=-1)
    records = (
        tf.data.Dataset.from_tensor_slices(tf.gather(_paths(directory, manifest, split), turn))
        # Several shards at once: their records are mixed before the window, and read in parallel.
        .interleave(
            lambda path: tf.data.TFRecordDataset(path, buffer_size=_buffer(directory)),
            cycle_length=CYCLE,
            block_length=BLOCK,
            num_parallel_calls=min(parallel_reads, CYCLE) or tf.data.AUTOTUNE,
            deterministic=True,
        )
        # A shard cut between two records reads well, and "wrap" would hide what is missing.
        .apply(tf.data.experimental.assert_cardinality(described.records))
    )
    shown = records_per_epoch(manifest, split, copies)
    if copies != "all":

        def choose(serialized: Any) -> Any:
            fields = parse_batch(serialized, manifest, FIELDS)
            return tf.boolean_mask(serialized, mask(fields, manifest, split, copies, seed=seed, epoch=epoch))

        records = (
            # Small fields alone are parsed, many records at once: what is not shown costs its reading.
            records.batch(_CHOSEN_AT_ONCE)
            .map(choose, num_parallel_calls=tf.data.AUTOTUNE)
            .unbatch()
            .apply(tf.data.experimental.assert_cardinality(shown))
        )
    # Undecoded records are shuffled: for encoded images the window is several times larger.
    size = records_per_window(window, described.shards, shown)
    if size == 1:
        return records

    def shown_anew(number: Any, serialized: Any) -> tf.data.Dataset:
        order = window_shuffled(tf.size(serialized), seed=seed, epoch=epoch, window=number)
        # A few at a time: else the whole window would be copied at once.
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
        InputError: tensorflow-io is not installed, or not for this TensorFlow.
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
    # As text: a Path would make one slash of the two in a URL.
    return tf.constant([f"{directory}/{shard.name}" for shard in manifest.split(split).shards])
