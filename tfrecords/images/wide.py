"""Scales grayscale of more than 8 bits to 8: which value becomes black, which white, which occur."""

import re
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError

FULL: Final = "full"
AUTO: Final = "auto"
LARGEST: Final = 65535  # of 16 bits


@dataclass(frozen=True)
class Extent:
    """The range of the stored values of images of more than 8 bits.

    Attributes:
        low: the smallest value in them.
        high: the largest value in them.
        white: the largest value that the files can hold: 65535, or 4095 for 12 bits.
        images: number of images.
    """

    low: int
    high: int
    white: int
    images: int = 1

    def __or__(self, other: Self | None) -> Self:
        """Returns the range that holds both."""
        if other is None:
            return self
        return type(self)(
            min(self.low, other.low),
            max(self.high, other.high),
            max(self.white, other.white),
            self.images + other.images,
        )

    @property
    def in_use(self) -> str:
        """The value range LOW:HIGH of the bits that are in use, from 0."""
        return f"0:{(1 << max(1, self.high.bit_length())) - 1}"

    @property
    def levels(self) -> int:
        """The number of grey levels, of 256, that remain when the full range is scaled to 8 bits."""
        low, high = (int(_scaled(np.array([end]), 0, self.white)[0]) for end in (self.low, self.high))
        return high - low + 1


def parse_value_range(text: str) -> str:
    """Returns a checked value range: `full`, `auto`, or LOW:HIGH in its shortest form.

    Raises:
        InputError: the text is none of these.
    """
    text = text.strip()
    if text in (FULL, AUTO):
        return text
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or not int(match[1]) < int(match[2]) <= LARGEST:
        raise InputError(
            f"--value_range={text}: must be full, auto, or LOW:HIGH, two whole numbers up to {LARGEST}, the "
            f"smaller first, as 0:4095"
        )
    return f"{int(match[1])}:{int(match[2])}"


def limits(value_range: str) -> tuple[int, int] | None:
    """Returns (LOW, HIGH); None for the full range of each file."""
    if value_range == FULL:
        return None
    low, _, high = value_range.partition(":")
    return int(low), int(high)


def to_grey(
    values: npt.NDArray[np.uint32], white: int, inverted: bool, value_range: str
) -> npt.NDArray[np.uint8]:
    """Returns the values of one image as grey levels: LOW is black, HIGH is white, values beyond are clipped.

    Args:
        values: [H, W].
        white: the largest value that the file can hold.
        inverted: whether 0 is white.
        value_range: "full" or "LOW:HIGH".
    """
    low, high = limits(value_range) or (0, white)
    grey = _scaled(values, low, high)
    return 255 - grey if inverted else grey


def _scaled(values: npt.NDArray[np.integer], low: int, high: int) -> npt.NDArray[np.uint8]:
    """Returns round((value - low) * 255 / (high - low)), halves rounded up."""
    span = high - low
    above = np.clip(values, low, high).astype(np.uint32) - np.uint32(low)
    return ((above * 255 + span // 2) // span).astype(np.uint8)
