"""Predicts a split again and again, each time with one change at one level, and measures each time."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset
from trainer.evaluation.data import DataSet
from trainer.evaluation.intervals import Estimate, estimates
from trainer.evaluation.predictions import Predictions, decide
from trainer.evaluation.stress.changes import STRESSES, Stress
from trainer.inference import Probabilities

_RESAMPLES: Final = 500  # of each of some thirty tables


@dataclass(frozen=True)
class Level:
    """A change at one level.

    Attributes:
        level: The level.
        estimates: By metric, of the changed images.
        changed_classes: The share of records whose predicted class is another one than without the change.
    """

    level: float
    estimates: dict[str, Estimate]
    changed_classes: float


@dataclass(frozen=True)
class Tested:
    """A change at all of its levels, in their order."""

    stress: Stress
    levels: tuple[Level, ...]


def stress_test(
    predictor: Probabilities,
    data: DataSet,
    split: str,
    unchanged: Predictions,
    threshold: float | None,
    *,
    seed: int = 0,
    stresses: Sequence[Stress] = STRESSES,
    tick: Callable[[], None] = lambda: None,
) -> tuple[Tested, ...]:
    """Predicts the originals of a split under each change at each level.

    The split is read once: each batch is changed in all ways before the next is read.

    Args:
        predictor: The model.
        data: The data set.
        split: Which split.
        unchanged: What the model predicts for it without a change, in the same order.
        threshold: As in `decide`.
        seed: Of the draws of changes, and of the bootstrap. The same seed gives all models the same images.
        stresses: The changes.
        tick: Called after each batch; what it raises ends the test.

    Raises:
        InputError: A shard is damaged.
    """
    from tqdm import tqdm

    found: dict[tuple[str, float], list[npt.NDArray[np.float64]]] = {}
    fields = ("image", "weight", "id", "copy")
    with (
        named_damage(data.folder, data.manifest, split, direct=bool(data.options.shards_at)),
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads,
        tqdm(total=len(unchanged.ids), desc="stress test", unit="images", disable=None) as progress,
    ):
        dataset = make_dataset(data.folder, data.manifest, split, data.options, training=False, fields=fields)
        for batch in dataset.as_numpy_iterator():
            wanted = (batch["weight"] > 0) & (batch["copy"] == 0)
            if not wanted.any():
                continue
            images = batch["image"][wanted]
            ids = [value.decode() for value in batch["id"][wanted]]
            for stress in stresses:
                for level in stress.levels:
                    if level == stress.unchanged:
                        continue
                    change = partial(_changed, stress, level, seed)
                    changed = np.stack(list(threads.map(change, images, ids)))
                    found.setdefault((stress.name, level), []).append(predictor.probabilities(changed))
            progress.update(len(ids))
            tick()
    decided = decide(unchanged, threshold)
    return tuple(
        Tested(
            stress,
            tuple(
                _measured(unchanged, found.get((stress.name, level)), level, threshold, decided, seed)
                for level in stress.levels
            ),
        )
        for stress in stresses
    )


def _changed(
    stress: Stress, level: float, seed: int, image: npt.NDArray[np.uint8], record_id: str
) -> npt.NDArray[np.uint8]:
    return stress(image, level, record_id=record_id, seed=seed)


def _measured(
    unchanged: Predictions,
    parts: list[npt.NDArray[np.float64]] | None,
    level: float,
    threshold: float | None,
    decided: npt.NDArray[np.int64],
    seed: int,
) -> Level:
    predictions = unchanged
    if parts is not None:
        predictions = Predictions(
            unchanged.class_names,
            unchanged.ids,
            unchanged.groups,
            unchanged.labels,
            np.concatenate(parts),
            unchanged.positive,
        )
    measured = estimates(predictions, threshold, resamples=_RESAMPLES, seed=seed)
    return Level(level, measured, float((decide(predictions, threshold) != decided).mean()))


def to_json(tested: Sequence[Tested]) -> list[dict[str, Any]]:
    """Returns plain values for report.json; null where a metric is undefined."""
    return [
        {
            "change": each.stress.name,
            "title": each.stress.title,
            "unchanged": each.stress.unchanged,
            "moderate": list(each.stress.moderate),
            "levels": [
                {
                    "level": level.level,
                    "changed_classes": level.changed_classes,
                    "estimates": {name: estimate.to_json() for name, estimate in level.estimates.items()},
                }
                for level in each.levels
            ],
        }
        for each in tested
    ]
