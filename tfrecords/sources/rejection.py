"""Unusable images: how many may be left out, and how they are listed."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError

REJECTED: Final = "rejected"  # the split, in sources.csv, of an image that was left out
REJECTED_NAME: Final = "rejected.csv"
SHOWN: Final = 10  # most problems listed in an error


@dataclass(frozen=True)
class MaxRejects:
    """How many images may be left out: a number, or a percentage of all.

    Raises:
        InputError: the number is below 0, or the percentage is not from 0 to 100.
    """

    images: int = 0
    percent: float | None = None

    def __post_init__(self) -> None:
        if self.images < 0:
            raise InputError(f"--max_rejects={self.images}: must be 0 or more")
        if self.percent is not None and not 0 <= self.percent <= 100:  # refuses NaN, too
            raise InputError(f"--max_rejects={self.percent:g}%: must be from 0% to 100%")

    def of(self, total: int) -> int:
        """Returns how many of `total` images may be left out; a percentage is rounded down."""
        return self.images if self.percent is None else math.floor(total * self.percent / 100)

    def __str__(self) -> str:
        return str(self.images) if self.percent is None else f"{self.percent:g}%"


def parse_max_rejects(text: str) -> MaxRejects:
    """Returns the limit from `12` (images) or `0.5%` (of all images)."""
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", text.strip())
    if not match:
        raise InputError(f"--max_rejects={text}: must be a number of images or a percentage, as 12 or 0.5%")
    return MaxRejects(int(match[1])) if match[1] else MaxRejects(percent=float(match[2]))


def render_rejected(rejected: Sequence[tuple[str, str]]) -> bytes:
    """Returns the content of rejected.csv from (id, reason) of each image left out."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "reason"])
    table.writerows(rejected)
    return text.getvalue().encode()


def check_rejects(root: Path, rejected: Sequence[tuple[str, str]], limit: int) -> None:
    """Raises InputError, which names the first ones, if more images were left out than allowed.

    Args:
        root: folder of the images.
        rejected: (path below the root, reason) of each.
        limit: how many may be left out.
    """
    if len(rejected) <= limit:
        return
    fix = (
        "then run the same command again, which keeps complete shards; or leave it out with a larger "
        "--max_rejects; or remove it and convert with --overwrite"
    )
    if len(rejected) == 1:
        path, reason = rejected[0]
        raise InputError(f"{root / path}: {reason}; repair it, {fix}")
    raise InputError(
        f"{root}: {len(rejected)} images cannot be used, --max_rejects allows {limit}:\n"
        f"{shown(rejected)}\n"
        f"For each: repair it, {fix}."
    )


def shown(problems: Sequence[tuple[str, str]]) -> str:
    """Returns a line for each of the first problems, and how many more there are."""
    lines = [f"  {name}: {reason}" for name, reason in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN} more")
    return "\n".join(lines)
