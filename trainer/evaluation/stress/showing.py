"""A stress test as a picture, a table and lines of text; made from the content of report.json."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.evaluation.drawing import BLUE, FAINT, ORANGE, new_figure, style_panel
from trainer.evaluation.metric_table import title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN: Final = {"accuracy": BLUE, "auroc": ORANGE}
_COLUMNS: Final = 4  # panels side by side

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


def _number(value: float | None) -> float:
    return np.nan if value is None else value
