"""How many copies each class needs so that all are about equally frequent."""

import re
from collections.abc import Sequence

from tfrecords.errors import InputError


def parse_copies(text: str) -> tuple[int, bool]:
    """Returns (copies, balance) from `2`, from `balance`, or from `balance:1`.

    With balance, the copies are those of each image of the largest class.

    Raises:
        InputError: the text is none of these.
    """
    match = re.fullmatch(r"(-?\d+)|balance(?::(\d+))?", text.strip())
    if not match:
        raise InputError(
            f"--copies={text}: must be a number, balance (copies that level the classes), or balance:N (N "
            f"copies for the largest class, and more for the others)"
        )
    return (int(match[1]), False) if match[1] else (int(match[2] or 0), True)


def balanced_copies(images: Sequence[int], least: int) -> tuple[int, ...]:
    """Returns the copies of each image of each class that level the classes.

    The largest class gets `least`, and so most * (1 + least) records. Any other gets the number of copies
    that brings it nearest to that: round(most * (1 + least) / images) - 1, halves up, so at least `least`.
    Whole copies level to within a third: a class with two thirds of the images of the largest, or less,
    is the first to get one more.

    Args:
        images: of each class, 1 or more.
        least: copies of each image of the largest class.
    """
    goal = max(images) * (1 + least)
    return tuple((2 * goal + count) // (2 * count) - 1 for count in images)
