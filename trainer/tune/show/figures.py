"""The pictures of a search, drawn with matplotlib's object interface: no pyplot, no global state.

Every function returns a `Figure`; `trainer.evaluation.figures.png` makes bytes of it. Names and choices are
drawn as they are, never as TeX.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.evaluation.drawing import BLUE, FAINT, GREEN, GRID, INK, ORANGE, message, new_figure, style_panel
from trainer.tune.show.importance import is_log, is_number
from trainer.tune.show.overview import DONE, FAILED, RUNNING, WAITING, Overview, Parameter, Row, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH: Final = 9.6  # inches
_PAD: Final = 0.08  # inches around each panel
_TICK_SIZE: Final = 8.5  # points
_SLICES_A_ROW: Final = 4
_MOST_CHOICES: Final = 12  # that are named on an axis
_STATES: Final = {DONE: BLUE, FAILED: ORANGE, RUNNING: GREEN, WAITING: "#c3c8d0"}
_UNITS: Final = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def best_so_far(overview: Overview) -> "Figure":
    """Draws the score of each trial in the order in which they ended, and the best up to there as a line.

    Failed ones are marked on the axis. The scores have a logarithmic axis where `is_log` holds.
    """
    ended = sorted(
        (row for row in overview.rows if row.state == FAILED or _score(row) is not None),
        key=lambda row: (math.inf if row.ended is None else row.ended, row.number),
    )
    scored = [(place, score) for place, row in enumerate(ended, 1) if (score := _score(row)) is not None]
    if not scored:
        return message("No trial is done yet.")
    figure = new_figure(_WIDTH, 3.6, pad=_PAD)
    axes = figure.add_subplot()
    style_panel(axes, "Best so far", "Trials that have ended", overview.objective, tick_size=_TICK_SIZE)
    places, scores = (np.array(some) for some in zip(*scored, strict=True))
    best = (np.minimum if overview.direction == "min" else np.maximum).accumulate(scores)
    axes.plot(places, scores, "o", color=BLUE, markersize=5, alpha=0.6, markeredgewidth=0, label="trial")
    steps = np.append(places, max(len(ended), places[-1])), np.append(best, best[-1])
    axes.plot(*steps, color=GREEN, linewidth=2, drawstyle="steps-post", label="best so far")
    failed = [place for place, row in enumerate(ended, 1) if row.state == FAILED]
    if failed:
        floor: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 5}
        axes.plot(failed, [0] * len(failed), "x", color=ORANGE, markersize=7, label="failed", **floor)
    _score_axis(axes, overview)
    axes.set_xlim(0.5, len(ended) + 0.5)
    _whole_numbers(axes)
    _legend(axes)
    return figure


def slices(overview: Overview) -> "Figure":
    """Draws the scores against the values, one panel for each hyperparameter, coloured by trial.

    The best trial has a ring. Each choice has a column, in which trials are spread so that none hides
    another.
    """
    rows = [row for row in overview.rows if _score(row) is not None]
    if not rows or not overview.parameters:
        return message("No trial is done yet." if overview.parameters else "No parameter is searched.")
    columns = min(len(overview.parameters), _SLICES_A_ROW)
    lines = -(-len(overview.parameters) // columns)
    figure = new_figure(max(_WIDTH * columns / _SLICES_A_ROW, 5.0), 2.5 * lines + 0.3, pad=_PAD)
    panels: list[Axes] = []
    for index, parameter in enumerate(overview.parameters):
        sharing = {"sharey": panels[0]} if panels else {}
        axes = figure.add_subplot(lines, columns, index + 1, **sharing)
        panels.append(axes)
        points = _slice(axes, overview, parameter, rows)
        first = index % columns == 0
        style_panel(
            axes, "", _short(parameter.name, 26), overview.objective if first else "", tick_size=_TICK_SIZE
        )
        axes.tick_params(labelleft=first)
    _score_axis(panels[0], overview)
    bar = figure.colorbar(points, ax=panels, label="trial", pad=0.015, aspect=18 * lines, fraction=0.05)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, color=GRID, labelcolor=INK)
    _whole_numbers(bar.ax, y=True)
    return figure


def importance_bars(shares: Mapping[str, float]) -> "Figure":
    """Draws the importance of each parameter, the most important on top.

    Args:
        shares: what `importance` returns.
    """
    from matplotlib.ticker import PercentFormatter

    if not shares:
        return message("No parameter is searched.")
    ranked = sorted(shares.items(), key=lambda item: item[1])
    figure = new_figure(_WIDTH, 0.34 * len(ranked) + 1.0, pad=_PAD)
    axes = figure.add_subplot()
    style_panel(
        axes,
        "Importance",
        "Share of the explained variance that is lost without the parameter",
        "",
        tick_size=_TICK_SIZE,
    )
    values = [value for _, value in ranked]
    bars = axes.barh(range(len(ranked)), values, color=BLUE, height=0.62)
    axes.bar_label(bars, [f"{value:.0%}" for value in values], padding=4, fontsize=9, color=INK)
    axes.set_yticks(range(len(ranked)), [_short(name, 40) for name, _ in ranked], parse_math=False)
    axes.set_xlim(0, max(*values, 0.05) * 1.1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure


def timeline(overview: Overview) -> "Figure":
    """Draws a bar a trial, from its creation to its end, coloured by its state.

    The bar of a trial that has not ended reaches to the last known moment of the search.
    """
    if not overview.rows:
        return message("No trial was created yet.")
    begin = min(row.created for row in overview.rows)
    ends = [row.created + row.seconds if row.ended is None else row.ended for row in overview.rows]
    span = max(max(ends) - begin, 1.0)
    unit, seconds = next((unit, size) for unit, size in _UNITS if span >= 2 * size or size == 1)
    figure = new_figure(_WIDTH, min(1.4 + 0.16 * len(overview.rows), 7.0), pad=_PAD)
    axes = figure.add_subplot()
    style_panel(axes, "Time", f"{unit.capitalize()} since the first trial", "Trial", tick_size=_TICK_SIZE)
    for state, color in _STATES.items():
        rows = [row for row in overview.rows if row.state == state]
        if rows:
            lefts = np.array([row.created - begin for row in rows]) / seconds
            rights = np.array([begin + span if row.ended is None else row.ended for row in rows])
            lengths = np.maximum((rights - begin) / seconds - lefts, 0.003 * span / seconds)
            axes.barh([row.number for row in rows], lengths, 0.72, lefts, color=color, label=state)
    axes.set_ylim(max(row.number for row in overview.rows) + 0.6, -0.6)
    axes.set_xlim(0, 1.02 * span / seconds)
    axes.grid(visible=False, axis="y")
    _whole_numbers(axes, y=True)
    _legend(axes)
    return figure


def _slice(axes: "Axes", overview: Overview, parameter: Parameter, rows: Sequence[Row]) -> Any:
    """Draws the trials in which a parameter is active; returns the points."""
    active = [row for row in rows if parameter.name in row.values]
    values = [row.values[parameter.name] for row in active]
    if parameter.kind in ("choice", "boolean"):
        choices = list(parameter.values) if parameter.kind == "choice" else [False, True]
        choices += [value for value in dict.fromkeys(values) if value not in choices]
        # Multiples of the golden ratio spread evenly, however many there are.
        spread = [0.5 * (row.number * 0.618034 % 1 - 0.5) for row in active]
        xs = [choices.index(value) + shift for value, shift in zip(values, spread, strict=True)]
        _choice_axis(axes, choices)
    else:
        xs = [float(value) for value in values]
        _number_axis(axes, parameter)
    latest = max(row.number for row in overview.rows)
    points = axes.scatter(
        xs,
        [row.score or 0.0 for row in active],
        c=[row.number for row in active],
        cmap="viridis_r",
        vmin=0,
        vmax=max(latest, 1),
        s=20,
        alpha=0.85,
        linewidths=0,
    )
    for x, row in zip(xs, active, strict=True):
        if row.number == overview.best and row.score is not None:
            axes.plot(x, row.score, "o", markersize=10, markerfacecolor="none", color=ORANGE, zorder=5)
    if len(active) < len(rows):
        note = f"active in {len(active)} of {len(rows)}"
        axes.set_title(note, loc="right", fontsize=8.5, color=FAINT)
    return points


def _choice_axis(axes: "Axes", choices: Sequence[Value]) -> None:
    names = [_short(str(choice), 14) for choice in choices]
    long = sum(map(len, names)) > 20
    if len(names) <= _MOST_CHOICES:
        slant: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
        axes.set_xticks(range(len(names)), names, parse_math=False, **slant)
    else:
        axes.set_xticks([])
    axes.set_xlim(-0.6, len(names) - 0.4)


def _number_axis(axes: "Axes", parameter: Parameter) -> None:
    """Makes the axis span the range that is searched."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    low, high = float(parameter.values[0]), float(parameter.values[-1])
    if not parameter.log:
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
        axes.set_xlim(low - margin, high + margin)
        most = 4 if max(map(len, (_plain(low), _plain(high)))) < 6 else 2  # ticks, or their texts overlap
        axes.xaxis.set_major_locator(MaxNLocator(most, integer=parameter.kind == "int", min_n_ticks=1))
        axes.xaxis.set_major_formatter(_plain)
        return
    axes.set_xscale("log")
    margin = (high / low) ** 0.05 if high > low else 1.5
    axes.set_xlim(low / margin, high * margin)
    if high >= 90 * low:
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
    else:
        ends = [low, math.sqrt(low) * math.sqrt(high), high] if high > low else [low]
        whole = parameter.kind == "int"
        ticks = list(dict.fromkeys(round(end) for end in ends)) if whole else ends
        axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _score_axis(axes: "Axes", overview: Overview) -> None:
    scores = [score for row in overview.rows if (score := _score(row)) is not None]
    if is_log(overview.objective, scores):
        axes.set_yscale("log")


def _score(row: Row) -> float | None:
    """Returns the score that is drawn; None: there is none."""
    return row.score if row.state == DONE and is_number(row.score) else None


def _whole_numbers(axes: "Axes", *, y: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

    (axes.yaxis if y else axes.xaxis).set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def _plain(value: float, _: float = 0) -> str:
    return f"{value:.6g}"


def _legend(axes: "Axes") -> None:
    """Puts a legend above the axes, at the right, where it covers nothing."""
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1.0), "borderaxespad": 0.2}
    axes.legend(fontsize=8.5, ncols=4, frameon=False, **place)


def _short(name: str, limit: int) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
