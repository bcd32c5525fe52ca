"""The data that a run's model is asked about: do they fit it, and what does it predict for a split?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError, first_names
from tfrecords.folds.folded import folded
from tfrecords.folds.held_out import Fold
from tfrecords.manifest import MANIFEST_NAME, Manifest
from tfrecords.sources.classes import classes_flag
from trainer.evaluation.predictions import Predictions
from trainer.inference import BATCH_SIZE, Probabilities
from trainer.run import Run

STREAM: Final = PipelineOptions(global_batch_size=BATCH_SIZE, cache="stream")  # each record is read once


@dataclass(frozen=True)
class DataSet:
    """A data set that a run's model can be asked about; its manifest is read once.

    Attributes:
        folder: Where it is.
        manifest: What it is.
        own: Whether it is the run's own.
        options: How it is read.
    """

    folder: Path
    manifest: Manifest
    own: bool
    options: PipelineOptions

    @classmethod
    def of(cls, run: Run, folder: Path | None = None, manifest: Manifest | None = None) -> Self:
        """Returns a run's own data, or other data that fit its model.

        Args:
            run: The run.
            folder: Where the data are; None: the run's own, where they were when it was trained.
            manifest: Theirs, if it has been read already.

        Raises:
            InputError: They are not there, do not fit the model, or are not the run's own where these were.
        """
        there = Path(run.config.data)
        if run.config.fold and not (there / MANIFEST_NAME).exists():  # the cache has been emptied
            there = Path(run.config.fold_of)
        directory = folder or there
        manifest = manifest or _manifest_of(run, directory)
        directory, manifest = _fold_of(run, directory, manifest)
        _require_fit(run, directory, manifest)
        own = run.trained_on(manifest)
        if folder is None and not own:
            raise InputError(
                f"--data={there}: the data there are not those of {run.folder} any more, but another "
                f"conversion; name where the run's are now with --data=FOLDER (or these, to evaluate on them)"
            )
        shards_at = run.config.pipeline.shards_at if directory == there else ""
        return cls(directory, manifest, own, replace(STREAM, shards_at=shards_at))

    def require(self, split: str) -> None:
        """Raises InputError unless the split is there, and its shards with it."""
        if self.options.shards_at:
            self.manifest.split(split)
        else:
            self.manifest.check_shards(self.folder, split)


def predict_split(
    predictor: Probabilities,
    directory: Path,
    manifest: Manifest,
    split: str,
    options: PipelineOptions = STREAM,
    tick: Callable[[], None] = lambda: None,
    *,
    originals: bool = False,
) -> Predictions:
    """Predicts a split in one pass, which also gives the ids, groups and labels.

    Args:
        predictor: The model.
        directory: Where the data are.
        manifest: Theirs.
        split: Which split.
        options: How it is read.
        tick: Called after each batch; what it raises ends the pass.
        originals: Whether to leave out the copies that augmentation has made.
    """
    fields = ("image", "label", "weight", "id", "group", "copy")
    ids: list[str] = []
    groups: list[str] = []
    labels: list[npt.NDArray[np.int32]] = []
    probabilities: list[npt.NDArray[np.float64]] = []
    with named_damage(directory, manifest, split, direct=bool(options.shards_at)):
        dataset = make_dataset(directory, manifest, split, options, training=False, fields=fields)
        for batch in dataset.as_numpy_iterator():
            wanted = _wanted(batch, originals=originals)
            if not wanted.any():
                continue
            probabilities.append(predictor.probabilities(batch["image"])[wanted])
            labels.append(batch["label"][wanted])
            ids += [value.decode() for value in batch["id"][wanted]]
            groups += [value.decode() for value in batch["group"][wanted]]
            tick()
    return Predictions(
        manifest.class_names, tuple(ids), tuple(groups), np.concatenate(labels), np.concatenate(probabilities)
    )


def images_at(data: DataSet, split: str, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Returns the images at these positions of the split's originals, uint8 [n, H, W, C]."""
    images = np.zeros((len(positions), *data.manifest.image_shape), np.uint8)
    fields, before = ("image", "weight", "copy"), 0
    dataset = make_dataset(data.folder, data.manifest, split, data.options, training=False, fields=fields)
    for batch in dataset.as_numpy_iterator():
        originals = batch["image"][_wanted(batch, originals=True)]
        for row in np.flatnonzero((positions >= before) & (positions < before + len(originals))):
            images[row] = originals[positions[row] - before]
        before += len(originals)
    return images


def _wanted(batch: Mapping[str, Any], *, originals: bool) -> npt.NDArray[np.bool_]:
    """Returns which rows of a batch are records, not padding; with `originals` no copies either."""
    real = batch["weight"] > 0
    return real & (batch["copy"] == 0) if originals else real


def _manifest_of(run: Run, directory: Path) -> Manifest:
    try:
        return Manifest.load(directory, check_shards=False)
    except InputError as error:
        if directory != Path(run.config.data) or (directory / MANIFEST_NAME).exists():
            raise
        raise InputError(
            f"{error}\nIf the data of {run.folder} were moved, name where they are now with --data=FOLDER"
        ) from None


def _fold_of(run: Run, directory: Path, manifest: Manifest) -> tuple[Path, Manifest]:
    """Returns the data set of a run's fold, if these are the data that the run has divided; else these."""
    if run.config.fold:
        fold = Fold.parse(run.config.fold)
        if fold.plan(manifest.plan) == run.data.plan:
            return folded(directory, manifest, fold, cache_dir=run.config.pipeline.cache_dir)
    return directory, manifest


def _require_fit(run: Run, directory: Path, manifest: Manifest) -> None:
    """Refuses data whose classes, image shape or resizing are not those that the model was trained on."""
    mine, theirs = (run.data.class_names, run.data.image_shape), (manifest.class_names, manifest.image_shape)
    if mine != theirs:
        fix = "the same classes, --size and --channels"
        if mine[0] != theirs[0] and sorted(mine[0]) == sorted(theirs[0]):
            fix = f"the order of the model, {classes_flag(mine[0])}" + ", --size and --channels" * (
                mine[1] != theirs[1]
            )
        raise InputError(
            f"--data={directory}: has the classes {first_names(theirs[0])}, in this order, and images of "
            f"{theirs[1]}; the model of {run.folder} knows {first_names(mine[0])}, in this order, and "
            f"{mine[1]}: convert with {fix}"
        )
    if run.data.resize != manifest.resize:
        raise InputError(
            f"--data={directory}: was converted with --resize={manifest.resize}; the model of {run.folder} "
            f"was trained on --resize={run.data.resize}: convert with that"
        )
