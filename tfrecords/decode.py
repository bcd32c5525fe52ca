"""Bytes of an image file to uint8 [H, W, C], by one explicit policy for each kind of image.

| image                  | policy                                                                 |
|------------------------|------------------------------------------------------------------------|
| kind                   | JPEG, PNG or BMP by content; the file's extension does not matter       |
| grayscale from colour  | a JPEG's own luma plane; else ITU-R 601-2 luma                          |
| RGB from grayscale     | the plane three times                                                   |
| 16-bit grayscale       | scaled to 8 bits: round(value * 255 / 65535)                            |
| 16 bits, more channels | the high byte of each, by Pillow                                        |
| palette, 1 bit, CMYK   | expanded by Pillow                                                      |
| alpha                  | laid over black                                                         |
| EXIF orientation       | applied                                                                 |
| animation              | refused: which frame is meant is not known                              |
| more than `MAX_PIXELS` | refused from the header, before anything is decoded                     |

Then one antialiased bilinear resize to the target size; the aspect ratio is not kept.
"""

import io
import struct
import warnings
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

MAX_PIXELS: Final = 89_478_485  # Pillow's own limit: a quarter of a gigabyte of RGB

_SIGNATURES: Final = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP"}
_OTHER_SIGNATURES: Final = {  # known, to say what it is; not read
    b"GIF8": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"RIFF": "WebP",
    b"%PDF": "PDF",
    b"PK\x03\x04": "ZIP",
}
_PILLOW_ERRORS: Final = (
    OSError,  # UnidentifiedImageError and truncated files among them
    SyntaxError,  # what Pillow raises for broken PNG chunks
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class DecodeError(Exception):
    """An image that cannot be used; the message is the reason, without the path."""


def check_kind(head: bytes) -> None:
    """Raises DecodeError unless a file that starts with `head` (16 bytes do) is a JPEG, PNG or BMP."""
    if not head:
        raise DecodeError("the file is empty (0 bytes)")
    if any(head.startswith(signature) for signature in _SIGNATURES):
        return
    other = next((name for sig, name in _OTHER_SIGNATURES.items() if head.startswith(sig)), None)
    found = f"a {other} file" if other else f"not an image: it starts with {head[:8]!r}"
    raise DecodeError(f"{found}; allowed are {', '.join(_SIGNATURES.values())}")


def decode(data: bytes, *, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Decodes and resizes one image.

    Args:
        data: a whole JPEG, PNG or BMP file.
        height: of the result, pixels.
        width: of the result, pixels.
        channels: 1 (grayscale) or 3 (RGB).

    Returns:
        uint8 [height, width, channels].

    Raises:
        DecodeError: the bytes are no such image, are damaged or cut, or break a policy above.
    """
    check_kind(data[:16])
    mode = {1: "L", 3: "RGB"}[channels]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; the size is checked below
            with Image.open(io.BytesIO(data), formats=list(_SIGNATURES.values())) as image:
                _check_header(image)
                image.draft(mode, image.size)  # JPEG: only the planes that are asked for
                image.load()
                plane = _to_mode(ImageOps.exif_transpose(image), mode)
    except _PILLOW_ERRORS as error:
        raise DecodeError(f"cannot be decoded: {error}") from None
    if plane.size != (width, height):
        plane = plane.resize((width, height), Image.Resampling.BILINEAR)  # antialiased in Pillow
    return np.asarray(plane).reshape(height, width, channels)


def _check_header(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DecodeError(
            f"its header announces {image.width}x{image.height} pixels; at most {MAX_PIXELS} are read"
        )
    if getattr(image, "n_frames", 1) > 1:
        raise DecodeError("an animation; save the frame that is meant as an image of its own")


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grayscale
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
    return image if image.mode == mode else image.convert(mode)
