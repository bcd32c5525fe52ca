"""Chooses which variants of each image, the original and its baked-in copies, a train epoch shows.

"all" shows every variant, "none" only the originals, and "one" a single variant of each image. That one is
drawn anew each epoch from (seed, epoch, source) alone, so it is the same in every tier, for any number of
workers, and after a resume.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from data_pipeline.order import shuffled
from data_pipeline.splitmix64 import stateless_bits
from tfrecords.errors import InputError
from tfrecords.manifest import MOST_CLASSES_SHOWN, Manifest

_SALT: Final = 0x636F7079  # keeps these draws apart from other uses of the same seed
FIELDS: Final = ("source", "copy", "label")  # of a record: the choice follows from these


def resolve_copies(manifest: Manifest, split: str, copies: str) -> str:
    """Returns `copies`; "all" for a split without copies, which has nothing to choose from."""
    described = manifest.split(split)
    return "all" if described.records == described.images else copies


def records_per_epoch(manifest: Manifest, split: str, copies: str) -> int:
    """Returns the number of records in a train epoch."""
    described = manifest.split(split)
    return described.records if copies == "all" else described.images


def class_weights(manifest: Manifest, copies: str) -> tuple[float, ...]:
    """Returns the weight of each class, n / (classes * n_class), over the records of a train epoch."""
    if copies == "all":
        return manifest.class_weights()
    per_class = enumerate(manifest.split("train").records_per_class)
    counts = [records // (1 + manifest.copies_of("train", label)) for label, records in per_class]
    return tuple(sum(counts) / (len(counts) * count) for count in counts)


def weights_in_words(manifest: Manifest, copies: str) -> str:
    """Returns the class weights as text; for many classes only the smallest and the largest."""
    weights = class_weights(manifest, copies)
    if len(weights) <= MOST_CLASSES_SHOWN:
        return str(weights)
    return f"from {min(weights):g} to {max(weights):g}"


def mask(
    fields: dict[str, Any], manifest: Manifest, split: str, copies: str, *, seed: int, epoch: Any
) -> Any:
    """Returns for each record whether an epoch shows it, bool [N].

    Args:
        fields: the `FIELDS` of the records by name, [N].
        manifest: manifest of the data set.
        split: name of the split.
        copies: "one" or "none".
        seed: seed of the run.
        epoch: int64 scalar.
    """
    if copies == "none":
        return tf.equal(fields["copy"], 0)
    each = tf.constant(_variants(manifest, split), tf.int64)
    return tf.equal(
        fields["copy"],
        drawn_variants(fields["source"], tf.gather(each, fields["label"]), seed=seed, epoch=epoch),
    )


def drawn_variants(source: Any, variants: Any, *, seed: int, epoch: Any) -> Any:
    """Returns which variant of each image an epoch shows: int64 [N], from 0 (the original) to variants - 1.

    Args:
        source: int64 [N], the images.
        variants: int64 [N], the number of variants of each.
        seed: seed of the run.
        epoch: int64 scalar, or [N].
    """
    bits = stateless_bits(_SALT, seed, epoch, source)
    return tf.cast(bits % tf.cast(variants, tf.uint64), tf.int64)


@dataclass(frozen=True)
class Choice:
    """Chooses among records that are looked up by index.

    Attributes:
        source: int64 [images], the source of each image.
        variants: int64 [images], the number of records that an epoch chooses from.
        first: int64 [images], the position of the image's first record in `record`.
        record: int64 [N], indices of the records in the split, ordered by image and copy.
    """

    source: npt.NDArray[np.int64]
    variants: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    record: npt.NDArray[np.int64]

    @classmethod
    def of(cls, columns: dict[str, Any], manifest: Manifest, split: str, copies: str) -> "Choice":
        """Builds the choice among the records of a split.

        Args:
            columns: the `FIELDS` of all records by name, in the split's order, [N].
            manifest: manifest of the data set.
            split: name of the split.
            copies: "one" or "none".

        Raises:
            InputError: the records are not the variants that the manifest describes.
        """
        sources, numbers, labels = (np.asarray(columns[name]) for name in FIELDS)
        order = np.lexsort((numbers, sources))
        source, first, count = np.unique(sources[order], return_index=True, return_counts=True)
        expected = np.asarray(_variants(manifest, split))[labels[order[first]]]
        place = np.arange(len(order)) - np.repeat(first, count)
        if (
            len(source) != manifest.split(split).images
            or (count != expected).any()
            or (numbers[order] != place).any()
        ):
            raise InputError(
                f"--copies={copies}: the records of split {split!r} are not {manifest.split(split).images} "
                f"images with {manifest.copies_in_words()}; use --copies=all, or convert again"
            )
        if copies == "none":
            count = np.ones_like(count)
        return cls(source, count, first, order)

    def records_at(self, position: Any, *, seed: int, epoch: Any) -> Any:
        """Returns the index of the record at each position of an epoch, int64 [B]."""
        image = shuffled(position, seed=seed, epoch=epoch, size=len(self.source))
        return self.records_of(image, seed=seed, epoch=epoch)

    def records_of(self, image: Any, *, seed: int, epoch: Any, repeat: Any = None) -> Any:
        """Returns the index of the record that stands for each image in an epoch, int64 [B].

        Args:
            image: int64 [B], positions in `source`.
            seed: seed of the run.
            epoch: int64 scalar, or [B].
            repeat: int64 [B], how many times the epoch has drawn the image before, for which the following
                variants stand in turn; None: never.
        """
        variants = tf.gather(self.variants, image)
        copy = drawn_variants(tf.gather(self.source, image), variants, seed=seed, epoch=epoch)
        if repeat is not None:
            copy = (copy + repeat) % variants
        return tf.gather(self.record, tf.gather(self.first, image) + copy)

    @property
    def originals(self) -> npt.NDArray[np.int64]:
        """Index of each image's original in the split, int64 [images]."""
        return self.record[self.first]


def _variants(manifest: Manifest, split: str) -> list[int]:
    return [1 + manifest.copies_of(split, label) for label in range(len(manifest.class_names))]
