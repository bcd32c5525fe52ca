"""The report as one HTML page that needs nothing else: no scripts, no links, pictures inlined."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tfrecords.errors import first_names
from tfrecords.text.names import isolated
from trainer.evaluation.document import document, facts_table

_HEADLINES = ("auroc", "accuracy", "sensitivity", "specificity")
_WITHOUT_THRESHOLD = ("auroc", "auprc", "loss", "brier")
_UNBOUNDED = ("loss", "brier")
_NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "f1": "F1",
    "balanced_accuracy": "Balanced accuracy",
    "loss": "Cross-entropy loss",
    "brier": "Brier score",
}
_MEANING = {
    "accuracy": "share of records called right",
    "auroc": "chance that a record of {positive} scores above any other",
    "auprc": "average precision over all thresholds",
    "sensitivity": "share of the records of {positive} that are found",
    "specificity": "share of the records of {other} that are left alone",
    "precision": "share of the calls of {positive} that are right",
    "f1": "harmonic mean of precision and sensitivity",
    "balanced_accuracy": "mean over the classes of the share called right",
    "loss": "in nats; 0 is perfect",
    "brier": "squared error of the probabilities; 0 is perfect",
}
_OF_THE_POSITIVE = ("sensitivity", "precision", "f1", "auprc")
_LONGEST_NAME = 24  # of a class, in a table
_NARROW = ("roc.png", "precision_recall.png")
_CAPTIONS = {
    "confusion_matrix.png": (
        "Confusion matrix",
        "How many records of each true class (rows) were called which class (columns), and the "
        "share of the row.",
    ),
    "roc.png": (
        "ROC curve",
        "What each gain in sensitivity costs in false alarms, over all thresholds; the marks are "
        "the thresholds of the table.",
    ),
    "precision_recall.png": (
        "Precision-recall curve",
        "How much of what is called is right, as more of what there is gets found; chance is the "
        "share of the class in this split.",
    ),
    "reliability.png": (
        "Reliability",
        "Whether probabilities mean what they say: on the diagonal, of the records given 0.8, "
        "80% come true. Right: how many records got which probability.",
    ),
    "training_curves.png": (
        "Training curves",
        "Each metric after each epoch; the dashed line is the epoch whose weights this report is "
        "about. Lines that part show overfitting.",
    ),
    "mistakes.png": (
        "Worst mistakes",
        "The wrong answers that gave the true class the least probability, worst first, with "
        "their record ids as in predictions.csv.",
    ),
}


def interval_text(estimate: Mapping[str, Any]) -> str:
    """`0.912 [0.889, 0.934]`, a star behind what is exact; `0.912 [-]` without interval; or `undefined`."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "undefined"
    star = "*" * (estimate.get("method") == "exact")
    return f"{value:.3f} [-]" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]{star}"


def exact_note(report: Mapping[str, Any]) -> str:
    """What the star says; "" if there is none."""
    decisions = report["decisions"].values()
    if not any(e.get("method") == "exact" for d in decisions for e in d["estimates"].values()):
        return ""
    return (
        "* exact (Clopper-Pearson; AUROC: Newcombe) with groups as the unit: the bootstrap of few groups, or "
        "of groups that agree, is too narrow"
    )


def classes_of(report: Mapping[str, Any]) -> tuple[str, str]:
    """Of two classes the positive and the other one; of more two empty names."""
    names = list(report["classes"])
    if len(names) != 2:
        return "", ""
    positive = report.get("positive") or names[1]  # the second, in reports of before
    return positive, names[names[0] == positive]


def class_of(report: Mapping[str, Any], name: str) -> str:
    """The class that a metric is of, as sensitivity; "" if it is of all."""
    positive, other = classes_of(report)
    shown = {"specificity": other, **dict.fromkeys(_OF_THE_POSITIVE, positive)}.get(name, "")
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"


def split_text(report: Mapping[str, Any], kind: str = "") -> str:
    """`test`, or `test of external` where the data are not the run's own."""
    return report["split"] + kind + (f" of {report['data']}" if "data" in report else "")


def render_page(report: Mapping[str, Any], pictures: Mapping[str, bytes], legend: str = "") -> str:
    """The HTML page.

    Args:
        report: The content of `report.json` (see `trainer.evaluation.report`).
        pictures: File name, a key of `_CAPTIONS`, to PNG.
        legend: A sentence with the names of the classes that the pictures number.
    """
    decisions = report["decisions"]
    title = f"Evaluation on the {split_text(report, ' split')}"
    body = [
        '<header><div class="over">Evaluation report</div>',
        f"<h1>{escape(title)}</h1>",
        _data_lines(report),
        "</header>",
        _cards(report),
        *_warnings(report.get("warnings", ())),
        "<h2>Results</h2>",
        f"<p>{escape(_threshold_sentence(report))}</p>",
        *_warnings(report.get("threshold_warnings", ())),
        _table(report),
        f'<p class="faint">{escape(_interval_sentence(report))}</p>',
        *(f'<p class="faint">{escape(note)}</p>' for note in _undefined_notes(decisions)),
        "<h2>Pictures</h2>",
        f"<p>{escape(legend)}</p>" if legend else "",
        '<div class="pictures">',
        *(_figure(name, pictures[name]) for name in _CAPTIONS if name in pictures),
        "</div>",
        "<h2>Facts of the run</h2>",
        _facts(report),
    ]
    return document(title, body)


def _data_lines(report: Mapping[str, Any]) -> str:
    """What was evaluated, and what it is not for."""
    data = report["facts"].get("data", "")
    counts = first_names([f"{count:,} {isolated(name)}" for name, count in report["classes"].items()])
    size = f"{report['records']:,} records of {report['groups']:,} groups: {counts}"
    is_demo = "demo" in data.lower()
    shown = f'<p class="data{" notice" if is_demo else ""}">Data: {escape(data)}</p>'
    notes = [report["facts"]["note"]] if "note" in report["facts"] else []
    return f'<p class="faint">{escape(size)}</p>{shown if data else ""}' + "".join(
        f'<p class="notice">{escape(note)}</p>' for note in (*notes, report["notice"])
    )


def _warnings(sentences: Sequence[str]) -> list[str]:
    return [f'<p class="notice">{escape(sentence)}</p>' for sentence in sentences]


def _cards(report: Mapping[str, Any]) -> str:
    """The four headline numbers, at the chosen threshold where there is one."""
    decision = report["decisions"].get("chosen", report["decisions"]["default"])
    cards = []
    for name in _HEADLINES:
        number, _, interval = interval_text(decision["estimates"][name]).partition(" ")
        spread = _spread(interval)
        cards.append(
            f'<div class="card"><div class="name">{escape(_label(report, name))}</div>'
            f'<div class="value">{number}</div><div class="range">{spread}</div>'
            f"{_bar(decision['estimates'][name])}</div>"
        )
    return f'<section class="cards">{"".join(cards)}</section>'


def _spread(interval: str) -> str:
    """The brackets of `interval_text` in words."""
    if interval in ("", "[-]"):
        return "no interval" * bool(interval)
    exact = " (exact*)" * interval.endswith("*")
    return f"95% interval {interval.strip('[]*').replace(', ', ' to ')}{exact}"


def _table(report: Mapping[str, Any]) -> str:
    """Every metric by decision; what depends on no threshold spans the columns."""
    decisions = [report["decisions"][k] for k in ("chosen", "default") if k in report["decisions"]]
    heads = [
        "most probable class" if d["threshold"] is None else f"threshold {d['threshold']:.3g}"
        for d in decisions
    ]
    if len(decisions) == 2:
        heads[0] += " (chosen)"
    names = list(decisions[0]["estimates"])
    rows = []
    for name in sorted(names, key=lambda n: n in _WITHOUT_THRESHOLD):
        span = len(decisions) if name in _WITHOUT_THRESHOLD else 1
        cells = [
            f'<td class="number" colspan="{span}">{_number(decision["estimates"][name])}'
            f"{'' if name in _UNBOUNDED else _bar(decision['estimates'][name])}</td>"
            for decision in decisions[: len(decisions) // span]
        ]
        meaning = escape(_meaning(report, name))
        rows.append(
            f'<tr><th scope="row">{escape(_label(report, name))}<span class="what">{meaning}</span></th>'
            f"{''.join(cells)}</tr>"
        )
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="sheet"><table><thead><tr><th scope="col">Metric</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _facts(report: Mapping[str, Any]) -> str:
    """The run's facts, and what it takes to redo the intervals."""
    facts = dict(report["facts"])
    if report["best_epoch"] is not None:
        facts["best epoch"] = str(report["best_epoch"])
    facts["expected calibration error"] = f"{report['calibration_error']:.4f}"
    facts["bootstrap"] = f"{report['resamples']:,} resamples of groups, seed {report['seed']}"
    return facts_table(facts)


def _figure(name: str, png: bytes) -> str:
    """One picture with its caption. Charts follow the dark mode; photographs must not."""
    title, sentence = _CAPTIONS[name]
    kinds = ["wide"] * (name not in _NARROW) + ["chart"] * (name != "mistakes.png")
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure class="{" ".join(kinds)}"><img alt="{title}" src="data:image/png;base64,{data}">'
        f"<figcaption><b>{title}.</b> {sentence}</figcaption></figure>"
    )


def _threshold_sentence(report: Mapping[str, Any]) -> str:
    """Which thresholds the table shows, and where the chosen one came from."""
    positive = isolated(classes_of(report)[0])
    if report["decisions"]["default"]["threshold"] is None:
        return "Each record is called its most probable class; averages are over the classes."
    if "chosen" not in report["decisions"]:
        return f"A record is called {positive} where its probability is at least 0.5."
    chosen = report["decisions"]["chosen"]["threshold"]
    return (
        f"A record is called {positive} where its probability is at least the threshold: "
        f"{chosen:.4g} ({report['threshold_source']}), or 0.5 for comparison."
    )


def _interval_sentence(report: Mapping[str, Any]) -> str:
    """What the brackets are."""
    note = exact_note(report)
    return (
        f"In brackets: 95% intervals from {report['resamples']:,} bootstrap resamples of the "
        f"{report['groups']:,} groups, because records of one group are not independent."
        + f" {note}."
        * bool(note)
    )


def _undefined_notes(decisions: Mapping[str, Any]) -> list[str]:
    """Says which intervals leave out more than 1% of the resamples."""
    notes = {}
    for decision in decisions.values():
        for name, estimate in decision["estimates"].items():
            if estimate["undefined"] > 20:
                notes[name] = (
                    f"{_NAMES.get(name, name.capitalize())} was undefined in "
                    f"{estimate['undefined']:,} resamples, for want of a class; its interval "
                    "leaves them out."
                )
    return list(notes.values())


def _label(report: Mapping[str, Any], name: str) -> str:
    """The metric's name for people."""
    macro = len(report["classes"]) > 2 and name not in (
        "accuracy",
        "balanced_accuracy",
        "loss",
        "brier",
    )
    whose = "macro" if macro else class_of(report, name)
    return _NAMES.get(name, name.capitalize()) + (f" ({whose})" if whose else "")


def _meaning(report: Mapping[str, Any], name: str) -> str:
    """What the metric says, with the positive class's name."""
    positive, other = classes_of(report)
    return meaning(
        name,
        isolated(positive) if positive else "the class",
        isolated(other) if other else "the other classes",
    )


def meaning(name: str, positive: str, other: str) -> str:
    """What a metric says, with the names of the classes."""
    return _MEANING[name].replace("{positive}", positive).replace("{other}", other)


def _number(estimate: Mapping[str, Any]) -> str:
    """The value in bold, and its interval."""
    value, _, interval = interval_text(estimate).partition(" ")
    return f"<b>{value}</b>{interval}"


def _bar(estimate: Mapping[str, Any]) -> str:
    """The interval as a bar from 0 to 1, with a mark at the value."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None or low is None or high is None:
        return ""
    return (
        f'<span class="bar"><i style="left:{low:.2%};width:{high - low:.2%}"></i>'
        f'<em style="left:{value:.2%}"></em></span>'
    )
