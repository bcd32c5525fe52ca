"""The audit of a data set, from its shards to sentences."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from tfrecords.audit.numbers import Floats, Number, numbers_of
from tfrecords.audit.quick import distances
from tfrecords.audit.reading import Measured, measure_split
from tfrecords.audit.shortcut import Ints, Shortcut, auroc_of, find_shortcut
from tfrecords.audit.sources import FAMILY, SOURCE_NUMBERS, source_numbers
from tfrecords.manifest import Manifest
from tfrecords.pool import Pool

MOST: Final = 20_000  # originals that are measured: more would not move the figures
SHOWN: Final = 6  # numbers that are named
_RESAMPLES: Final = 1000
_LITTLE, _MUCH = 0.65, 0.85  # AUROC


@dataclass(frozen=True, eq=False)
class Audit:
    """What whole-image numbers say of the labels of a split.

    Attributes:
        split: name of the split.
        class_names: K names.
        numbers: F of them.
        measured: the originals.
        shortcut: predictions from the numbers, out of fold.
        low, high: 95% interval of the shortcut's AUROC, by groups.
    """

    split: str
    class_names: tuple[str, ...]
    numbers: tuple[Number, ...]
    measured: Measured
    shortcut: Shortcut
    low: float
    high: float

    @property
    def strongest(self) -> list[int]:
        """Positions of the numbers that tell most by themselves, the strongest first.

        By AUROC; of those that are alike in it, the one whose classes lie furthest apart comes first.
        """
        distance = distances(self.measured.values, self.measured.labels)
        order = sorted(
            range(len(self.numbers)), key=lambda k: (-round(self.shortcut.single[k], 3), -distance[k])
        )
        return order[:SHOWN]

    @property
    def cells(self) -> Ints:
        """int64 [K, K]: images by their class (row) and the class that the numbers point to (column)."""
        classes = len(self.class_names)
        flat = self.measured.labels * classes + self.shortcut.predicted
        return np.bincount(flat, minlength=classes**2).reshape(classes, classes).astype(np.int64)

    @property
    def contradicting(self) -> int:
        """Images whose numbers point to another class than theirs."""
        return int((self.shortcut.predicted != self.measured.labels).sum())


def audit_split(
    directory: Path, manifest: Manifest, split: str, pool: Pool, *, seed: int = 0, most: int = MOST
) -> Audit:
    """Measures a split's originals, and predicts their labels from the numbers.

    Raises:
        InputError: no such split, a damaged shard, or too few groups of a class.
    """
    measured = measure_split(directory, manifest, split, pool, most=most)
    numbers = numbers_of(manifest.image_shape[2])
    if (of_sources := source_numbers(directory, measured.sources.tolist())) is not None:
        measured = replace(measured, values=np.hstack([measured.values, of_sources]))
        numbers += SOURCE_NUMBERS
    shortcut = find_shortcut(measured.values, measured.labels, measured.groups, numbers, seed=seed)
    low, high = _interval(measured, shortcut.probabilities, seed)
    return Audit(split, manifest.class_names, numbers, measured, shortcut, low, high)


def describe(audit: Audit) -> list[str]:
    """Returns the audit in words, a line each."""
    shortcut, images = audit.shortcut, len(audit.measured.labels)
    lines = [
        f"shortcut audit of {audit.split}: {images:,} originals, {len(audit.numbers)} numbers of the whole "
        f"image and its file that carry no anatomy{_without_files(audit)}",
        f"these numbers alone predict the class with an AUROC of {shortcut.auroc:.3f} "
        f"[{audit.low:.3f}, {audit.high:.3f}] (out of fold by group; 0.5 is chance): {verdict(audit)}",
        "by family, each alone: " + ", ".join(f"{name} {value:.3f}" for name, value in shortcut.families),
        "strongest single numbers:",
    ]
    for k in audit.strongest:
        medians = [
            f"{name} {np.median(audit.measured.values[audit.measured.labels == label, k]):.3g}"
            for label, name in enumerate(audit.class_names[:SHOWN])
            if (audit.measured.labels == label).any()
        ]
        lines.append(
            f"  {audit.numbers[k].title}: AUROC {shortcut.single[k]:.3f}; median {', '.join(medians)}"
        )
    lines.append(
        f"{audit.contradicting:,} of {images:,} images contradict the numbers (they point to another class); "
        f"how a model does on these says more of images from elsewhere than its accuracy on all"
        if audit.contradicting
        else "no image contradicts the numbers, so these images cannot show whether a model looks at the "
        "content; mend what the numbers name, or take images from elsewhere to evaluate"
    )
    return lines


def _without_files(audit: Audit) -> str:
    if any(number.family == FAMILY for number in audit.numbers):
        return ""
    return (
        " (none of them of the file: sources.csv does not have the facts of all files, because the "
        "conversion is of an older version)"
    )


def verdict(audit: Audit) -> str:
    """Returns in one clause what the AUROC means."""
    if audit.low <= 0.5 or audit.shortcut.auroc < _LITTLE:
        return "they tell little, so a model has to look at the content"
    if audit.shortcut.auroc < _MUCH:
        return "they tell something: a model may use them in place of the content"
    return (
        "they tell nearly all: a model can reach this without any look at the content, and fails where "
        "images are made otherwise"
    )


def _interval(measured: Measured, probabilities: Floats, seed: int) -> tuple[float, float]:
    """Returns the 2.5% and 97.5% quantiles of the AUROC over resamples of the groups."""
    codes = np.unique(np.asarray(measured.groups), return_inverse=True)[1]
    generator = np.random.default_rng(seed)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 2))
    found = []
    for _ in range(_RESAMPLES):
        chosen = generator.integers(0, codes.max() + 1, codes.max() + 1)
        rows = np.concatenate([order[starts[code] : starts[code + 1]] for code in chosen])
        found.append(auroc_of(measured.labels[rows], probabilities[rows]))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)
