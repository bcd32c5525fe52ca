"""Evaluation of a run on a split: one pass, then the report."""

import json
from collections.abc import Callable
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
from trainer.inference import BATCH_SIZE, Probabilities, load_predictor
from trainer.run import Result, Run

_MISTAKES: Final = 12  # pictures in the report
_ALIKE: Final = 0.01  # probabilities this close tell nothing apart
_NOTHING_LEARNED: Final = (
    "The model gives all images the same probabilities: it has learned nothing from them. Train anew with "
    "another --seed, a lower --learning_rate, or --schedule=cosine --warmup_epochs=1"
)
_MODEL_FACT: Final = "model file"
_STREAM: Final = PipelineOptions(global_batch_size=BATCH_SIZE, cache="off")  # one pass only


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation made: its page, and its figures as text."""

    page: Path
    text: str


def evaluate_run(
    run: Run, *, split: str, data: Path | None = None, tick: Callable[[], None] = lambda: None
) -> Evaluation:
    """Evaluates a run's model on a split and writes `report/SPLIT/` and TensorBoard's copy.

    The threshold of two classes is that of the run's result, which was chosen on the validation split of the
    run's own data, whatever is evaluated.

    Args:
        run: the run; its training must have ended.
        split: which to evaluate.
        data: another data set of the same classes and image shape; None: the run's own.
        tick: called after each batch; what it raises ends the evaluation.

    Raises:
        InputError: no model yet, no such split, or data that does not fit the model.
    """
    predictor, result = load_result(run)
    home = Path(run.config.data)
    directory = data or home
    manifest = _fitting_manifest(run, directory, split)
    predictions = predict_split(predictor, directory, manifest, split, _stream_of(run, directory), tick)
    if predictions.binary and result.threshold is None:  # of a version that chose it later
        threshold, count = validation_threshold(predictor, run, tick)
        result = replace(result, threshold=threshold, chosen_on=count)
        run.save_result(result)
    if not predictions.binary:
        source = "more than two classes: the most probable class is predicted"
    elif split == "val" and directory == home:
        source = "chosen on this split itself: its figures there are optimistic"
    else:
        records = f" ({result.chosen_on:,} records)" if result.chosen_on else ""
        source = f"chosen on validation{records}, never on {split}"
    tick()
    folder = run.report(split)
    worst = worst_mistakes(predictions, result.threshold, _MISTAKES)
    # A run that goes on has more rows by now than the epochs that its result is of.
    rows = [] if run.baseline else json.loads((run.folder / "history.json").read_text())
    history = rows[: result.epochs]
    page = write_report(
        folder,
        split=split,
        predictions=predictions,
        threshold=result.threshold,
        threshold_source=source,
        history=history,
        facts={
            **run.facts,
            "evaluated": f"{split} of {manifest.name}: {directory}",
            _MODEL_FACT: f"SHA-256 {result.model_sha256}",
        },
        best_epoch=result.epoch or None,
        mistakes=_images(directory, manifest, split, worst, _stream_of(run, directory)),
        seed=run.config.seed,
    )
    write_summaries(
        run.tensorboard / "report",
        split=split,
        predictions=predictions,
        threshold=result.threshold,
        step=len(history),
    )
    text = render_text(read_report(folder))
    nothing = _alike(predictions) and not run.baseline  # whose flags are others
    return Evaluation(page, f"{text}\n{_NOTHING_LEARNED}" if nothing else text)


def load_result(run: Run) -> tuple[Probabilities, Result]:
    """Returns the model of a run's result, and the result.

    Raises:
        InputError: there is none, they do not belong together, or a new one came in between.
    """
    result = run.result()
    predictor = load_predictor(run.model)
    if run.result() != result:
        raise InputError(f"{run.model}: was replaced while it was loaded; run this command again")
    return predictor, result


def finished_evaluation(run: Run, split: str) -> Evaluation | None:
    """Returns the evaluation that is there of the run's result, its report whole; None if there is none."""
    folder = run.report(split)
    try:
        report = read_report(folder)
    except InputError:
        return None
    of = report["facts"].get(_MODEL_FACT)
    if of != f"SHA-256 {run.result().model_sha256}" or not (folder / "report.html").exists():
        return None
    return Evaluation(folder / "report.html", render_text(report))


def validation_threshold(
    predictor: Probabilities, run: Run, tick: Callable[[], None] = lambda: None
) -> tuple[float | None, int]:
    """Returns the threshold that is chosen on validation, and on how many records; None for many classes."""
    if len(run.data.class_names) > 2:
        return None, 0
    home = Path(run.config.data)
    manifest = _fitting_manifest(run, home, "val")
    chosen_on = predict_split(predictor, home, manifest, "val", _stream_of(run, home), tick)
    return choose_threshold(chosen_on), len(chosen_on.ids)


def _alike(predictions: Predictions) -> bool:
    """Returns whether nearly all records get the same probabilities, so that they are not told apart."""
    low, high = np.quantile(predictions.probabilities, (0.01, 0.99), axis=0)
    return len(predictions.ids) > 1 and bool((high - low < _ALIKE).all())


def predict_split(
    predictor: Probabilities,
    directory: Path,
    manifest: Manifest,
    split: str,
    options: PipelineOptions = _STREAM,
    tick: Callable[[], None] = lambda: None,
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
            tick()
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
    if run.data.resize != manifest.resize:
        raise InputError(
            f"--data={directory}: was converted with --resize={manifest.resize}; the model of {run.folder} "
            f"was trained on --resize={run.data.resize}: convert with that"
        )
    return manifest
