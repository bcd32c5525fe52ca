"""The number of copies that each class needs so that all classes are about equally frequent."""

import re
from collections.abc import Sequence

from tfrecords.errors import InputError


def parse_copies(text: str) -> tuple[int, bool]:
    """Returns (copies, balance) from `2`, from `balance`, or from `balance:1`.

    With balance, the number is that of the largest class.

    Raises:
        InputError: the text has none of these forms.
    """
    match = re.fullmatch(r"(-?\d+)|balance(?::(\d+))?", text.strip())
    if not match:
        raise InputError(
            f"--copies={text}: must be a number, balance (more copies for smaller classes), or balance:N (N "
            f"copies for the largest class, more for the others)"
        )
    return (int(match[1]), False) if match[1] else (int(match[2] or 0), True)


def balanced_copies(images: Sequence[int], least: int) -> tuple[int, ...]:
    """Returns, for each class, the copies of each image that make the classes about equally frequent.

    The largest class gets `least` copies, so it has most * (1 + least) records. Every other class gets the
    number that brings it closest to that: round(most * (1 + least) / images) - 1, halves rounded up. Because
    copies are whole numbers, a class differs from the largest by up to a third: only a class with at most two
    thirds of the largest's images gets one copy more.

    Args:
        images: how many images each class has, 1 or more.
        least: copies of each image of the largest class.
    """
    goal = max(images) * (1 + least)
    return tuple((2 * goal + count) // (2 * count) - 1 for count in images)
