"""The report as one HTML page that needs nothing else: no scripts, no links, pictures inlined."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tfrecords.errors import first_names
from tfrecords.text.names import isolated
from trainer.evaluation.document import document, facts_table
from trainer.evaluation.metric_table import BY_NAME, METRICS, OF_A_CLASS, Metric, meaning_of, title_of
from trainer.served.temperature import in_words

_LONGEST_NAME = 24  # Columns of a class in a table.
_CLASSES_SHOWN = 20  # Classes in the table of the classes; of more the weakest, and all of them on request.
_CSS = """
.cards { grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); }
details > summary { cursor: pointer; margin: 0 0 12px; color: var(--accent); }
.sheet.classes { max-height: 640px; overflow: auto; }
.sheet.classes thead th { position: sticky; top: 0; background: var(--card); z-index: 1; }
.sheet.classes th, .sheet.classes td { padding: 9px 10px; overflow-wrap: normal; }
.sheet.classes td.number { min-width: 140px; }
.sheet.classes tbody th { overflow-wrap: anywhere; min-width: 7em; }
@media print { .sheet.classes { max-height: none; } }
"""
_PLACE_OF_CONTRADICTING = 2  # among the cards: behind AUROC and accuracy
_NARROW = ("roc.png", "precision_recall.png")
_CAPTIONS = {
    "confusion_matrix.png": (
        "Confusion matrix",
        "How many records of each true class (rows) were predicted as which class (columns), and the "
        "share of the row.",
    ),
    "roc.png": (
        "ROC curve",
        "How many more false positives each gain in sensitivity costs, over all thresholds; the marks are "
        "the thresholds of the table.",
    ),
    "precision_recall.png": (
        "Precision-recall curve",
        "Precision at each recall (sensitivity), over all thresholds; chance is the share of the class in "
        "this split.",
    ),
    "reliability.png": (
        "Reliability",
        "Whether predicted probabilities are true: on the diagonal, of the records with probability 0.8, "
        "80% are of the predicted class. Right: how many records have which probability.",
    ),
    "stress.png": (
        "Stress tests",
        "Accuracy and AUROC of the same model on the same images, changed as other machines and files change "
        "them; the dotted line is no change. A curve that falls early names what to vary in training.",
    ),
    "prevalence.png": (
        "Prevalence",
        "Accuracy, PPV and NPV at another share of the positive class, by arithmetic from sensitivity and "
        "specificity at the threshold; the dotted line is the share here.",
    ),
    "training_curves.png": (
        "Training curves",
        "Each metric after each epoch; the dashed line is the epoch whose weights this report is "
        "about. A gap that grows between training and validation shows overfitting.",
    ),
    "mistakes.png": (
        "Worst mistakes",
        "The wrong predictions that gave the true class the lowest probability, worst first, with "
        "their record ids as in predictions.csv.",
    ),
}


def interval_text(estimate: Mapping[str, Any]) -> str:
    """`0.912 [0.889, 0.934]`, a star behind exact ones; `0.912 [-]` without an interval; or `undefined`."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "undefined"
    star = "*" * (estimate.get("method") == "exact")
    return f"{value:.3f} [-]" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]{star}"


def exact_note(report: Mapping[str, Any]) -> str:
    """What the star means; "" if there is none."""
    tables = [*report["decisions"].values(), *report.get("per_class", ())]
    if not any(e.get("method") == "exact" for table in tables for e in table["estimates"].values()):
        return ""
    return (
        "* exact (Clopper-Pearson; AUROC: Newcombe) with groups as the unit, because the bootstrap is too "
        "narrow for few groups, and for groups that agree"
    )


def classes_of(report: Mapping[str, Any]) -> tuple[str, str]:
    """Of two classes the positive and the other one; of more two empty names."""
    names = list(report["classes"])
    if len(names) != 2:
        return "", ""
    positive = report.get("positive") or names[1]  # older versions took the second class
    return positive, names[names[0] == positive]


def class_of(report: Mapping[str, Any], name: str) -> str:
    """The class that a metric of two classes describes, as sensitivity; "" if it describes both."""
    positive, other = classes_of(report)
    return short_name({"positive": positive, "other": other, "both": ""}[BY_NAME[name].of])


def short_name(name: str) -> str:
    """The name of a class as a table shows it: its first letters if it is long."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"


def weakest_classes(rows: Sequence[Mapping[str, Any]], n: int) -> list[Mapping[str, Any]]:
    """The n classes with the lowest F1, lowest first; a class without records counts as the highest."""

    def f1(row: Mapping[str, Any]) -> float:
        value = row["estimates"]["f1"]["value"]
        return 2.0 if value is None else float(value)

    return sorted(rows, key=f1)[:n]


def split_text(report: Mapping[str, Any], kind: str = "") -> str:
    """`test`, or `test of external` where the data are not the run's own."""
    return report["split"] + kind + (f" of {report['data']}" if "data" in report else "")


def render_page(
    report: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    legend: str = "",
    sections: Sequence[str] = (),
) -> str:
    """The HTML page.

    Args:
        report: The content of `report.json` (see `trainer.evaluation.report`).
        pictures: File name, a key of `_CAPTIONS`, to PNG.
        legend: A sentence with the names of the classes that the pictures number.
        sections: HTML of what stands between the tables and the pictures.
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
        *_temperature(report),
        _table(report),
        f'<p class="faint">{escape(_interval_sentence(report))}</p>',
        *(f'<p class="faint">{escape(note)}</p>' for note in _undefined_notes(decisions)),
        *_classes(report),
        *sections,
        "<h2>Pictures</h2>",
        f"<p>{escape(legend)}</p>" if legend else "",
        '<div class="pictures">',
        *(_figure(name, pictures[name]) for name in _CAPTIONS if name in pictures),
        "</div>",
        "<h2>Facts of the run</h2>",
        _facts(report),
    ]
    return document(title, body, css=_CSS)


def _data_lines(report: Mapping[str, Any]) -> str:
    """What was evaluated, and what it is not for."""
    data = report["facts"].get("data", "")
    counts = first_names([f"{count:,} {isolated(name)}" for name, count in report["classes"].items()])
    size = f"{report['records']:,} records of {report['groups']:,} groups: {counts}"
    is_demo = "demo" in data.lower()
    shown = f'<p class="data{" notice" if is_demo else ""}">Data: {escape(data)}</p>'
    notice = f'<p class="notice">{escape(report["notice"])}</p>'
    return f'<p class="faint">{escape(size)}</p>{shown if data else ""}{notice}'


def _warnings(sentences: Sequence[str]) -> list[str]:
    return [f'<p class="notice">{escape(sentence)}</p>' for sentence in sentences]


def _cards(report: Mapping[str, Any]) -> str:
    """The headline numbers, at the chosen threshold where there is one."""
    decision = report["decisions"].get("chosen", report["decisions"]["default"])
    cards = []
    for metric in sorted((m for m in METRICS if m.headline), key=lambda m: m.needs_threshold):
        estimate = decision["estimates"][metric.name]
        cards.append(_card(_label(report, metric), metric, estimate))
    if estimate := report.get("shortcut", {}).get("contradicting", {}).get("accuracy"):
        cards.insert(
            _PLACE_OF_CONTRADICTING,
            _card("Accuracy on images that contradict the shortcut", BY_NAME["accuracy"], estimate),
        )
    return f'<section class="cards">{"".join(cards)}</section>'


def _card(label: str, metric: Metric, estimate: Mapping[str, Any]) -> str:
    number, _, interval = interval_text(estimate).partition(" ")
    return (
        f'<div class="card"><div class="name">{escape(label)}</div>'
        f'<div class="value">{number}</div><div class="range">{_spread(interval)}</div>'
        f"{_bar(metric, estimate)}</div>"
    )


def _spread(interval: str) -> str:
    """The brackets of `interval_text` in words."""
    if interval in ("", "[-]"):
        return "no interval" * bool(interval)
    exact = " (exact*)" * interval.endswith("*")
    return f"95% interval {interval.strip('[]*').replace(', ', ' to ')}{exact}"


def decisions_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the decision at the chosen threshold and that at 0.5, or one if they are the same."""
    found = [report["decisions"][k] for k in ("chosen", "default") if k in report["decisions"]]
    return found[: len({decision["threshold"] for decision in found})]


def _table(report: Mapping[str, Any]) -> str:
    """Every metric by decision; one that needs no threshold spans the columns."""
    decisions = decisions_of(report)
    heads = [
        "most probable class" if d["threshold"] is None else f"threshold {d['threshold']:.3g}"
        for d in decisions
    ]
    if len(decisions) == 2:
        heads[0] += " (chosen)"
    rows = []
    shown = [BY_NAME[name] for name in decisions[0]["estimates"]]
    for metric in sorted(shown, key=lambda metric: not metric.needs_threshold):
        span = 1 if metric.needs_threshold else len(decisions)
        cells = [
            _cell(metric, decision["estimates"][metric.name], span)
            for decision in decisions[: len(decisions) // span]
        ]
        meaning = meaning_of(metric, *map(isolated, classes_of(report)))
        rows.append(
            f'<tr><th scope="row">{escape(_label(report, metric))}<span class="what">{escape(meaning)}</span>'
            f"</th>{''.join(cells)}</tr>"
        )
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="sheet"><table><thead><tr><th scope="col">Metric</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _classes(report: Mapping[str, Any]) -> list[str]:
    """The table of the classes, each against the rest; with many classes the weakest, and all below them."""
    rows = report["per_class"]
    if not rows:
        return []
    about = "".join(
        f"; {metric.title}: {meaning_of(metric, 'the class', 'the other classes')}" for metric in OF_A_CLASS
    )
    title = f"<h2>Classes</h2><p>Each class against the rest{escape(about)}.</p>"
    if len(rows) <= _CLASSES_SHOWN:
        return [title, _class_table(rows)]
    weakest = weakest_classes(rows, _CLASSES_SHOWN)
    return [
        title,
        f"<p>The {len(weakest)} classes with the lowest F1:</p>",
        _class_table(weakest),
        f"<details><summary>All {len(rows):,} classes</summary>{_class_table(rows)}</details>",
    ]


def _class_table(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = ["Class", *(metric.title for metric in OF_A_CLASS), "Records", "Groups"]
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(isolated(row["name"]))}</th>'
        + "".join(_cell(metric, row["estimates"][metric.name]) for metric in OF_A_CLASS)
        + f"<td>{row['records']:,}</td><td>{row['groups']:,}</td></tr>"
        for row in rows
    )
    return (
        f'<div class="sheet classes"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
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


def _temperature(report: Mapping[str, Any]) -> list[str]:
    """What a temperature did to the calibration, if one was asked for."""
    if "temperature" not in report:
        return []
    words = in_words(report["temperature"])
    return [f"<p>{escape(words[0].upper() + words[1:])}.</p>"]


def _threshold_sentence(report: Mapping[str, Any]) -> str:
    """Which thresholds the table shows, and where the chosen one came from."""
    positive = isolated(classes_of(report)[0])
    if report["decisions"]["default"]["threshold"] is None:
        return "For each record its most probable class is predicted; averages are over the classes."
    if "chosen" not in report["decisions"]:
        return f"A record is predicted as {positive} if its probability is at least 0.5."
    chosen = report["decisions"]["chosen"]["threshold"]
    compared = ", or 0.5 for comparison" * (len(decisions_of(report)) > 1)
    return (
        f"A record is predicted as {positive} if its probability is at least the threshold: "
        f"{chosen:.4g} ({report['threshold_source']}){compared}."
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
                    f"{title_of(name)} is undefined in {estimate['undefined']:,} resamples, where a class "
                    "has no records; its interval leaves them out."
                )
    return list(notes.values())


def _label(report: Mapping[str, Any], metric: Metric) -> str:
    """The metric's title, and the class that it describes."""
    macro = len(report["classes"]) > 2 and metric.averaged
    whose = "macro" if macro else class_of(report, metric.name)
    return metric.title + (f" ({whose})" if whose else "")


def _cell(metric: Metric, estimate: Mapping[str, Any], span: int = 1) -> str:
    """A table's cell: the value in bold, its interval, and both as a bar."""
    value, _, interval = interval_text(estimate).partition(" ")
    wide = f' colspan="{span}"' * (span > 1)
    return f'<td class="number"{wide}><b>{value}</b>{interval}{_bar(metric, estimate)}</td>'


def _bar(metric: Metric, estimate: Mapping[str, Any]) -> str:
    """The interval as a bar between the metric's bounds, with a mark at the value; "" without bounds."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if metric.bounds is None or value is None or low is None or high is None:
        return ""
    least, most = metric.bounds
    left, at, right = ((x - least) / (most - least) for x in (low, value, high))
    return (
        f'<span class="bar"><i style="left:{left:.2%};width:{right - left:.2%}"></i>'
        f'<em style="left:{at:.2%}"></em></span>'
    )
