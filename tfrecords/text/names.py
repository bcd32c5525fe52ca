"""Fits names into pictures: wraps long ones, and numbers those that cannot be drawn."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

from tfrecords.text.fonts import has_font, runs_right_to_left

WIDTH: Final = 22  # columns of a line
# (most classes, lines that a name may take); more classes leave less room.
_LINES: Final = ((8, 4), (20, 2))
_PIECES: Final = re.compile(r"[^\s_/.,;:\-]*[\s_/.,;:\-]+|[^\s_/.,;:\-]+")  # a line may end after each


def drawn_names(names: Sequence[str], *, shapes: bool) -> list[str]:
    """Returns the text for each class in a picture: its name, or `class N` with its label N.

    The number replaces a name that no font has, and a name that is too long.

    Args:
        names: names of all classes, in the order of their labels.
        shapes: see `fonts.font_of`.
    """
    lines = next((lines for most, lines in _LINES if len(names) <= most), 1)

    def is_drawn(name: str) -> bool:
        return has_font(name, shapes=shapes) and len(wrapped(name, WIDTH)) <= lines

    return [name if is_drawn(name) else f"class {label}" for label, name in enumerate(names)]


def legend(names: Sequence[str], drawn: Sequence[str]) -> str:
    """Returns a sentence with the names of the classes that a picture numbers; "" if it numbers none."""
    entries = [
        f"{short} is {isolated(name)}" for name, short in zip(names, drawn, strict=True) if name != short
    ]
    return f"In the pictures {', '.join(entries)}." if entries else ""


def isolated(name: str) -> str:
    """Returns a name in marks that keep a name written from right to left from moving its neighbours."""
    return f"\u2068{name}\u2069" if any(map(runs_right_to_left, name)) else name


def columns(text: str) -> int:
    """Returns the width of a text in Latin letters; Chinese, Japanese and Korean letters count as two."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def wrapped(text: str, width: float, measure: Callable[[str], float] = columns) -> list[str]:
    """Returns a text in lines no wider than `width`, broken after spaces, `_`, `-`, `/` and the like.

    A word that is wider than a line is broken at the end of the line.

    Args:
        text: the text; its own line breaks count as spaces.
        width: width of a line.
        measure: returns the width of a text.
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
