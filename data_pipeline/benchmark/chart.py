"""Draws the benchmark: images/s and CPU time of each stage."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_pipeline.benchmark.stages import LIMIT, StageCost
from data_pipeline.tiers.registry import STREAM_TIER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's
_INK, _GRID = "#1f2430", "#e5e7eb"


def chart(rows: Sequence[StageCost], title: str) -> bytes:
    """Returns a PNG with two bars for each row: images/s (logarithmic) and CPU microseconds an image.

    Args:
        rows: at least one.
        title: text above both panels, not TeX.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)  # inches
    figure = Figure(figsize=(12, 1.6 + 0.42 * len(rows)), layout=layout, facecolor="white")
    figure.suptitle(title, fontsize=11, color=_INK, x=0.01, ha="left").set_parse_math(False)
    left, right = figure.subplots(1, 2, sharey=True)
    names = [f"{row.tier}: {row.stage}" if row.tier else row.stage for row in rows]
    colors = [_color(row) for row in rows]
    _bars(left, names, [row.images_per_second for row in rows], colors, "{:,.0f}")
    _bars(right, names, [row.cpu_us_per_image for row in rows], colors, "{:,.1f}")
    left.set_xscale("log")
    left.set_title("Images/s (logarithmic)", loc="left", fontsize=10, color=_INK)
    right.set_title("CPU microseconds an image", loc="left", fontsize=10, color=_INK)
    low, high = min(row.images_per_second for row in rows), max(row.images_per_second for row in rows)
    left.set_xlim(low / 3, high * 4)  # room for the numbers beside the bars
    right.set_xlim(0, max(row.cpu_us_per_image for row in rows) * 1.2 or 1)
    left.invert_yaxis()  # shared: the first row on top
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _color(row: StageCost) -> str:
    if row.stage == LIMIT:
        return _GREEN
    return _BLUE if row.tier == STREAM_TIER.name else _ORANGE


def _bars(axes: "Axes", names: list[str], values: list[float], colors: list[str], number: str) -> None:
    bars: Any = axes.barh(range(len(names)), values, color=colors, height=0.7)
    axes.bar_label(bars, [number.format(value) for value in values], padding=4, fontsize=9, color=_INK)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(labelsize=9, color=_GRID, labelcolor=_INK)
    axes.grid(visible=True, axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
