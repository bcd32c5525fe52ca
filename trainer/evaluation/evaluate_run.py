"""Evaluation of a run on a split: one pass, then the report."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError, first_names
from tfrecords.manifest import MANIFEST_NAME, Manifest
from tfrecords.positive import positive_class, positive_in_words
from tfrecords.sources.classes import classes_flag
from trainer.evaluation.folder import MODEL_FACT, PLAN_FACT
from trainer.evaluation.predictions import Predictions, Threshold, worst_mistakes
from trainer.evaluation.report import read_report, render_text, write_report, write_summaries
from trainer.evaluation.so_far import best_so_far
from trainer.inference import BATCH_SIZE, Probabilities, load_predictor
from trainer.run import Result, Run

_MISTAKES: Final = 12  # pictures in the report
_ALIKE: Final = 0.01  # probabilities this close tell nothing apart
_NOTHING_LEARNED: Final = (
    "The model gives all images the same probabilities: it has learned nothing from them. Train anew with "
    "another --seed, a lower --learning_rate, or --schedule=cosine --warmup_epochs=1"
)
POSITIVE_FACT: Final = "positive"
_STREAM: Final = PipelineOptions(global_batch_size=BATCH_SIZE, cache="off")  # one pass only


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation made: its page, and its figures as text."""

    page: Path
    text: str


def evaluate_run(
    run: Run,
    *,
    split: str,
    data: Path | None = None,
    out: Path | None = None,
    so_far: bool = False,
    positive: str = "",
    tick: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluates a run's model on a split and writes its report, and TensorBoard's copy.

    The report of the run's own data, wherever they are, is `report/SPLIT/`; that of other data
    `report/DATASET-SPLIT/`. The threshold of two classes is that of the run's result, which was chosen on the
    validation split of the run's own data, whatever is evaluated. For another positive class than the
    result's it is chosen anew there, and the result stays as it is; the report's name then ends in
    `-positive-CLASS`. Of train, the originals are evaluated.

    A run that has no model yet is evaluated at its best epoch so far, with a threshold that is chosen for
    that epoch; the report's name then ends in `-so-far`, and TensorBoard gets none.

    Args:
        run: the run.
        split: which to evaluate.
        data: the run's own data in another place, or another data set of the same classes and image shape;
            None: the run's own, where they were.
        out: folder for the report; then nothing is written into the run.
        so_far: whether to take the best epoch so far though there is a model of an earlier end.
        positive: of two classes the finding; "": the one of the run's result.
        tick: called after each batch; what it raises ends the evaluation.

    Raises:
        InputError: no epoch is done yet, no such split, data that do not fit the model, or a report that
            cannot be written.
    """
    home = Path(run.config.data)
    directory = data or home
    manifest = _fitting_manifest(run, directory, split)
    own = run.trained_on(manifest)
    if data is None:
        _require_own(run, manifest)
    home = directory if own else home
    so_far = so_far or not run.model.exists()
    names = run.data.class_names
    of_the_run = _positive_of(run, manifest.positive if own else "", so_far=so_far)
    positive = positive_class(names, positive) if positive else of_the_run
    ending = "" if positive == of_the_run else f"-positive-{positive}"
    folder = out or _place(run, manifest, split + ending + "-so-far" * so_far)
    _require_room(run, folder, out)
    history: Sequence[dict[str, float]]
    if so_far:
        predictor, result, history = best_so_far(run)
    else:
        predictor, result = load_result(run)
        # A run that goes on has more rows by now than the epochs that its result is of.
        rows = [] if run.baseline else json.loads((run.folder / "history.json").read_text())
        history = rows[: result.epochs]
    stream = _stream_of(run, directory)
    predictions = predict_split(predictor, directory, manifest, split, stream, tick, originals=True).of(
        positive
    )
    # Not chosen yet: for another class, so far, or of a version that chose it later.
    if predictions.binary and (ending or result.threshold is None):
        result = replace(result, **asdict(validation_threshold(predictor, run, positive, tick, home)))
        if not ending and not so_far and not out:
            run.save_result(result)
    tick()
    notes = _notes(run, result, own=own, split=split, so_far=so_far)
    worst = worst_mistakes(predictions, result.threshold, _MISTAKES)
    page = write_report(
        folder,
        split=split,
        predictions=predictions,
        threshold=result.threshold,
        threshold_source=_source(run, result, own=own, split=split, binary=predictions.binary),
        history=history,
        facts={
            **run.facts,
            **({} if own else {"data": f"{manifest.name}: {directory}", "trained on": run.facts["data"]}),
            "run": str(run.folder),
            **_positive_fact(names, positive),
            "evaluated": f"{split} of {manifest.name}: {directory}",
            PLAN_FACT: manifest.plan,
            MODEL_FACT: "none yet" if so_far else f"SHA-256 {result.model_sha256}",
            **({"note": notes} if notes else {}),
        },
        data="" if own else manifest.name,
        best_epoch=result.epoch or None,
        mistakes=_images(directory, manifest, split, worst, stream),
        seed=run.config.seed,
        threshold_groups=result.chosen_on_groups,
        notes=_doubts(names, result, positive),
    )
    if not out and not so_far:
        write_summaries(
            run.tensorboard / "report",
            split=folder.name,
            predictions=predictions,
            threshold=result.threshold,
            step=len(history),
        )
    text = render_text(read_report(folder))
    nothing = _alike(predictions) and not run.baseline  # whose flags are others
    return Evaluation(page, f"{text}\n{_NOTHING_LEARNED}" if nothing else text)


def _require_own(run: Run, manifest: Manifest) -> None:
    if not run.trained_on(manifest):
        raise InputError(
            f"--data={run.config.data}: the data there are not those of {run.folder} any more, but another "
            f"conversion; name where the run's are now with --data=FOLDER (or these, to evaluate it on them)"
        )


def _positive_of(run: Run, of_the_data: str, *, so_far: bool) -> str:
    """Returns the class that a run's threshold is for; "" of many classes."""
    names = run.data.class_names
    if so_far:
        return positive_class(names, run.config.positive or of_the_data)
    return run.result().positive or (names[1] if len(names) == 2 else "")  # the second, before it was kept


def _place(run: Run, manifest: Manifest, end: str) -> Path:
    """Returns the folder of a report in its run: each data set, split and positive class has one."""
    end = re.sub(r"[^\w.-]", "_", end)  # a class may be called otherwise than a file, and so may other data
    if run.trained_on(manifest):
        return run.report(end)
    name = re.sub(r"[^\w.-]", "_", f"{manifest.name}-{end}")
    try:
        there = read_report(run.report(name))["facts"].get(PLAN_FACT)
    except InputError:
        there = None
    if there not in (None, manifest.plan):  # another data set of this name
        name = re.sub(r"[^\w.-]", "_", f"{manifest.name}-{manifest.plan[:8]}-{end}")
    return run.report(name)


def _require_room(run: Run, folder: Path, out: Path | None) -> None:
    """Refuses what cannot be written, before minutes are spent on it."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "is no folder" if not there.is_dir() else "cannot be written"
        if out:
            raise InputError(f"--out={out}: {there} {what}; give a folder that can be made and written")
        raise InputError(f"--run_dir={run.folder}: {there} {what}; give --out=FOLDER for the report")
    if out and folder.is_dir() and any(folder.iterdir()) and not (folder / "report.json").exists():
        raise InputError(f"--out={out}: holds other things than a report; give a new or an empty folder")


def _source(run: Run, result: Result, *, own: bool, split: str, binary: bool) -> str:
    """Says where the threshold came from."""
    if not binary:
        return "more than two classes: the most probable class is predicted"
    if own and split == "val":
        return "chosen on this split itself: its figures there are optimistic"
    records = f" ({result.chosen_on:,} records)" if result.chosen_on else ""
    if not own:
        return f"chosen on validation{records} of the run's own data, {run.data.name}"
    return f"chosen on validation{records}, never on {split}"


def _notes(run: Run, result: Result, *, own: bool, split: str, so_far: bool) -> str:
    """Says what the figures are not worth; "" if there is nothing to say."""
    notes = []
    if own and split == "train":
        notes.append(
            "The model was trained on these images: the figures are optimistic. Copies are left out."
        )
    if so_far:
        notes.append(
            f"Epoch {result.epoch} is the best so far of a run that has not ended: {result.epochs} epochs of "
            f"at most {run.config.epochs} were done."
        )
    return " ".join(notes)


def _positive_fact(class_names: Sequence[str], positive: str) -> dict[str, str]:
    """The fact of the positive class, which may be another than the run's facts have."""
    by_name = positive == positive_class(class_names)
    words = positive_in_words(class_names) if by_name else positive
    return {POSITIVE_FACT: words} if words else {}


def _doubts(class_names: Sequence[str], result: Result, positive: str) -> list[str]:
    """A sentence if the positive class says normal and nobody has chosen it."""
    finding = positive_class(class_names)
    if result.positive or positive == finding:
        return []
    return [
        f"{positive} counts as the finding, as runs of before took the second class, though its name says "
        f"normal: --positive={finding} evaluates for {finding}"
    ]


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
    facts = report["facts"]
    of, evaluated = facts.get(MODEL_FACT), facts.get("evaluated", "")
    # A version before wrote no plan, and reports on other data into the same place.
    own = f"{split} of {run.data.name}:" in evaluated and facts.get(PLAN_FACT, run.data.plan) == run.data.plan
    result, names = run.result(), run.data.class_names
    other_class = len(names) == 2 and (report.get("positive") or names[1]) != (result.positive or names[1])
    if not own or other_class or of != f"SHA-256 {result.model_sha256}":
        return None
    if not (folder / "report.html").exists():
        return None
    return Evaluation(folder / "report.html", render_text(report))


def validation_threshold(
    predictor: Probabilities,
    run: Run,
    positive: str,
    tick: Callable[[], None] = lambda: None,
    home: Path | None = None,
) -> Threshold:
    """Returns the threshold that is chosen on validation for a positive class; none for many classes.

    Args:
        predictor: the model.
        run: the run.
        positive: the class; "" for many classes.
        tick: called after each batch.
        home: where the run's own data are; None: where they were.
    """
    if len(run.data.class_names) > 2:
        return Threshold()
    home = home or Path(run.config.data)
    manifest = _fitting_manifest(run, home, "val")
    _require_own(run, manifest)
    chosen_on = predict_split(predictor, home, manifest, "val", _stream_of(run, home), tick)
    return Threshold.chosen(chosen_on.of(positive))


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
    *,
    originals: bool = False,
) -> Predictions:
    """Predicts a split in one pass, which also gives the ids, groups and labels; or its originals alone."""
    fields = ("image", "label", "weight", "id", "group", "copy")
    ids: list[str] = []
    groups: list[str] = []
    labels: list[npt.NDArray[np.int32]] = []
    probabilities: list[npt.NDArray[np.float64]] = []
    with named_damage(directory, manifest, split, direct=bool(options.shards_at)):
        dataset = make_dataset(directory, manifest, split, options, training=False, fields=fields)
        for batch in dataset.as_numpy_iterator():
            real = _wanted(batch, originals=originals)
            if not real.any():
                continue
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
    """Returns the images at these positions of the split's originals, uint8 [n, H, W, C]."""
    found = np.zeros((len(positions), *manifest.image_shape), np.uint8)
    fields, before = ("image", "weight", "copy"), 0
    dataset = make_dataset(directory, manifest, split, options, training=False, fields=fields)
    for batch in dataset.as_numpy_iterator():
        images = batch["image"][_wanted(batch, originals=True)]
        for row in np.flatnonzero((positions >= before) & (positions < before + len(images))):
            found[row] = images[positions[row] - before]
        before += len(images)
    return found


def _wanted(batch: Mapping[str, Any], *, originals: bool) -> npt.NDArray[np.bool_]:
    """Returns which rows of a batch are records, and no copies if these are not wanted."""
    real = batch["weight"] > 0
    return real & (batch["copy"] == 0) if originals else real


def _stream_of(run: Run, directory: Path) -> PipelineOptions:
    """One pass over the data in a folder, or where the run's own shards are."""
    own = directory == Path(run.config.data)
    return replace(_STREAM, shards_at=run.config.pipeline.shards_at if own else "")


def _fitting_manifest(run: Run, directory: Path, split: str) -> Manifest:
    try:
        manifest = Manifest.load(directory, check_shards=False)
    except InputError as error:
        if directory != Path(run.config.data) or (directory / MANIFEST_NAME).exists():
            raise
        raise InputError(
            f"{error}\nIf the data of {run.folder} were moved, name where they are now with --data=FOLDER"
        ) from None
    if not _stream_of(run, directory).shards_at:
        manifest.check_shards(directory, split)
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
    return manifest
