"""Names as pictures show them: wrapped where they are long, numbered where they cannot be drawn."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

from tfrecords.text.fonts import has_font, runs_right_to_left

WIDTH: Final = 22  # columns of a line
# For up to so many classes, lines that a name may take; more leave less room.
_LINES: Final = ((8, 4), (20, 2))
_PIECES: Final = re.compile(r"[^\s_/.,;:\-]*[\s_/.,;:\-]+|[^\s_/.,;:\-]+")  # a line may end behind each


def drawn_names(names: Sequence[str], *, shapes: bool) -> list[str]:
    """Returns what stands for each class in a picture: its name, or `class N`, N being its label.

    The number stands for a name that no font has, and for one that is too long to be read there.

    Args:
        names: of all classes, by label.
        shapes: see `fonts.font_of`.
    """
    lines = next((lines for most, lines in _LINES if len(names) <= most), 1)

    def is_drawn(name: str) -> bool:
        return has_font(name, shapes=shapes) and len(wrapped(name, WIDTH)) <= lines

    return [name if is_drawn(name) else f"class {label}" for label, name in enumerate(names)]


def legend(names: Sequence[str], drawn: Sequence[str]) -> str:
    """Returns a sentence with the names of the classes that a picture numbers; "" if it numbers none."""
    told = [f"{short} is {isolated(name)}" for name, short in zip(names, drawn, strict=True) if name != short]
    return f"In the pictures {', '.join(told)}." if told else ""


def isolated(name: str) -> str:
    """Returns a name that does not turn round the numbers beside it, where it runs from right to left."""
    return f"\u2068{name}\u2069" if any(map(runs_right_to_left, name)) else name


def columns(text: str) -> int:
    """Returns how wide a text is, in letters of Latin: those of Chinese, Japanese and Korean count two."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def wrapped(text: str, width: float, measure: Callable[[str], float] = columns) -> list[str]:
    """Returns a text in lines no wider than `width`, broken behind spaces, `_`, `-`, `/` and the like.

    A word that is wider than a line is broken where the line ends.

    Args:
        text: without its line breaks.
        width: of a line.
        measure: how wide a text is.
    """
    lines, line = [], ""
    for piece in _PIECES.findall(" ".join(text.split())):
        if line and measure((line + piece).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
        while measure(line.rstrip()) > width and len(line) > 1:
            fits = max((end for end in range(1, len(line)) if measure(line[:end]) <= width), default=1)
            lines.append(line[:fits])
            line = line[fits:]
    return [*lines, line.rstrip()]
