"""Normalizes the names of images, labels, groups and splits, so that what looks equal compares equal."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

# Invisible: soft hyphen, zero-width characters, direction marks, variation selectors, the byte order mark.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
# Joiners change the letters of some scripts, so they are removed only beside ASCII.
_JOINERS: Final = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])")
_SPACES: Final = re.compile("[\\s\u2800\u3164\uffa0]+")

SPLIT_NAMES: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "test": "test",
    "testing": "test",
}

# What programs write for a missing value. "none" and "NA" are not in it, because they may be classes.
NO_VALUES: Final = frozenset(
    ("nan", "<na>", "nat", "#n/a", "#name?", "#ref!", "#value!", "#div/0!", "#num!", "#null!")
)

_NUMBER: Final = re.compile(r"'?(?:=\")?([+-]?)(\d+)(?:[.,](\d*))?(?:[eE]([+-]?\d{1,3}))?\"?")
_THOUSANDS: Final = re.compile(r"[+-]?\d{1,3}(?:([.,' ])\d{3})(?:\1\d{3})*")
_DASHES: Final = re.compile("[\u2010-\u2015\u2212\ufe58\uff0d]")
# What separates words, except a minus sign; between two digits it may separate numbers, so it stays.
_BETWEEN: Final = re.compile(r"(?<=[^\W_])(?<!\d)(?!\s-\d)[\s_.-]+(?=[^\W_])|(?<=\d)[\s_.-]+(?=[^\W\d_])")


def normalized(text: str) -> str:
    """Returns a text without stray spaces and invisible characters, in Unicode's composed form (NFC).

    A run of spaces inside becomes one plain space, because a no-break space looks like any other.
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip(" ")
    text = unicodedata.normalize("NFC", _JOINERS.sub("", _INVISIBLE.sub("", text)))
    return _SPACES.sub(" ", text).strip(" ")


def normalized_path(path: str) -> str:
    """Returns a path with each of its names normalized."""
    if path.isascii() and path.isprintable() and " " not in path:
        return path
    return "/".join(map(normalized, path.split("/")))


def split_named(text: str) -> str | None:
    """Returns the split that a usual name stands for, in any case, or None."""
    return SPLIT_NAMES.get(text.casefold())


def lookalikes(keys: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yields (key, earlier key, how they differ) for normalized keys that probably mean the same.

    Such keys are one number in two forms, as spreadsheets rewrite it (3 and 3.0, 007 and 7, 100000 and
    1E+05), or they differ only in case, width or word separators (No Finding, no_finding).
    """
    numbers: dict[Decimal, str] = {}
    words: dict[str, str] = {}
    rounded: dict[int, dict[Decimal, str]] = {}  # by number of digits: numbers rounded to so many
    long: dict[Decimal, str] = {}
    for key in keys:
        if not (found := _numbers(key)):
            if (earlier := words.setdefault(_loose_key(key), key)) != key:
                yield key, earlier, "case, width, spaces or punctuation"
            continue
        if earlier := next((numbers[number] for number in found if number in numbers), ""):
            yield key, earlier, _SAME_NUMBER
        numbers |= dict.fromkeys(found, key)
        for number in found:
            digits = len(number.as_tuple().digits)
            if "e" in key.casefold():
                rounded.setdefault(digits, {})[number] = key
            elif digits > _WHOLE_IN_A_CELL:
                long[number] = key
    for digits, cut in rounded.items():
        context = Context(prec=digits, rounding=ROUND_HALF_UP)
        for number, key in long.items():
            if (short := cut.get(context.create_decimal(number))) is not None and short != key:
                yield key, short, _SAME_NUMBER


_SAME_NUMBER: Final = "how a number is written, as a spreadsheet rewrites it"
_WHOLE_IN_A_CELL: Final = 11  # digits; a spreadsheet shows longer numbers as 1.23457E+17


def _numbers(key: str) -> list[Decimal]:
    """Returns the numbers that a text may mean: 1,000 may mean one or a thousand."""
    if not key[:1].isnumeric() and key[:1] not in ("+", "-", "'", "="):
        return []
    text = unicodedata.normalize("NFKC", key)
    found = []
    if match := _NUMBER.fullmatch(text):
        sign, whole, part, exponent = match.groups()
        found.append(Decimal(f"{sign}{whole}.{part or 0}E{exponent or 0}").normalize(_EXACT))
    if match := _THOUSANDS.fullmatch(text):
        found.append(Decimal(text.replace(match[1], "")).normalize(_EXACT))
    return found


_EXACT: Final = Context(prec=10_000)


def _loose_key(key: str) -> str:
    if key.isascii() and key.isalnum():
        return key.lower()
    text = key.casefold() if key.isascii() else unicodedata.normalize("NFKC", key).casefold()
    text = text if key.isascii() else _DASHES.sub("-", text)
    return _BETWEEN.sub("", text).strip("\"'`").rstrip(".,;:") or text
