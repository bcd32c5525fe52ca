"""Resizes an image to the target's size, antialiased and bilinear, by one policy for its aspect ratio."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

RESIZES: Final = ("stretch", "pad", "crop")

_GAP: Final = 1.5  # a large JPEG is first reduced by whole factors to no less than this many times the target


def resized(
    plane: Image.Image, size: tuple[int, int], target: tuple[int, int], resize: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Resizes an image.

    Args:
        plane: the image, of mode L or RGB; a large JPEG may be decoded at a reduced size.
        size: (width, height) of the image in its file, pixels.
        target: (width, height) of the result.
        resize: "stretch" scales each side by itself and does not keep the aspect ratio. "pad" fits the whole
            image into the target and fills the rest evenly with black bars. "crop" fills the target and cuts
            off evenly what does not fit.

    Returns:
        uint8 [height, width, channels], and its part without the bars.
    """
    gap = None if plane.size == size else _GAP
    inner, box = target, None
    if resize == "pad":
        inner = _inside(size, target)
    elif resize == "crop":
        box = _cut(plane.size, size, target)
    if plane.size != inner or box is not None:
        plane = plane.resize(inner, Image.Resampling.BILINEAR, box=box, reducing_gap=gap)  # antialiased
    pixels = np.asarray(plane).reshape(inner[1], inner[0], len(plane.getbands()))
    if inner == target:
        return pixels, pixels
    padded = np.zeros((target[1], target[0], pixels.shape[-1]), np.uint8)
    left, top = (target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2
    shown = padded[top : top + inner[1], left : left + inner[0]]
    shown[...] = pixels
    return padded, shown


def _inside(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Returns the largest (width, height) with an image's aspect ratio that fits into a target, rounded."""
    (width, height), (wide, high) = size, target
    if width * high >= height * wide:  # as wide as the target, or wider
        return wide, max(1, (2 * height * wide + width) // (2 * width))
    return max(1, (2 * width * high + height) // (2 * height)), high


def _cut(
    plane: tuple[int, int], size: tuple[int, int], target: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """Returns the largest central part of an image with the target's aspect ratio.

    It is (left, top, right, bottom) in pixels of the plane and fractions of them; None where the whole image
    has that aspect ratio.
    """
    (width, height), (wide, high) = size, target
    if width * high == height * wide:
        return None
    if width * high > height * wide:  # wider than the target
        share = height * wide / (width * high)
        return plane[0] * (1 - share) / 2, 0, plane[0] * (1 + share) / 2, plane[1]
    share = width * high / (height * wide)
    return 0, plane[1] * (1 - share) / 2, plane[0], plane[1] * (1 + share) / 2
