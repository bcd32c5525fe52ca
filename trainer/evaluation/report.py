"""The report of a run on one split: numbers, a table of predictions, pictures and one page.

`report.json` holds every number. The page and the text that a command prints are made from the same content,
so they cannot disagree. Its content, `Report` below:

    split, threshold_source, facts, notice, resamples, seed
    data                             the data set's name, if it is not the run's own
    records, groups, classes         counts; classes is name -> records
    positive                         of two classes the positive one, whose sensitivity it is; else null
    warnings                         sentences that the reader of the figures must know
    threshold_warnings               sentences on the data that the threshold was chosen on
    decisions.default                threshold 0.5 (null with more than two classes: most probable)
    decisions.chosen                 only if a threshold was chosen
        .threshold, .confusion       [K][K], true class by row, predicted class by column
        .estimates.NAME              {value, low, high, undefined, method}; null where undefined;
                                     NAME is one of `metric_table.REPORTED`
    per_class                        [] with two classes; else of each class, in their order
        .name, .records, .groups
        .estimates.NAME              of the class against the rest; NAME is one of `metric_table.OF_A_CLASS`
    threshold_rule                   only if it is another than youden, as --threshold_rule has it
    temperature                      only if one was asked for; see `served.temperature.effect`
    shortcut                         the audit, or why there is none; see `shortcut.cells.cells_of`
    stress                           only if it was asked for; see `stress.testing.to_json`
    prevalence, elsewhere            likewise; see `stress.prevalence` and `stress.elsewhere`
    calibration_error, best_epoch    the epoch whose weights are evaluated, from 1; null if there is none

Reports of older versions lack `per_class` and metrics that were added later; `read_report` brings the rest to
this form.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError, first_names
from tfrecords.text.names import legend
from trainer.evaluation import figures, metrics
from trainer.evaluation.folder import write_folder
from trainer.evaluation.intervals import Estimate, estimates, estimates_of_classes
from trainer.evaluation.metric_table import OF_A_CLASS, title_of
from trainer.evaluation.page import (
    class_of,
    classes_of,
    decisions_of,
    exact_note,
    interval_text,
    render_page,
    short_name,
    split_text,
    weakest_classes,
)
from trainer.evaluation.predictions import Predictions, decide, worst_mistakes
from trainer.evaluation.shortcut.showing import shortcut_lines, shortcut_section
from trainer.evaluation.stress.showing import (
    elsewhere_lines,
    prevalence_figure,
    prevalence_lines,
    stress_csv,
    stress_figure,
    stress_lines,
    stress_section,
)
from trainer.served import temperature

Report = dict[str, Any]

NOTICE = (
    "For research only: this model and its predictions are not a medical device and not for clinical use."
)
RESAMPLES = 2000
_FEWEST_RESAMPLES = 200  # With very many classes, whose every ranking is weighed anew in each resample.
_CELLS = 4 * 10**8  # Resamples x classes x records; with more, fewer resamples: half a minute, not an hour.
_FEW_OF_A_CLASS = 10  # Groups: fewer are warned of, because records of one group are one case.
_NAMED = 5  # Classes in a warning.
_CLASSES_IN_TEXT = 10  # Classes that the text has a line for.


def write_report(
    directory: Path,
    report: Report,
    *,
    predictions: Predictions,
    history: Sequence[Mapping[str, float]],
    mistakes: npt.NDArray[np.uint8] | None = None,
) -> None:
    """Writes `report.html`, `report.json`, `predictions.csv` and the pictures.

    All is rendered before anything is written. A new directory appears with all of them. In one that is
    there, whole files replace those of an earlier report, and `report.json` comes last: a report that cannot
    be rendered leaves the earlier one as it was. The same input gives the same bytes.

    Args:
        directory: Where to write; made if missing.
        report: What `summarise` says of the predictions.
        predictions: The records of the split.
        history: As in `figures.training_curves`.
        mistakes: uint8 [n, H, W, C], the images of `worst_mistakes(predictions, threshold, n)` at the chosen
            threshold, in that order; None writes no gallery.

    Raises:
        InputError: The directory cannot be written.
    """
    threshold = _chosen_threshold(report)
    pictures = _pictures(report, predictions)
    pictures["training_curves.png"] = figures.png(figures.training_curves(history, report["best_epoch"]))
    if mistakes is not None:
        captions = _mistake_captions(predictions, threshold, len(mistakes))
        pictures["mistakes.png"] = figures.png(figures.gallery(mistakes, captions))
    files = {
        "predictions.csv": _predictions_csv(predictions, threshold).encode(),
        **pictures,
        **({"stress.csv": stress_csv(report["stress"]).encode()} if "stress" in report else {}),
        "report.html": _page(report, pictures, predictions).encode(),
        "report.json": json.dumps(report, indent=2, allow_nan=False).encode() + b"\n",
    }
    write_folder(directory, files)


def read_report(directory: Path) -> Report:
    """The content of a report directory's `report.json`, in the form of this version.

    Raises:
        InputError: There is none, or it is damaged.
    """
    path = directory / "report.json"
    try:
        report: Report = json.loads(path.read_text(encoding="utf-8"))
        if note := report["facts"].pop("note", ""):  # an older version kept one warning there
            report["warnings"] = [note, *report.get("warnings", ())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read {path}: {error}. Write it with python -m trainer.evaluate --run_dir=DIR"
        ) from error
    return report


def summarise(
    *,
    split: str,
    predictions: Predictions,
    threshold: float | None,
    threshold_source: str,
    facts: Mapping[str, str],
    best_epoch: int | None = None,
    data: str = "",
    seed: int = 0,
    threshold_groups: Sequence[int] = (),
    warnings: Sequence[str] = (),
) -> Report:
    """Every number of the report, ready for JSON.

    Args:
        split: The split's name.
        predictions: The records of the split.
        threshold: The threshold chosen on validation; None for 0.5 alone, and with more than two classes.
        threshold_source: Where it came from: "chosen on validation (1,044 records)".
        facts: Run configuration, data, precision, versions. `facts["data"]` is shown on top.
        best_epoch: The epoch whose weights were kept; None if it is not known, or the model has no epochs.
        data: Name of the data set, if it is not the run's own.
        seed: Of the bootstrap.
        threshold_groups: Groups with records of each class among those that the threshold was chosen on;
            () if this is not known, or none was chosen.
        warnings: Sentences that the reader of the figures must know.

    Raises:
        InputError: The threshold is none (see `decide`).
    """
    resamples = resamples_of(predictions)
    default, per_class = _default_decision(predictions, resamples, seed)
    decisions = {"default": default}
    if threshold is not None:
        at_threshold = estimates(predictions, threshold, resamples=resamples, seed=seed)
        decisions["chosen"] = _decision(predictions, threshold, at_threshold)
    labels = Counter(predictions.labels.tolist())
    names = predictions.class_names
    few, few_chosen_on = _few(names, predictions.groups_of_classes()), _few(names, threshold_groups)
    warnings, threshold_warnings = list(warnings), []
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
        "per_class": per_class,
        "threshold_source": threshold_source,
        "calibration_error": metrics.reliability_curve(predictions).error,
        "best_epoch": best_epoch,
        "resamples": resamples,
        "seed": seed,
        "facts": dict(facts),
        "notice": NOTICE,
        **({"data": data} if data else {}),
    }


def render_text(report: Report) -> str:
    """The plain-text table that a command prints at its end."""
    classes = first_names([f"{name} {count:,}" for name, count in report["classes"].items()])
    decisions = decisions_of(report)
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
    lines += _class_lines(report)
    lines += filter(None, [exact_note(report)])
    lines += shortcut_lines(report["shortcut"]) if "shortcut" in report else []
    lines += stress_lines(report["stress"]) if "stress" in report else []
    lines += prevalence_lines(report["prevalence"]) if report.get("prevalence") else []
    lines += elsewhere_lines(report["elsewhere"]) if "elsewhere" in report else []
    if "chosen" in report["decisions"]:
        positive, _ = classes_of(report)
        threshold = f"{decisions[0]['threshold']:.3g}"
        lines.append(f"threshold {threshold} for {positive}: {report['threshold_source']}")
    lines += (f"warning: {sentence}" for sentence in report.get("threshold_warnings", ()))
    lines += [temperature.in_words(report[name]) for name in ("temperature",) if name in report]
    return "\n".join([*lines, report["notice"]])


def _page(report: Report, pictures: Mapping[str, bytes], predictions: Predictions) -> str:
    sections = shortcut_section(report["shortcut"]) if "shortcut" in report else []
    sections += stress_section(report)
    return render_page(report, pictures, legend_of(predictions), sections)


def _class_lines(report: Report) -> list[str]:
    """The table of the classes: a line each, or with many classes the weakest alone."""
    rows = report.get("per_class", ())  # none in a report of an older version
    if not rows:
        return []
    shown = rows if len(rows) <= _CLASSES_IN_TEXT else weakest_classes(rows, _NAMED)
    labels = [short_name(row["name"]) for row in shown]
    wide = max(18, *map(len, labels))
    what = "each class" if shown is rows else f"the {len(shown)} classes of {len(rows):,} with the lowest F1"
    heads = [title_of(metric.name).ljust(22) for metric in OF_A_CLASS]
    lines = [f"{what} against the rest:", "  ".join(["".ljust(wide), *heads, "records"])]
    for label, row in zip(labels, shown, strict=True):
        cells = [interval_text(row["estimates"][metric.name]).ljust(22) for metric in OF_A_CLASS]
        lines.append("  ".join([label.ljust(wide), *cells, f"{row['records']:,}"]))
    return lines


def legend_of(predictions: Predictions) -> str:
    """A sentence with the names of the classes that the pictures number; "" if they number none."""
    return legend(predictions.class_names, figures.drawn(predictions.class_names))


def resamples_of(predictions: Predictions) -> int:
    """How many resamples the intervals are from: 2,000, or fewer with hundreds of classes."""
    if predictions.binary:
        return RESAMPLES
    cells = len(predictions.labels) * len(predictions.class_names)
    return min(RESAMPLES, max(_FEWEST_RESAMPLES, _CELLS // cells))


def _default_decision(predictions: Predictions, resamples: int, seed: int) -> tuple[Report, list[Report]]:
    """The decision without a chosen threshold, and with more than two classes the table of the classes."""
    if predictions.binary:
        return _decision(predictions, 0.5, estimates(predictions, 0.5, resamples=resamples, seed=seed)), []
    whole, of_classes = estimates_of_classes(predictions, None, resamples=resamples, seed=seed)
    records = np.bincount(predictions.labels, minlength=len(predictions.class_names)).tolist()
    counts = zip(predictions.class_names, records, predictions.groups_of_classes(), of_classes, strict=True)
    return _decision(predictions, None, whole), [
        {"name": name, "records": records, "groups": groups, "estimates": _estimates_json(each)}
        for name, records, groups, each in counts
    ]


def _decision(predictions: Predictions, threshold: float | None, measured: Mapping[str, Estimate]) -> Report:
    """The estimates and the confusion matrix at one threshold, ready for JSON."""
    return {
        "threshold": threshold,
        "confusion": metrics.confusion(predictions, threshold).tolist(),
        "estimates": _estimates_json(measured),
    }


def _estimates_json(measured: Mapping[str, Estimate]) -> Report:
    return {name: estimate.to_json() for name, estimate in measured.items()}


def _few(class_names: Sequence[str], groups: Sequence[int]) -> str:
    """The classes with few groups, as "COVID 3, NORMAL 8"; "" if there is none, or if nothing is known."""
    few = [f"{name} {n:,}" for name, n in zip(class_names, groups, strict=False) if n < _FEW_OF_A_CLASS]
    more = f" and {len(few) - _NAMED:,} more classes" if len(few) > _NAMED else ""
    return ", ".join(few[:_NAMED]) + more


def _chosen_threshold(report: Report) -> float | None:
    """The threshold that was chosen; None if there is none."""
    return report["decisions"]["chosen"]["threshold"] if "chosen" in report["decisions"] else None


def marked_thresholds(predictions: Predictions, threshold: float | None) -> dict[str, float]:
    """The decisions that the figures mark, by what the legend calls them."""
    if not predictions.binary:
        return {}
    chosen = {} if threshold in (None, 0.5) else {f"chosen threshold {threshold:.3g}": threshold}
    return {**chosen, "threshold 0.5": 0.5}


def _pictures(report: Report, predictions: Predictions) -> dict[str, bytes]:
    """File name to PNG, of what needs only the predictions."""
    thresholds = marked_thresholds(predictions, _chosen_threshold(report))
    drawn = evaluation_figures(predictions, thresholds, report["decisions"]["default"]["estimates"])
    if "stress" in report:
        drawn["stress.png"] = stress_figure(report["stress"])
    if report.get("prevalence"):
        drawn["prevalence.png"] = prevalence_figure(report["prevalence"])
    return {name: figures.png(figure) for name, figure in drawn.items()}


def evaluation_figures(
    predictions: Predictions, thresholds: Mapping[str, float], estimates: Mapping[str, Any]
) -> dict[str, Any]:
    """File name to Figure; the estimates, if given, go into the legends."""
    captions = {name: f"{title_of(name)} {interval_text(estimate)}" for name, estimate in estimates.items()}
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
        true, predicted = predictions.labels[index], decided[index]
        probability = predictions.probabilities[index, predicted]
        caption = f"true {names[true]}\npredicted {names[predicted]} {probability:.2f}"
        record = predictions.ids[index]
        # The row of the table, below its head.
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
    for record, group, label, predicted, row in zip(
        predictions.ids,
        predictions.groups,
        predictions.labels.tolist(),
        decide(predictions, threshold).tolist(),
        predictions.probabilities.tolist(),
        strict=True,
    ):
        writer.writerow([record, group, names[label], names[predicted], int(label == predicted), *row])
    return text.getvalue()
