"""Evaluation of a run on a split: one pass, then the report."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.evaluation.predictions import Predictions, choose_threshold, worst_mistakes
from trainer.evaluation.report import read_report, render_text, write_report, write_summaries
from trainer.inference import BATCH_SIZE, Predictor
from trainer.run import Run

_MISTAKES: Final = 12  # pictures in the report
_ALIKE: Final = 0.01  # probabilities this close tell nothing apart
_NOTHING_LEARNED: Final = (
    "The model gives all images the same probabilities: it has learned nothing from them. Train anew with "
    "another --seed, a lower --learning_rate, or --schedule=cosine --warmup_epochs=1"
)
_STREAM: Final = PipelineOptions(global_batch_size=BATCH_SIZE, cache="off")  # one pass only


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation made: its page, and its figures as text."""

    page: Path
    text: str


def evaluate_run(run: Run, *, split: str, data: Path | None = None) -> Evaluation:
    """Evaluates a run's model on a split and writes `report/SPLIT/` and TensorBoard's copy.

    The threshold of two classes is chosen on the validation split of the run's own data, whatever
    is evaluated.

    Args:
        run: the run; its training must have ended.
        split: which to evaluate.
        data: another data set of the same classes and image shape; None: the run's own.

    Raises:
        InputError: no model yet, no such split, or data that does not fit the model.
    """
    predictor = Predictor(run.model)
    home = Path(run.config.data)
    directory = data or home
    manifest = _fitting_manifest(run, directory, split)
    predictions = predict_split(predictor, directory, manifest, split, _stream_of(run, directory))
    threshold, source = None, "more than two classes: the most probable class is predicted"
    if predictions.binary:
        if split == "val" and directory == home:
            chosen_on, source = predictions, "chosen on this split itself: its figures there are optimistic"
        else:
            there = _fitting_manifest(run, home, "val")
            chosen_on = predict_split(predictor, home, there, "val", _stream_of(run, home))
            source = f"chosen on validation ({len(chosen_on.ids):,} records), never on {split}"
        threshold = choose_threshold(chosen_on)
        run.save_threshold(threshold)
    folder = run.report(split)
    worst = worst_mistakes(predictions, threshold, _MISTAKES)
    history = json.loads((run.folder / "history.json").read_text())
    page = write_report(
        folder,
        split=split,
        predictions=predictions,
        threshold=threshold,
        threshold_source=source,
        history=history,
        facts={**run.facts, "evaluated": f"{split} of {manifest.name}: {directory}"},
        mistakes=_images(directory, manifest, split, worst, _stream_of(run, directory)),
        seed=run.config.seed,
    )
    write_summaries(
        run.tensorboard / "report",
        split=split,
        predictions=predictions,
        threshold=threshold,
        step=len(history),
    )
    text = render_text(read_report(folder))
    return Evaluation(page, f"{text}\n{_NOTHING_LEARNED}" if _alike(predictions) else text)


def _alike(predictions: Predictions) -> bool:
    """Returns whether nearly all records get the same probabilities, so that they are not told apart."""
    low, high = np.quantile(predictions.probabilities, (0.01, 0.99), axis=0)
    return len(predictions.ids) > 1 and bool((high - low < _ALIKE).all())


def predict_split(
    predictor: Predictor, directory: Path, manifest: Manifest, split: str, options: PipelineOptions = _STREAM
) -> Predictions:
    """Predicts a split in one pass, which also gives the ids, groups and labels."""
    fields = ("image", "label", "weight", "id", "group")
    ids: list[str] = []
    groups: list[str] = []
    labels: list[npt.NDArray[np.int32]] = []
    probabilities: list[npt.NDArray[np.float64]] = []
    with named_damage(directory, manifest, split, direct=bool(options.shards_at)):
        dataset = make_dataset(directory, manifest, split, options, training=False, fields=fields)
        for batch in dataset.as_numpy_iterator():
            real = batch["weight"] > 0
            probabilities.append(predictor.probabilities(batch["image"])[real])
            labels.append(batch["label"][real])
            ids += [value.decode() for value in batch["id"][real]]
            groups += [value.decode() for value in batch["group"][real]]
    return Predictions(
        manifest.class_names, tuple(ids), tuple(groups), np.concatenate(labels), np.concatenate(probabilities)
    )


def _images(
    directory: Path,
    manifest: Manifest,
    split: str,
    positions: npt.NDArray[np.int64],
    options: PipelineOptions,
) -> npt.NDArray[np.uint8]:
    """Returns the images at these positions of the split's order, uint8 [n, H, W, C]."""
    found = np.zeros((len(positions), *manifest.image_shape), np.uint8)
    dataset = make_dataset(directory, manifest, split, options, training=False, fields=("image",))
    for number, batch in enumerate(dataset.as_numpy_iterator()):
        for row in np.flatnonzero(positions // BATCH_SIZE == number):
            found[row] = batch["image"][positions[row] % BATCH_SIZE]
    return found


def _stream_of(run: Run, directory: Path) -> PipelineOptions:
    """One pass over the data in a folder, or where the run's own shards are."""
    own = directory == Path(run.config.data)
    return replace(_STREAM, shards_at=run.config.pipeline.shards_at if own else "")


def _fitting_manifest(run: Run, directory: Path, split: str) -> Manifest:
    manifest = Manifest.load(directory, check_shards=False)
    if not _stream_of(run, directory).shards_at:
        manifest.check_shards(directory, split)
    mine, theirs = (run.data.class_names, run.data.image_shape), (manifest.class_names, manifest.image_shape)
    if mine != theirs:
        raise InputError(
            f"--data={directory}: has classes {', '.join(theirs[0])} and images of {theirs[1]}; the model of "
            f"{run.folder} knows {', '.join(mine[0])} and {mine[1]}: convert with the same classes, --size "
            f"and --channels"
        )
    return manifest
