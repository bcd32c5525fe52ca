"""The order of the classes: a label is an index into it."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from shlex import quote
from typing import Any, Final

from tfrecords.errors import InputError, first_names
from tfrecords.sources.keys import normalized

_SHOWN: Final = 10  # names in a flag
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_PIECES: Final = re.compile(r"[0-9]+|.", re.DOTALL)


def class_order(names: Iterable[str], given: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the class names in the order of their labels.

    Without a given order, names sort as text, but numbers in them sort by value: 2 before 10, `class2` before
    `class10`. If all names are numbers, they sort by value, -1 and 0.5 too.

    Args:
        names: the classes of the images, in any order.
        given: the order of `--classes`, () for none. Spaces around a name and Unicode forms do not matter.

    Raises:
        InputError: the given order does not name each class exactly once.
    """
    there = set(names)
    if given:
        return _checked(there, tuple(map(normalized, given)))
    numbers = bool(there) and all(_NUMBER.fullmatch(name) for name in there)
    return tuple(sorted(there, key=_by_value if numbers else _natural))


def classes_flag(names: Sequence[str]) -> str:
    """Returns the flag that fixes an order, as typed in a shell; only its first ten names."""
    cells = [f'"{name}"' if "," in name else name for name in names[:_SHOWN]]
    return quote(f"--classes={','.join(cells + ['...'] * (len(names) > _SHOWN))}")


def _checked(there: set[str], given: tuple[str, ...]) -> tuple[str, ...]:
    twice = [name for number, name in enumerate(given) if name in given[:number]]
    missing = class_order(there - set(given))
    unknown = [name for name in given if name not in there]
    if twice or missing or unknown:
        wrong = [
            f"{what}: {first_names(found)}"
            for what, found in (("not named", missing), ("not there", unknown), ("named twice", twice))
            if found
        ]
        raise InputError(
            f"--classes: must name each of the {len(there)} classes once, in the order of their labels; "
            f"{'; '.join(wrong)} (there are {first_names(class_order(there))})"
        )
    return given


def _by_value(name: str) -> tuple[Any, ...]:
    return Decimal(name), name


def _natural(name: str) -> tuple[Any, ...]:
    """Returns a sort key: as text, except that two numbers at the same place compare by value."""
    pieces = []
    for piece in _PIECES.findall(name):
        if piece[0] in "0123456789":
            digits = piece.lstrip("0")
            pieces.append((ord("0"), len(digits), digits))
        else:
            pieces.append((ord(piece), 0, ""))
    return pieces, name
