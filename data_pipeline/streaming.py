"""Data that does not fit into memory: interleaved shards, window shuffle, batch-wise parse."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from data_pipeline.order import shuffled
from tfrecords.manifest import Manifest

_CYCLE = 8  # shards read side by side
_BLOCK = 16  # records taken from one before the next
_BUFFER = 4 << 20  # bytes read ahead from each shard
_PRIME = 1_000_003  # spreads (seed, epoch) over the shuffle's one seed


def epoch_records(
    directory: Path, manifest: Manifest, split: str, *, window: int, seed: int, epoch: Any
) -> tf.data.Dataset:
    """Returns the serialized records of one shuffled epoch; the order follows from (seed, epoch)."""
    described = manifest.split(split)
    size = max(1, sum(shard.bytes for shard in described.shards) // described.records)
    shards = tf.range(len(described.shards), dtype=tf.int64)
    turn = shuffled(shards, seed=seed, epoch=epoch, size=len(described.shards))
    return (
        tf.data.Dataset.from_tensor_slices(tf.gather(_paths(directory, manifest, split), turn))
        # Several shards at once: their records are mixed before the window, and read in parallel.
        .interleave(
            lambda path: tf.data.TFRecordDataset(path, buffer_size=_BUFFER),
            cycle_length=_CYCLE,
            block_length=_BLOCK,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        # Undecoded records are shuffled: for encoded images the window is several times larger.
        .shuffle(
            max(1, window // size),
            seed=tf.constant(seed, tf.int64) * _PRIME + epoch,
            reshuffle_each_iteration=False,
        )
    )


def ordered_records(directory: Path, manifest: Manifest, split: str) -> tf.data.Dataset:
    """Returns the serialized records of a split in the order of its shards."""
    return tf.data.TFRecordDataset(_paths(directory, manifest, split), buffer_size=_BUFFER)


def _paths(directory: Path, manifest: Manifest, split: str) -> Any:
    return tf.constant([str(directory / shard.name) for shard in manifest.split(split).shards])
