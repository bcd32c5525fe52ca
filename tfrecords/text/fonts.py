"""Finds a font that has all letters of a text: matplotlib's own font, or else an installed one."""

import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

# Scripts whose letters join, stack or run from right to left; they need shaping to be drawn correctly.
_SHAPED = ((0x0590, 0x109F), (0x1780, 0x18AF), (0x1900, 0x1AAF), (0xA800, 0xABFF), (0x10800, 0x11FFF))
_NO_LETTERS = ("lastresort", "last resort", "adobeblank", "adobe blank")  # they draw a box for every letter


def font_of(text: str, *, shapes: bool) -> Path | None:
    """Returns a font file that has all letters of a text; None if none is installed.

    That is matplotlib's DejaVu Sans if it has them, else the first installed font that has, plain fonts
    first, then by name.

    Args:
        text: the text to draw.
        shapes: whether the drawing library can shape letters: join them, and write from right to left. If it
            cannot, there is no font for a text that needs shaping.
    """
    if not shapes and any(needs_shaping(letter) for letter in text):
        return None
    # NFC: a font may have a letter only together with its accent.
    wanted = frozenset(filter(_is_drawn, unicodedata.normalize("NFC", text)))
    return _font_with(wanted)


def has_font(text: str, *, shapes: bool) -> bool:
    """Returns whether `font_of` finds a font; ASCII needs no search, because all fonts have it."""
    return text.isascii() or font_of(text, shapes=shapes) is not None


def own_font() -> Path:
    """Returns the font that comes with matplotlib, so it is always there."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def needs_shaping(letter: str) -> bool:
    """Returns whether a letter changes its form beside others, or is written from right to left."""
    code = ord(letter)
    return runs_right_to_left(letter) or any(low <= code <= high for low, high in _SHAPED)


def runs_right_to_left(letter: str) -> bool:
    """Returns whether a letter belongs to a script that is written from right to left."""
    return unicodedata.bidirectional(letter) in ("R", "AL")


def _is_drawn(letter: str) -> bool:
    """Returns whether a letter is visible: spaces, joiners and variation selectors are not."""
    return not letter.isspace() and unicodedata.category(letter) != "Cf" and not _selects(letter)


def _selects(letter: str) -> bool:
    return 0xFE00 <= ord(letter) <= 0xFE0F


@cache
def _font_with(letters: frozenset[str]) -> Path | None:
    codes = {ord(letter) for letter in letters}
    return next((path for path in (own_font(), *_installed()) if codes <= _letters(path)), None)


@cache
def _installed() -> tuple[Path, ...]:
    """Returns the fonts of this system; matplotlib's own list of them may be out of date."""
    from matplotlib import font_manager

    paths = [Path(name) for name in font_manager.findSystemFonts()]
    return tuple(sorted(paths, key=lambda path: (not _is_plain(path), path.name, str(path))))


def _is_plain(path: Path) -> bool:
    name = path.stem.lower()
    odd = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "serif", "condensed", "medium")
    return not any(word in name.replace("sansserif", "") for word in odd)


@cache
def _letters(path: Path) -> frozenset[int]:
    """Returns the code points of a font; none for a font that cannot be read or scaled."""
    from matplotlib.ft2font import FT2Font

    try:
        font: Any = FT2Font(str(path))
        letters = frozenset(font.get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
    name = f"{path.stem} {font.family_name}".lower()
    return letters if font.scalable and not any(each in name for each in _NO_LETTERS) else frozenset()
