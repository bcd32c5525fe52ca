"""The evidence of a run on one split: numbers, a table of predictions, pictures and one page.

`report.json` holds every number; the page and the text that a command prints are drawn from it, so
they cannot disagree. Its content, `Report` below:

    split, threshold_source, facts, notice, resamples, seed
    data                             the data set's name, if it is not the run's own
    records, groups, classes         counts; classes is name -> records
    positive                         of two classes the finding, which sensitivity is of; else null
    warnings, threshold_warnings     sentences on what the figures, or the threshold, rest on too little
    decisions.default                threshold 0.5 (null with more than two classes: most probable)
    decisions.chosen                 only if a threshold was chosen
        .threshold, .confusion       [K][K], true class by row
        .estimates.NAME              {value, low, high, undefined, method}; null where undefined
    calibration_error, best_epoch    the latter null without a validation loss
"""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError, first_names
from tfrecords.text.names import legend
from trainer.evaluation import figures, metrics
from trainer.evaluation.folder import write_folder
from trainer.evaluation.intervals import Estimate, estimates, point_values
from trainer.evaluation.page import (
    class_of,
    classes_of,
    exact_note,
    interval_text,
    meaning,
    render_page,
    split_text,
)
from trainer.evaluation.predictions import Predictions, decide, worst_mistakes

Report = dict[str, Any]

NOTICE = (
    "For research only: this model and its predictions are not a medical device and not for clinical use."
)
RESAMPLES = 2000
_FEWEST_RESAMPLES = 200  # Of very many classes, whose every ranking is weighed anew in each.
_CELLS = 4 * 10**8  # Resamples x classes x records; beyond it, fewer resamples: half a minute, not an hour.
_PR_THRESHOLDS = 201  # TensorBoard's own default.
_FEW_OF_A_CLASS = 10  # Groups: fewer are told, for records of one group are one case.
_NAMED = 5  # Classes in a warning.


def write_report(
    directory: Path,
    *,
    split: str,
    predictions: Predictions,
    threshold: float | None,
    threshold_source: str,
    history: Sequence[Mapping[str, float]],
    facts: Mapping[str, str],
    mistakes: npt.NDArray[np.uint8] | None = None,
    best_epoch: int | None = None,
    seed: int = 0,
    data: str = "",
    threshold_groups: Sequence[int] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Writes the whole report, and returns the path of its `report.html`.

    The other files are `report.json`, `predictions.csv` and the pictures. All is rendered before
    anything is written. A new directory appears with all of them; in one that is there, whole files replace
    those of an earlier report, and `report.json` comes last: a report that cannot be rendered leaves the
    earlier one as it was. The same input gives the same bytes.

    Args:
        directory: Where to write; made if missing. Files of an earlier report are replaced.
        split: The split's name.
        predictions: The records of the split.
        threshold: The decision threshold chosen on validation; None for 0.5 alone, and with more
            than two classes.
        threshold_source: Where it came from: "chosen on validation (1,044 records)".
        history: As in `figures.training_curves`.
        facts: Run configuration, data, precision, versions. `facts["data"]` is shown on top, and
            `facts["note"]`, if there is one: what the figures are not worth.
        mistakes: uint8 [n, H, W, C], the images of `worst_mistakes(predictions, threshold, n)`, in
            that order; None writes no gallery.
        best_epoch: The epoch whose weights were kept; without it, the lowest `val_loss`.
        seed: Of the bootstrap.
        data: Name of the data set, if it is not the run's own.
        threshold_groups: Groups with records of each class among those that the threshold was chosen on;
            () if not known, or none was chosen.
        notes: Sentences to be added to the warnings beside the headline.

    Raises:
        InputError: The directory cannot be written, or the threshold is none (see `decide`).
    """
    report = summarise(
        split=split,
        predictions=predictions,
        threshold=threshold,
        threshold_source=threshold_source,
        facts=facts,
        seed=seed,
        threshold_groups=threshold_groups,
        notes=notes,
    )
    report["best_epoch"] = figures.best_epoch(history) if best_epoch is None else best_epoch
    if data:
        report["data"] = data
    pictures = _pictures(report, predictions)
    pictures["training_curves.png"] = figures.png(figures.training_curves(history, report["best_epoch"]))
    if mistakes is not None:
        captions = _mistake_captions(predictions, threshold, len(mistakes))
        pictures["mistakes.png"] = figures.png(figures.gallery(mistakes, captions))
    files = {
        "predictions.csv": _predictions_csv(predictions, threshold).encode(),
        **pictures,
        "report.html": render_page(report, pictures, _legend(predictions)).encode(),
        "report.json": json.dumps(report, indent=2, allow_nan=False).encode() + b"\n",
    }
    write_folder(directory, files)
    return directory / "report.html"


def read_report(directory: Path) -> Report:
    """The content of a report directory's `report.json`.

    Raises:
        InputError: There is none, or it is damaged.
    """
    path = directory / "report.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read {path}: {error}. Write it with python -m trainer.evaluate --run_dir=DIR"
        ) from error


def summarise(
    *,
    split: str,
    predictions: Predictions,
    threshold: float | None,
    threshold_source: str,
    facts: Mapping[str, str],
    seed: int = 0,
    threshold_groups: Sequence[int] = (),
    notes: Sequence[str] = (),
) -> Report:
    """Every number of the report, ready for JSON; arguments as in `write_report`."""
    resamples = resamples_of(predictions)
    decisions = {"default": _decision(predictions, 0.5 if predictions.binary else None, resamples, seed)}
    if threshold is not None:
        decisions["chosen"] = _decision(predictions, threshold, resamples, seed)
    labels = Counter(predictions.labels.tolist())
    names = predictions.class_names
    few, few_chosen_on = _few(names, predictions.groups_of_classes()), _few(names, threshold_groups)
    warnings, threshold_warnings = list(notes), []
    if few:
        warnings.append(
            f"fewer than {_FEW_OF_A_CLASS} groups of a class in {split}: {few}; figures of so few say "
            f"little, and their intervals are wide"
        )
    if few_chosen_on:
        threshold_warnings.append(
            f"fewer than {_FEW_OF_A_CLASS} groups of a class in validation, which chose the threshold: "
            f"{few_chosen_on}; others would have chosen another one"
        )
    return {
        "split": split,
        "records": len(predictions.ids),
        "groups": len(set(predictions.groups)),
        "classes": {name: labels[i] for i, name in enumerate(names)},
        "positive": predictions.positive_name or None,
        "warnings": warnings,
        "threshold_warnings": threshold_warnings,
        "decisions": decisions,
        "threshold_source": threshold_source,
        "calibration_error": metrics.reliability_curve(predictions).error,
        "best_epoch": None,
        "resamples": resamples,
        "seed": seed,
        "facts": dict(facts),
        "notice": NOTICE,
    }


def render_text(report: Report) -> str:
    """The plain-text table that a command prints at its end."""
    classes = first_names([f"{name} {count:,}" for name, count in report["classes"].items()])
    decisions = [report["decisions"][k] for k in ("chosen", "default") if k in report["decisions"]]
    heads = ["most probable class" if d["threshold"] is None else "" for d in decisions]
    heads = [h or f"threshold {d['threshold']:.3g}" for h, d in zip(heads, decisions, strict=True)]
    lines = [
        f"{split_text(report)}: {report['records']:,} records of {report['groups']:,} groups "
        f"({classes}); 95% intervals by group",
        *(f"warning: {sentence}" for sentence in report.get("warnings", ())),
    ]
    whose = {name: class_of(report, name) for name in decisions[0]["estimates"]}
    rows = {name: f"{name} ({of})" if of else name for name, of in whose.items()}
    wide = max(18, *map(len, rows.values()))
    lines.append("  ".join(["".ljust(wide), *(head.ljust(22) for head in heads)]).rstrip())
    for name, row in rows.items():
        cells = [interval_text(decision["estimates"][name]).ljust(22) for decision in decisions]
        lines.append("  ".join([row.ljust(wide), *cells]).rstrip())
    lines += filter(None, [exact_note(report)])
    if "chosen" in report["decisions"]:
        positive, _ = classes_of(report)
        threshold = f"{decisions[0]['threshold']:.3g}"
        lines.append(f"threshold {threshold} for {positive}: {report['threshold_source']}")
    if "note" in report["facts"]:
        lines.append(report["facts"]["note"])
    lines += (f"warning: {sentence}" for sentence in report.get("threshold_warnings", ()))
    return "\n".join([*lines, report["notice"]])


def write_summaries(
    log_dir: Path, *, split: str, predictions: Predictions, threshold: float | None, step: int
) -> None:
    """Writes the report's pictures, headline scalars and PR curves for TensorBoard.

    Args:
        log_dir: A TensorBoard run directory; made if missing. One event file is added.
        split: The first part of every tag: `test/report/auroc`, `test/report/roc`; of other data than the
            run's own with their name before it.
        predictions: The records of the split.
        threshold: As in `write_report`.
        step: The training step of the evaluated weights.
    """
    import tensorflow as tf
    from tensorboard.plugins.pr_curve import metadata

    thresholds = _marked_thresholds(predictions, threshold)
    drawn = _evaluation_figures(predictions, thresholds, {})
    shown = [predictions.positive] if predictions.binary else range(len(predictions.class_names))
    classes = ("the class", "the other classes")
    if predictions.binary:
        classes = (predictions.positive_name, predictions.class_names[1 - predictions.positive])
    writer = tf.summary.create_file_writer(str(log_dir), filename_suffix=".report")
    with writer.as_default(step=step):
        if told := _legend(predictions):
            tf.summary.text(f"{split}/report/classes", told)
        for name, value in point_values(predictions, threshold).items():
            if math.isfinite(value):
                about = meaning(name, *classes)
                tf.summary.scalar(f"{split}/report/{name}", value, description=about)
        for name, figure in drawn.items():
            pixels = tf.io.decode_png(figures.png(figure), channels=3)
            tf.summary.image(f"{split}/report/{Path(name).stem}", pixels[tf.newaxis])
        for index in shown:
            name = f"{split}/{predictions.class_names[index]}"
            about = metadata.create_summary_metadata(name, "", _PR_THRESHOLDS)
            tf.summary.write(f"{name}/pr_curves", _pr_counts(predictions, index), metadata=about)
    writer.close()


def _legend(predictions: Predictions) -> str:
    """Names of the classes that the pictures number."""
    return legend(predictions.class_names, figures.drawn(predictions.class_names))


def resamples_of(predictions: Predictions) -> int:
    """How many resamples the intervals are from: 2,000, or fewer with hundreds of classes."""
    if predictions.binary:
        return RESAMPLES
    cells = len(predictions.labels) * len(predictions.class_names)
    return min(RESAMPLES, max(_FEWEST_RESAMPLES, _CELLS // cells))


def _decision(predictions: Predictions, threshold: float | None, resamples: int, seed: int) -> Report:
    """The estimates and the confusion matrix at one threshold, ready for JSON."""
    found = estimates(predictions, threshold, resamples=resamples, seed=seed)
    return {
        "threshold": threshold,
        "confusion": metrics.confusion(predictions, threshold).tolist(),
        "estimates": {name: _estimate_json(estimate) for name, estimate in found.items()},
    }


def _estimate_json(estimate: Estimate) -> dict[str, float | int | str | None]:
    """JSON has no NaN: undefined is null."""
    values = asdict(estimate)
    return {k: v if isinstance(v, str) or math.isfinite(v) else None for k, v in values.items()}


def _few(class_names: Sequence[str], groups: Sequence[int]) -> str:
    """The classes with few groups, as "COVID 3, NORMAL 8"; "" if there is none, or if nothing is known."""
    few = [f"{name} {n:,}" for name, n in zip(class_names, groups, strict=False) if n < _FEW_OF_A_CLASS]
    more = f" and {len(few) - _NAMED:,} more classes" if len(few) > _NAMED else ""
    return ", ".join(few[:_NAMED]) + more


def _marked_thresholds(predictions: Predictions, threshold: float | None) -> dict[str, float]:
    """The decisions that the figures mark, by what the legend calls them."""
    if not predictions.binary:
        return {}
    chosen = {} if threshold is None else {f"chosen threshold {threshold:.3g}": threshold}
    return {**chosen, "threshold 0.5": 0.5}


def _pictures(report: Report, predictions: Predictions) -> dict[str, bytes]:
    """File name to PNG, of what needs only the predictions."""
    decisions = report["decisions"]
    chosen = decisions["chosen"]["threshold"] if "chosen" in decisions else None
    thresholds = _marked_thresholds(predictions, chosen)
    drawn = _evaluation_figures(predictions, thresholds, decisions["default"]["estimates"])
    return {name: figures.png(figure) for name, figure in drawn.items()}


def _evaluation_figures(
    predictions: Predictions, thresholds: Mapping[str, float], estimates: Mapping[str, Any]
) -> dict[str, Any]:
    """File name to Figure; the estimates, if given, go into the legends."""
    captions = {
        name: f"{name.upper()} {interval_text(estimates[name])}"
        for name in ("auroc", "auprc")
        if name in estimates
    }
    matrices = {
        name.capitalize(): metrics.confusion(predictions, value) for name, value in thresholds.items()
    }
    matrices = matrices or {"Most probable class": metrics.confusion(predictions, None)}
    return {
        "confusion_matrix.png": figures.confusion_matrices(predictions.class_names, matrices),
        "roc.png": figures.roc(predictions, thresholds, captions.get("auroc", "")),
        "precision_recall.png": figures.precision_recall(predictions, thresholds, captions.get("auprc", "")),
        "reliability.png": figures.reliability(predictions, thresholds),
    }


def _mistake_captions(predictions: Predictions, threshold: float | None, n: int) -> list[tuple[str, str]]:
    """What the gallery says of each of the n worst mistakes, and its record id."""
    decided = decide(predictions, threshold)
    names = figures.drawn(predictions.class_names)
    captions = []
    for index in worst_mistakes(predictions, threshold, n):
        true, called = predictions.labels[index], decided[index]
        probability = predictions.probabilities[index, called]
        caption = f"true {names[true]}\npredicted {names[called]} {probability:.2f}"
        record = predictions.ids[index]
        # As a table shows it, below its head.
        captions.append(
            (caption, record if figures.is_drawn(record) else f"row {index + 2} of predictions.csv")
        )
    if len(captions) != n:
        raise ValueError(f"{n} images of mistakes, but {len(captions)} mistakes")
    return captions


def _predictions_csv(predictions: Predictions, threshold: float | None) -> str:
    """One line a record; probabilities in full precision, decided at the chosen threshold."""
    names = predictions.class_names
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["id", "group", "label", "predicted", "correct"]
    writer.writerow([*columns, *(f"probability_{name}" for name in names)])
    for record, group, label, called, row in zip(
        predictions.ids,
        predictions.groups,
        predictions.labels.tolist(),
        decide(predictions, threshold).tolist(),
        predictions.probabilities.tolist(),
        strict=True,
    ):
        writer.writerow([record, group, names[label], names[called], int(label == called), *row])
    return text.getvalue()


def _pr_counts(predictions: Predictions, class_index: int) -> npt.NDArray[np.float32]:
    """What TensorBoard's PR-curve plugin stores: float32 [6, thresholds from 0 to 1].

    The rows are true positives, false positives, true negatives, false negatives, precision and
    recall (tensorboard/plugins/pr_curve/metadata.py).
    """
    truth = predictions.labels == class_index
    scores = predictions.probabilities[:, class_index]
    at = np.linspace(0, 1, _PR_THRESHOLDS)
    found, alarms = (
        side.size - np.searchsorted(np.sort(side), at) for side in (scores[truth], scores[~truth])
    )
    missed, correct = truth.sum() - found, (~truth).sum() - alarms
    precision = found / np.maximum(found + alarms, 1)
    recall = found / max(truth.sum(), 1)
    return np.stack([found, alarms, correct, missed, precision, recall]).astype(np.float32)
