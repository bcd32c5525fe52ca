"""What all pictures share: colours, an empty figure, the look of a panel, and text that is drawn as it is.

matplotlib's object interface alone: no pyplot, no global state. The colours are Okabe and Ito's, which
colour-blind readers can tell apart.
"""

from typing import TYPE_CHECKING, Final

from tfrecords.text.fonts import font_of, own_font

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
GREEN: Final = "#009E73"
SKY: Final = "#56B4E9"
INK: Final = "#1f2430"
FAINT: Final = "#6b7280"
GRID: Final = "#e5e7eb"


def new_figure(width: float, height: float, *, pad: float = 0.12) -> "Figure":
    """Returns an empty white figure; width, height and the padding around each panel are in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad)
    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def message(text: str) -> "Figure":
    """Returns a small figure that says why there is nothing to draw."""
    figure = new_figure(6, 1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=FAINT, fontsize=11)
    return figure


def style_panel(axes: "Axes", title: str, x: str, y: str, *, tick_size: float = 9) -> None:
    """Gives a panel its title, the names of its axes, and the look that all panels share.

    Args:
        axes: the panel.
        title: above it, at the left.
        x: below it.
        y: at its left.
        tick_size: of the numbers on the axes, in points.
    """
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.tick_params(labelsize=tick_size, color=GRID, labelcolor=INK, which="both")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    plain_text(axes.xaxis.label, axes.yaxis.label, axes.title)


def plain_text(*texts: "Text") -> None:
    """Draws names as they are: never as TeX, and in a font that has their letters.

    Args:
        texts: of classes, records and parameters; such a name may be `$x_1$`.
    """
    for text in texts:
        text.set_parse_math(False)
        font = None if text.get_text().isascii() else font_of(text.get_text(), shapes=joins_letters())
        if font not in (None, own_font()):
            properties = text.get_fontproperties().copy()
            properties.set_file(str(font))
            text.set_fontproperties(properties)


def joins_letters() -> bool:
    """Returns whether this matplotlib (3.11 or later) joins letters and turns right-to-left text round."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")
