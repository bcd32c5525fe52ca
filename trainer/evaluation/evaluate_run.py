"""Evaluates a run on a split: one pass over the records, then the report."""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.positive import positive_class, positive_in_words
from trainer.evaluation.data import DataSet, images_at, predict_split
from trainer.evaluation.folder import MODEL_FACT, PLAN_FACT
from trainer.evaluation.predictions import Predictions, worst_mistakes
from trainer.evaluation.report import read_report, render_text, summarise, write_report
from trainer.evaluation.shortcut.cells import cells_of, contradicts
from trainer.evaluation.shortcut.finding import numbers_say
from trainer.evaluation.so_far import best_so_far
from trainer.evaluation.stress.elsewhere import elsewhere
from trainer.evaluation.stress.prevalence import by_prevalence
from trainer.evaluation.stress.testing import stress_test, to_json
from trainer.evaluation.summaries import write_summaries
from trainer.inference import Probabilities, load_predictor
from trainer.models.users import import_module_of
from trainer.result import Result
from trainer.run import Run
from trainer.served.rules import ThresholdRule
from trainer.served.temperature import effect
from trainer.served.validation import validation_threshold

_MISTAKES: Final = 12  # pictures in the report
_ALIKE: Final = 0.01  # a model whose probabilities differ by less tells no records apart
_NOTHING_LEARNED: Final = (
    "The model gives all images the same probabilities: it has learned nothing from them. Train anew with "
    "another --seed, a lower --learning_rate, or --schedule=cosine --warmup_epochs=1"
)
POSITIVE_FACT: Final = "positive"


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
    manifest: Manifest | None = None,
    out: Path | None = None,
    so_far: bool = False,
    positive: str = "",
    stress: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluates a run's model on a split and writes its report, and TensorBoard's copy.

    The report on the run's own data, wherever they are, is `report/SPLIT/`; the one on other data is
    `report/DATASET-SPLIT/`. With two classes, the threshold is the one of the run's result. It was chosen on
    the validation split of the run's own data, whatever is evaluated. For another positive class than the
    result's the threshold is chosen anew on that split, and the result stays as it is; the report's name then
    ends in `-positive-CLASS`. Of the train split, the originals are evaluated.

    A run that has no model yet is evaluated at its best epoch so far, with a threshold that is chosen for
    that epoch; the report's name then ends in `-so-far`, and TensorBoard gets no copy.

    Args:
        run: The run.
        split: The split to evaluate.
        data: Folder of the run's own data, if they were moved, or of another data set with the same classes
            and image shape; None: the run's own, where they were.
        manifest: Of these data, if it has been read already.
        out: Folder for the report; then nothing is written into the run.
        so_far: Whether to take the best epoch so far, though there is a model of an earlier end.
        positive: The positive class, of two; "": the one of the run's result.
        stress: Whether to predict the split under changes too; see `stress.testing`.
        tick: Called after each batch; what it raises ends the evaluation.

    Raises:
        InputError: No epoch is done yet, there is no such split, the data do not fit the model, or the report
            cannot be written.
    """
    evaluated = DataSet.of(run, data, manifest)
    evaluated.require(split)
    so_far = so_far or not run.model.exists()
    history: Sequence[dict[str, float]]
    if so_far:
        home = partial(_home, run, evaluated)
        predictor, result, history = best_so_far(run, home, tick)
        result = replace(result, threshold_rule=str(ThresholdRule.parse(run.config.threshold_rule)))
    else:
        predictor, result = load_result(run)
        # An average of runs and a baseline have no epochs. A run that goes on has more rows by now than its
        # result has epochs.
        rows = [] if not result.epoch else json.loads((run.folder / "history.json").read_text())
        history = rows[: result.epochs]
    names, own = run.data.class_names, evaluated.own
    of_the_run = _positive_of(run, result, evaluated, so_far=so_far)
    positive = positive_class(names, positive) if positive else of_the_run
    ending = "" if positive == of_the_run else f"-positive-{positive}"
    folder = out or _place(run, evaluated.manifest, split + ending + "-so-far" * so_far)
    _require_room(run, folder, out)
    predictions = predict_split(
        predictor,
        evaluated.folder,
        evaluated.manifest,
        split,
        evaluated.options,
        tick,
        originals=True,
    ).of(positive)
    # There is none yet for another class, for the best epoch so far, or in a run of an older version.
    if predictions.binary and (ending or result.threshold is None):
        chosen = validation_threshold(
            predictor, _home(run, evaluated), positive, tick, rule=result.threshold_rule
        )
        result = replace(result, **asdict(chosen))
        if not ending and not so_far and not out:
            run.save_result(result)
    tick()
    worst = worst_mistakes(predictions, result.threshold, _MISTAKES)
    report = summarise(
        split=split,
        predictions=predictions,
        threshold=result.threshold,
        threshold_source=_source(run, result, own=own, split=split, binary=predictions.binary),
        facts=_facts(run, result, evaluated, split=split, positive=positive, so_far=so_far),
        data="" if own else evaluated.manifest.name,
        best_epoch=result.epoch or None,
        seed=run.config.seed,
        threshold_groups=result.chosen_on_groups,
        warnings=_warnings(run, result, own=own, split=split, positive=positive, so_far=so_far),
    )
    if result.threshold_rule != ThresholdRule.name:
        report["threshold_rule"] = result.threshold_rule
    if run.config.temperature != "none":
        here = own and split == "val"
        fixed = run.config.temperature != "validation"
        report["temperature"] = effect(
            predictions, result.temperature, chosen_here=here and not fixed, fixed=fixed
        )
    said = numbers_say(run, evaluated, split, predictions, tick)
    threshold = result.threshold
    if isinstance(said, str):
        report["shortcut"] = {"missing": said}
    else:
        report["shortcut"] = cells_of(predictions, said, threshold)
    if stress:
        tested = stress_test(predictor, evaluated, split, predictions, threshold, tick=tick)
        against = None if isinstance(said, str) else contradicts(predictions, said)
        report |= {
            "stress": to_json(tested),
            "prevalence": by_prevalence(predictions, threshold),
            "elsewhere": elsewhere(predictions, against, threshold, tested),
        }
    write_report(
        folder,
        report,
        predictions=predictions,
        history=history,
        mistakes=images_at(evaluated, split, worst),
    )
    if not out and not so_far:
        write_summaries(
            run.tensorboard / "report",
            split=folder.name,
            predictions=predictions,
            threshold=result.threshold,
            epoch=result.epoch,
        )
    text = render_text(report)
    nothing = _alike(predictions) and not run.baseline  # a baseline has other flags than these
    return Evaluation(folder / "report.html", f"{text}\n{_NOTHING_LEARNED}" if nothing else text)


def _home(run: Run, evaluated: DataSet) -> DataSet:
    """Returns the run's own data, with the validation split that chooses for it."""
    return evaluated if evaluated.own else DataSet.of(run)


def _positive_of(run: Run, result: Result, evaluated: DataSet, *, so_far: bool) -> str:
    """Returns the class that a run's threshold is for; "" for more than two classes."""
    names = run.data.class_names
    if so_far:
        of_the_data = evaluated.manifest.positive if evaluated.own else ""
        return positive_class(names, run.config.positive or of_the_data)
    return result.positive or (names[1] if len(names) == 2 else "")  # results of older versions: the second


def _place(run: Run, manifest: Manifest, end: str) -> Path:
    """Returns the folder of a report in its run: each data set, split and positive class has one."""
    end = re.sub(r"[^\w.-]", "_", end)  # names of classes and data sets may have letters that file names lack
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
    """Refuses a folder that cannot be written, before minutes are spent on the predictions."""
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
    rule = ThresholdRule.parse(result.threshold_rule)
    later = "; the rule was given after the training" * result.rule_came_later
    if rule.fixed is not None:
        return f"fixed before training by --threshold_rule={rule}" if not later else f"fixed{later}"
    if own and split == "val":
        return f"chosen on this split itself{rule.in_words()}: its figures there are optimistic{later}"
    records = f" ({result.chosen_on:,} records)" if result.chosen_on else ""
    if not own:
        return f"chosen on validation{records} of the run's own data, {run.data.name}{rule.in_words()}{later}"
    return f"chosen on validation{records}{rule.in_words()}, never on {split}{later}"


def _facts(
    run: Run, result: Result, evaluated: DataSet, *, split: str, positive: str, so_far: bool
) -> dict[str, str]:
    """Returns the run's facts, and what was evaluated."""
    there = f"{evaluated.manifest.name}: {evaluated.folder}"
    return {
        **run.facts,
        **({} if evaluated.own else {"data": there, "trained on": run.facts["data"]}),
        "run": str(run.folder),
        **_positive_fact(run.data.class_names, positive),
        "evaluated": f"{split} of {there}",
        PLAN_FACT: evaluated.manifest.plan,
        MODEL_FACT: "none yet" if so_far else f"SHA-256 {result.model_sha256}",
    }


def _positive_fact(class_names: Sequence[str], positive: str) -> dict[str, str]:
    """Returns the fact of the positive class, which may be another class than the run's facts name."""
    by_name = positive == positive_class(class_names)
    words = positive_in_words(class_names) if by_name else positive
    return {POSITIVE_FACT: words} if words else {}


def _warnings(run: Run, result: Result, *, own: bool, split: str, positive: str, so_far: bool) -> list[str]:
    """Returns what the reader of the figures must know about this run."""
    warnings = []
    if own and split == "train":
        warnings.append(
            "The model was trained on these images: the figures are optimistic. Copies are left out."
        )
    if so_far:
        warnings.append(
            f"Epoch {result.epoch} is the best so far of a run that has not ended: {result.epochs} epochs of "
            f"at most {run.config.epochs} were done."
        )
    finding = positive_class(run.data.class_names)
    if not result.positive and positive != finding:
        warnings.append(
            f"{positive} counts as the positive class, because older versions took the second class, though "
            f"its name says normal: --positive={finding} evaluates for {finding}"
        )
    return [*warnings, *filter(None, [result.threshold_note])]


def load_result(run: Run) -> tuple[Probabilities, Result]:
    """Returns the model of a run's result, and the result.

    Raises:
        InputError: There is none, they do not belong together, or another process replaced them.
    """
    result = run.result()
    import_module_of(run.config.model)
    predictor = load_predictor(run.model)
    if run.result() != result:  # read once more: the model may have been replaced after the first time
        raise InputError(f"{run.model}: was replaced while it was loaded; run this command again")
    return predictor, result


def finished_evaluation(run: Run, split: str, result: Result) -> Evaluation | None:
    """Returns the evaluation of a run's result that was made before, if its report is whole; else None.

    Args:
        run: The run.
        split: The split.
        result: The run's.
    """
    folder = run.report(split)
    try:
        report = read_report(folder)
    except InputError:
        return None
    facts = report["facts"]
    of, evaluated = facts.get(MODEL_FACT), facts.get("evaluated", "")
    # An older version wrote no plan, and put reports on other data into the same place.
    own = f"{split} of {run.data.name}:" in evaluated and facts.get(PLAN_FACT, run.data.plan) == run.data.plan
    names = run.data.class_names
    other_class = len(names) == 2 and (report.get("positive") or names[1]) != (result.positive or names[1])
    other_rule = report.get("threshold_rule", "youden") != result.threshold_rule
    if not own or other_class or other_rule or of != f"SHA-256 {result.model_sha256}":
        return None
    if not (folder / "report.html").exists():
        return None
    return Evaluation(folder / "report.html", render_text(report))


def _alike(predictions: Predictions) -> bool:
    """Returns whether nearly all records have the same probabilities, so that the model tells none apart."""
    low, high = np.quantile(predictions.probabilities, (0.01, 0.99), axis=0)
    return len(predictions.ids) > 1 and bool((high - low < _ALIKE).all())
