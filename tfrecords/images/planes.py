"""An image of any mode to one of L or RGB, before the resize, with what was seen of it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from tfrecords.images.checks import Depth
from tfrecords.images.kinds import DecodeError
from tfrecords.images.wide import FULL, LARGEST, Extent, to_grey

_GREY_MODES: Final = ("1", "L", "LA", "La", "I", "F")  # and I;16, I;16B ...
LOOK, _TINT, _SHARE = 32, 16, 0.01  # whether colour is seen: pixels a side, of 255 levels, share of pixels


@dataclass(frozen=True)
class Target:
    """What images are decoded to.

    Attributes:
        height: pixels.
        width: pixels.
        channels: 1 (grayscale) or 3 (RGB).
        resize: "stretch", "pad" or "crop", see above.
        value_range: what is black and what is white in grayscale of more than 8 bits: "full" for the range
            that the file can hold, or "LOW:HIGH", stored values.
    """

    height: int
    width: int
    channels: int
    resize: str = "stretch"
    value_range: str = FULL


@dataclass
class Plane:
    """An image of mode L or RGB before the resize, and what was seen of it; `size` is (width, height)."""

    image: Image.Image
    size: tuple[int, int]
    extent: Extent | None = None
    coarse: Extent | None = None
    stored_in_colour: bool = False
    shows_colour: bool | None = None

    def head(self) -> bytes:
        """Returns what hashes begin with."""
        return f"{self.image.mode} {self.image.width}x{self.image.height}\n".encode()


def in_mode(image: Image.Image, size: tuple[int, int], target: Target, depth: Depth | None = None) -> Plane:
    """Returns an upright image of any mode as one of L or RGB; `size` is its own (width, height)."""
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
    """Returns between which values the pixels are whose high bytes alone Pillow gives."""
    if value_range != FULL:
        raise DecodeError(
            f"more than 8 bits in more than one channel, of which the high bytes alone can be read, not "
            f"--value_range={value_range}; scale it to 8 bits, or save it as 16-bit grayscale"
        )
    bands = [image.getchannel(band).getextrema() for band in image.getbands() if band not in "Aa"]
    low, high = np.min(bands), np.max(bands)
    return Extent(int(low) << 8, int(high) << 8 | 0xFF, LARGEST)


def shows_colour(image: Image.Image) -> bool:
    """Returns whether an image is not grey: one in a hundred of its pixels has channels that are apart.

    An X-ray saved as RGB is grey but for what JPEG has rounded, which is less than `_TINT`.
    """
    small = image.resize((LOOK, LOOK), Image.Resampling.NEAREST).convert("RGB")
    red, green, blue = (np.asarray(band).astype(np.int16) for band in small.split())
    apart = np.maximum(np.abs(red - green), np.maximum(np.abs(green - blue), np.abs(blue - red)))
    return bool((apart > _TINT).mean() >= _SHARE)
