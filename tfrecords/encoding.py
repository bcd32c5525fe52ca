"""Encodes the pixels of an image for its record."""

import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

JPEG_QUALITY: Final = 95


def encode_image(pixels: npt.NDArray[np.uint8], encoding: str) -> bytes:
    """Returns uint8 [H, W, C] as raw bytes in C order, or as a PNG or JPEG file."""
    if encoding == "raw":
        return pixels.tobytes()
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, format=encoding.upper(), quality=JPEG_QUALITY)
    return buffer.getvalue()
