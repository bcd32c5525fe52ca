"""A stress test as pictures, tables and lines of text; made from the content of report.json."""

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.evaluation.drawing import BLUE, FAINT, GREEN, ORANGE, new_figure, style_panel
from trainer.evaluation.metric_table import title_of
from trainer.evaluation.stress.prevalence import FIGURES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN: Final = {"accuracy": BLUE, "auroc": ORANGE}
_COLUMNS: Final = 4  # panels side by side

_COLOURS: Final = dict(zip(FIGURES, (BLUE, ORANGE, GREEN), strict=True))

Content = Sequence[Mapping[str, Any]]


def stress_figure(content: Content) -> "Figure":
    """Returns a panel for each change: accuracy and AUROC over its levels, with 95% intervals."""
    rows = -(-len(content) // _COLUMNS)
    figure = new_figure(3.1 * _COLUMNS, 2.7 * rows)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in panels[len(content) :]:
        axes.set_visible(False)
    floor = _floor(content)  # one scale for all panels
    for number, (axes, change) in enumerate(zip(panels, content, strict=False)):
        places = np.arange(len(change["levels"]))
        for name, colour in _DRAWN.items():
            low, value, high = (
                np.array([_number(level["estimates"][name][key]) for level in change["levels"]])
                for key in ("low", "value", "high")
            )
            axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(places, value, color=colour, marker="o", markersize=3.5, label=title_of(name))
        at = [level["level"] for level in change["levels"]].index(change["unchanged"])
        axes.axvline(at, color=FAINT, linestyle=":", linewidth=1)
        axes.set_xticks(places, [f"{level['level']:g}" for level in change["levels"]])
        axes.set_ylim(floor, 1.01)
        style_panel(axes, change["change"], change["title"], "", tick_size=8)
        axes.xaxis.label.set_fontsize(8)
        if number == 0:
            axes.legend(loc="lower left", fontsize=8, frameon=False)
    return figure


def _floor(content: Content) -> float:
    """Returns the lower end of the scale: 0.5, or less where a curve falls further."""
    values = [
        _number(level["estimates"][name]["low"])
        for change in content
        for level in change["levels"]
        for name in _DRAWN
    ]
    return float(np.nanmin([0.5, *(value - 0.02 for value in values)]))


def stress_csv(content: Content) -> str:
    """Returns a line for each change, level and metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["change", "level", "changed_classes", "metric", "value", "low", "high"])
    for change in content:
        for level in change["levels"]:
            for name, estimate in level["estimates"].items():
                figures = [estimate[key] for key in ("value", "low", "high")]
                writer.writerow([change["change"], level["level"], level["changed_classes"], name, *figures])
    return text.getvalue()


def stress_lines(content: Content) -> list[str]:
    """Returns the accuracy of each change by level, the lowest named at the end."""
    lines = ["stress test, accuracy by level of each change (* unchanged):"]
    lowest: tuple[float, str] = (float("inf"), "")
    wide = max(len(change["change"]) for change in content)
    for change in content:
        cells = []
        for level in change["levels"]:
            value = level["estimates"]["accuracy"]["value"]
            star = "*" * (level["level"] == change["unchanged"])
            cells.append(f"{level['level']:g}{star} {value:.3f}")
            lowest = min(lowest, (value, f"{change['change']} {level['level']:g}"))
        lines.append(f"  {change['change']:{wide}}  {',  '.join(cells)}")
    return [*lines, f"  lowest: {lowest[0]:.3f} at {lowest[1]}"]


def prevalence_figure(content: Mapping[str, Any]) -> "Figure":
    """Returns a panel: accuracy, PPV and NPV over the prevalence, with 95% intervals."""
    figure = new_figure(7.0, 3.4)
    axes = figure.subplots()
    places = np.array([level["prevalence"] for level in content["levels"]])
    for name, title in FIGURES.items():
        low, value, high = (
            np.array([_number(level[name][key]) for level in content["levels"]])
            for key in ("low", "value", "high")
        )
        axes.fill_between(places, low, high, color=_COLOURS[name], alpha=0.18, linewidth=0)
        axes.plot(places, value, color=_COLOURS[name], marker="o", markersize=3.5, label=title)
    axes.axvline(content["here"], color=FAINT, linestyle=":", linewidth=1)
    axes.set_ylim(0, 1.01)
    style_panel(axes, "Prevalence", "share of the positive class", "")
    axes.legend(loc="lower center", fontsize=9, frameon=False)
    return figure


def prevalence_lines(content: Mapping[str, Any]) -> list[str]:
    """Returns a line for each figure, by prevalence."""
    lines = [f"by prevalence of the positive class (here {content['here']:.2f}):"]
    for name, title in FIGURES.items():
        cells = [f"{level['prevalence']:g} {_text(level[name]['value'])}" for level in content["levels"]]
        lines.append(f"  {title:8}  {',  '.join(cells)}")
    return lines


def elsewhere_lines(content: Mapping[str, Any]) -> list[str]:
    """Returns the interval for images from elsewhere and its assumptions, a line each."""
    if "missing" in content:
        return [f"no interval for images from elsewhere: {content['missing']}"]
    return [
        elsewhere_sentence(content),
        *(f"  {number}. {sentence}" for number, sentence in enumerate(content["assumptions"], 1)),
    ]


def elsewhere_sentence(content: Mapping[str, Any]) -> str:
    """Returns the interval in a sentence."""
    worst = content["worst"]
    return (
        f"accuracy on images from elsewhere: {content['low']:.3f} to {content['high']:.3f} (here "
        f"{content['here']:.3f}), if all of this holds; the lowest, {worst['accuracy']:.3f} before "
        f"uncertainty, with {worst['change']} and a prevalence of {worst['prevalence']:.2f}"
    )


def stress_section(report: Mapping[str, Any]) -> list[str]:
    """Returns HTML, part by part: the interval for images from elsewhere, and the table by prevalence."""
    parts = []
    if found := report.get("elsewhere"):
        parts.append("<h2>Images from elsewhere</h2>")
        if "missing" in found:
            parts.append(f"<p>No interval: {escape(found['missing'])}.</p>")
        else:
            sentence = elsewhere_sentence(found)
            parts.append(f"<p><b>{escape(sentence[0].upper() + sentence[1:])}.</b></p>")
            parts.append(
                "<ol>" + "".join(f"<li>{escape(each)}</li>" for each in found["assumptions"]) + "</ol>"
            )
    if by := report.get("prevalence"):
        head = "".join(f'<th scope="col">{title}</th>' for title in FIGURES.values())
        rows = "".join(
            f'<tr><th scope="row">{level["prevalence"]:g}</th>'
            + "".join(f'<td class="number">{_interval(level[name])}</td>' for name in FIGURES)
            + "</tr>"
            for level in by["levels"]
        )
        parts.append(
            f"<h2>Prevalence</h2><p>The same sensitivity and specificity at another share of the positive "
            f"class; here it is {by['here']:.2f}. PPV: how many of those predicted as the class are of it; "
            f"NPV: how many of the others are not.</p>"
            f'<div class="sheet"><table><thead><tr><th scope="col">Prevalence</th>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
    return parts


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "undefined"
    return f"<b>{estimate['value']:.3f}</b>[{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _number(value: float | None) -> float:
    return np.nan if value is None else value
