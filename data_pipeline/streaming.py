"""Data that does not fit into memory: interleaved shards, window shuffle, batch-wise parse."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from data_pipeline.order import shuffled
from tfrecords.manifest import Manifest

_CYCLE = 8  # shards read side by side
_BLOCK = 16  # records taken from one before the next
_BUFFER = 4 << 20  # bytes read ahead from each shard


def epoch_records(
    directory: Path, manifest: Manifest, split: str, *, window: int, seed: int, epoch: Any
) -> tf.data.Dataset:
    """Returns the serialized records of one shuffled epoch; the order follows from (seed, epoch)."""
    described = manifest.split(split)
    size = max(1, sum(shard.bytes for shard in described.shards) // described.records)
    shards = tf.range(len(described.shards), dtype=tf.int64)
    turn = shuffled(shards, seed=seed, epoch=epoch, size=len(described.shards))
    records = (
        tf.data.Dataset.from_tensor_slices(tf.gather(_paths(directory, manifest, split), turn))
        # Several shards at once: their records are mixed before the window, and read in parallel.
        .interleave(
            lambda path: tf.data.TFRecordDataset(path, buffer_size=_BUFFER),
            cycle_length=_CYCLE,
            block_length=_BLOCK,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # A shard cut between two records reads well, and "wrap" would hide what is missing.
        .apply(tf.data.experimental.assert_cardinality(described.records))
    )
    # Undecoded records are shuffled: for encoded images the window is several times larger.
    # The op makes room for the whole window at once: never more than there are records.
    window = min(max(1, window // size), described.records)
    return _window_shuffle(records, window, seed=seed, epoch=epoch)


def ordered_records(directory: Path, manifest: Manifest, split: str) -> tf.data.Dataset:
    """Returns the serialized records of a split in the order of its shards."""
    records = tf.data.TFRecordDataset(_paths(directory, manifest, split), buffer_size=_BUFFER)
    return records.apply(tf.data.experimental.assert_cardinality(manifest.split(split).records))


def _window_shuffle(records: tf.data.Dataset, window: int, *, seed: int, epoch: Any) -> tf.data.Dataset:
    """Shuffles as `Dataset.shuffle` does, which would mix the program's global seed into the order."""
    shuffled_records = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(records),
        buffer_size=window,
        seed=seed,
        seed2=epoch + 1,  # the pair (0, 0) would mean another order each time
        output_types=[tf.string],
        output_shapes=[[]],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(shuffled_records, tf.TensorSpec([], tf.string))


def _paths(directory: Path, manifest: Manifest, split: str) -> Any:
    return tf.constant([str(directory / shard.name) for shard in manifest.split(split).shards])
