"""The train split as one array of features; whether it fits into memory is checked before it is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.baseline.grids import LANDMARKS, TREES
from trainer.baseline.options import BaselineOptions
from trainer.classical.features import Features, area_means, feature_shape

_BATCH_BYTES: Final = 2 << 20  # of a batch of uint8 images; as float32 it takes several times as much
_LARGEST_BATCH: Final = 256
_ORIGINAL: Final = 0  # of `copy`
_FIELDS: Final = ("image", "label", "weight", "group", "copy")
# The memory of one fit: how many copies of the features it holds (that of its folds, and those that scaling
# makes), and further bytes for each record (a kernel value as float32, as float64 and as liblinear's 16
# bytes; a node of a tree).
_COPIES: Final = {"pca_svm": 3.0, "logistic": 3.0, "random_forest": 1.0}
_BYTES_A_RECORD: Final = {"pca_svm": 32 * LANDMARKS, "logistic": 1 << 10, "random_forest": 64 * TREES}
_BASE: Final = 192 << 20  # batches in flight and libraries that are imported late; measured: 150 MB


@dataclass(frozen=True)
class TrainSplit:
    """The originals of a train split, in the order of the shards.

    Attributes:
        features: float32 [N, P].
        labels: int64 [N].
        groups: int64 [N], the number of each record's group.
    """

    features: Features
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]


def memory_needed(options: BaselineOptions, manifest: Manifest, jobs: int) -> int:
    """Returns the most bytes that a search takes with so many fits at the same time."""
    images = manifest.split("train").images
    held = 4 * images * int(np.prod(feature_shape(manifest.image_shape, options.pixels)))
    fit = held * _COPIES[options.model] + images * _BYTES_A_RECORD[options.model]
    return int(_BASE + held + jobs * fit)


def allowed_jobs(options: BaselineOptions, manifest: Manifest, *, cores: int, free: int) -> int:
    """Returns how many fits may run at the same time.

    Args:
        options: of the baseline; a number of `jobs` that is given is not changed.
        manifest: of the data.
        cores: that this process may use.
        free: bytes of memory that it may take.

    Raises:
        InputError: the memory is not enough.
    """
    jobs = options.jobs or cores
    while not options.jobs and jobs > 1 and memory_needed(options, manifest, jobs) > free:
        jobs -= 1
    needed = memory_needed(options, manifest, jobs)
    if needed > free:
        images = manifest.split("train").images
        rows, columns = feature_shape(manifest.image_shape, options.pixels)
        if jobs > 1 and memory_needed(options, manifest, 1) <= free:
            fix = f"lower --jobs={jobs}"
        else:
            fix = f"lower --pixels={options.pixels}"
        raise InputError(
            f"--pixels={options.pixels} --jobs={jobs}: {images:,} train images as {rows}x{columns} numbers "
            f"and the fits on them take up to {needed >> 20:,} MB, of which {free >> 20:,} MB are free; {fix}"
        )
    return jobs


def read_train(directory: Path, manifest: Manifest, pixels: int) -> TrainSplit:
    """Reads the originals of the train split batch by batch; augmented copies are left out.

    A model that is fitted to all records at once gains little from copies, and they take memory. (`--copies`
    of a network says what an epoch shows.)

    Raises:
        InputError: a shard is missing, cut or damaged.
    """
    count = manifest.split("train").images
    from threadpoolctl import threadpool_limits

    features = np.empty((count, int(np.prod(feature_shape(manifest.image_shape, pixels)))), np.float32)
    labels = np.empty(count, np.int64)
    groups = np.empty(count, np.int64)
    numbers: dict[bytes, int] = {}
    batch = max(1, min(_LARGEST_BATCH, _BATCH_BYTES // int(np.prod(manifest.image_shape))))
    stream = PipelineOptions(global_batch_size=batch, cache="stream")
    at = 0
    # One thread of BLAS, as in prediction: several would wait for each other at each small image.
    with named_damage(directory, manifest, "train"), threadpool_limits(1):
        dataset = make_dataset(directory, manifest, "train", stream, training=False, fields=_FIELDS)
        for batch in dataset.as_numpy_iterator():
            shown = (batch["weight"] > 0) & (batch["copy"] == _ORIGINAL)
            end = at + int(shown.sum())
            if end > count:
                break
            features[at:end] = area_means(batch["image"][shown], pixels)
            labels[at:end] = batch["label"][shown]
            groups[at:end] = [numbers.setdefault(name, len(numbers)) for name in batch["group"][shown]]
            at = end
    if at != count:
        raise InputError(
            f"{directory}: the train split does not have the {count:,} originals that the manifest names; "
            f"convert again with --overwrite"
        )
    return TrainSplit(features, labels, groups)
