"""Converts an image of any mode to L or RGB before the resize, and notes its value range and colour."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from tfrecords.images.checks import Depth
from tfrecords.images.kinds import DecodeError
from tfrecords.images.wide import FULL, LARGEST, Extent, to_grey

_GREY_MODES: Final = ("1", "L", "LA", "La", "I", "F")  # and I;16, I;16B ...
# An image shows colour if the channels of at least this share of its pixels differ by more than this gap.
COLOUR_GRID: Final = 32  # pixels a side: what is looked at of an image
_COLOUR_GAP: Final = 16  # of 255 levels
_COLOUR_SHARE: Final = 0.01


@dataclass(frozen=True)
class Target:
    """The form to which images are decoded.

    Attributes:
        height: pixels.
        width: pixels.
        channels: 1 (grayscale) or 3 (RGB).
        resize: "stretch", "pad" or "crop"; see `resized`.
        value_range: the stored values that become black and white in grayscale of more than 8 bits: "full"
            for the range that the file can hold, or "LOW:HIGH".
    """

    height: int
    width: int
    channels: int
    resize: str = "stretch"
    value_range: str = FULL


@dataclass
class Plane:
    """An image of mode L or RGB before the resize; `size` is (width, height), the rest as in `Decoded`."""

    image: Image.Image
    size: tuple[int, int]
    extent: Extent | None = None
    coarse: Extent | None = None
    stored_in_colour: bool = False
    shows_colour: bool | None = None

    def head(self) -> bytes:
        """Returns the bytes that come first in a hash: mode and size."""
        return f"{self.image.mode} {self.image.width}x{self.image.height}\n".encode()


def to_plane(image: Image.Image, size: tuple[int, int], target: Target, depth: Depth | None = None) -> Plane:
    """Returns an upright image of any mode in mode L or RGB; `size` is its (width, height) in the file."""
    depth = depth or Depth()
    extent = coarse = None
    colour = image.mode not in _GREY_MODES and not image.mode.startswith("I")
    if image.mode.startswith("I"):  # grayscale of 9 to 16 bits
        values = np.asarray(image).astype(np.uint32) >> np.uint32(depth.shift)
        extent = Extent(int(values.min()), int(values.max()), depth.white)
        grey = to_grey(values, depth.white, depth.inverted, target.value_range)
        clear = image.info.get("transparency")
        image = Image.fromarray(grey if clear is None else np.where(values == clear, np.uint8(0), grey))
    elif depth.is_deep:
        coarse = _high_bytes(image, target.value_range)
    if image.mode in ("RGBa", "La"):  # premultiplied
        image = image.convert(image.mode.upper())
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
    mode = "L" if target.channels == 1 else "RGB"
    shows = shows_colour(image) if colour and mode == "L" else None
    return Plane(image if image.mode == mode else image.convert(mode), size, extent, coarse, colour, shows)


def _high_bytes(image: Image.Image, value_range: str) -> Extent:
    """Returns the value range of an image of which Pillow gives only the high bytes."""
    if value_range != FULL:
        raise DecodeError(
            f"has more than 8 bits in more than one channel; only their high bytes are read, so "
            f"--value_range={value_range} cannot be applied; scale it to 8 bits, or save it as 16-bit "
            f"grayscale"
        )
    bands = [image.getchannel(band).getextrema() for band in image.getbands() if band not in "Aa"]
    low, high = np.min(bands), np.max(bands)
    return Extent(int(low) << 8, int(high) << 8 | 0xFF, LARGEST)


def shows_colour(image: Image.Image) -> bool:
    """Returns whether an image is not grey: the channels of one pixel in a hundred differ.

    The channels of an X-ray saved as an RGB JPEG differ too, but only by rounding, less than `_COLOUR_GAP`.
    """
    small = image.resize((COLOUR_GRID, COLOUR_GRID), Image.Resampling.NEAREST).convert("RGB")
    red, green, blue = (np.asarray(band).astype(np.int16) for band in small.split())
    apart = np.maximum(np.abs(red - green), np.maximum(np.abs(green - blue), np.abs(blue - red)))
    return bool((apart > _COLOUR_GAP).mean() >= _COLOUR_SHARE)
