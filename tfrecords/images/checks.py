"""Checks a header before a pixel is decoded, and reads from it how many bits the values have."""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from PIL import Image, TiffImagePlugin, features

from tfrecords.images.kinds import MAX_PIXELS, DecodeError
from tfrecords.images.wide import LARGEST

LARGE_HEAD: Final = 1 << 20  # bytes in which the codestream of a JPEG 2000 file must begin

_BITS_PER_SAMPLE, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH, _SAMPLE_FORMAT = 258, 262, 322, 323, 339  # of TIFF
_FEATURES: Final = {"AVIF": "avif", "JPEG 2000": "jpg_2000", "WebP": "webp"}  # optional parts of Pillow
_SEQUENCES: Final = (b"hevc", b"hevx", b"hevm", b"hevs", b"msf1")  # brands of a HEIC animation
_CODESTREAM: Final = b"\xff\x4f\xff\x51"  # of JPEG 2000: SOC and SIZ, ITU-T T.800 A.5.1
_PNG_DEPTH: Final = 24  # offset of the byte that holds it
_ANIMATION: Final = "an animation; save the frame that you need as an image of its own"


@dataclass(frozen=True)
class Depth:
    """The bit depth of the values in a file.

    Attributes:
        white: the largest value that the file can hold.
        inverted: whether 0 is white.
        shift: number of bits by which Pillow shifts the values up.
        is_deep: whether the values have more than 8 bits.
    """

    white: int = LARGEST
    inverted: bool = False
    shift: int = 0
    is_deep: bool = False


def check_head(kind: str, head: bytes) -> None:
    """Raises DecodeError for a file that Pillow must not open; `head` has `LARGE_HEAD` bytes or more."""
    if kind in _FEATURES and not _is_built_in(_FEATURES[kind]):
        raise DecodeError(
            f"{kind} is not built into this Pillow; install its wheel: python -m pip install 'pillow>=11.3'"
        )
    if kind == "WebP":  # Pillow allocates the pixels of a WebP image when it opens it
        _check_webp(head)
    elif kind == "JPEG 2000":
        _check_jpeg_2000(head)
    elif kind == "HEIC" and head[8:12] in _SEQUENCES:
        raise DecodeError(_ANIMATION)


def check_opened(image: Image.Image, kind: str) -> None:
    """Raises DecodeError if the header, as Pillow has read it, breaks a policy."""
    _check_pixels(image.width, image.height)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        _check_pixels(int(tags.get(_TILE_WIDTH, 1)), int(tags.get(_TILE_LENGTH, 1)))
        if image.mode in ("I", "F") or set(np.ravel(tags.get(_SAMPLE_FORMAT, 1))) != {1}:
            raise DecodeError(
                "a TIFF file whose values have 32 bits, or are signed or floating: their range is not known; "
                "scale them to 8 or 16 bits without sign"
            )
    # A JPEG or HEIC file stands for its first picture, and `primary_page` chooses the page of a TIFF file.
    if kind not in ("JPEG", "HEIC", "TIFF") and getattr(image, "n_frames", 1) > 1:
        raise DecodeError(_ANIMATION)


def depth_of(image: Image.Image, kind: str, head: bytes) -> Depth:
    """Returns the bit depth of an image that Pillow has opened."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = int(np.max(image.tag_v2.get(_BITS_PER_SAMPLE, 1)))
        inverted = image.tag_v2.get(_PHOTOMETRIC) == 0
        return Depth(4095 if bits == 12 else LARGEST, inverted, is_deep=bits > 8)
    if kind == "JPEG 2000":
        bits = (_siz(head)[38] & 0x7F) + 1
        return Depth((1 << bits) - 1, shift=max(0, 16 - bits), is_deep=bits > 8)
    return Depth(is_deep=kind == "PNG" and head[_PNG_DEPTH] == 16)


@cache
def _is_built_in(feature: str) -> bool:
    return features.check(feature) is True


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(f"its header says {width}x{height} pixels; at most {MAX_PIXELS} are read")


def _check_webp(head: bytes) -> None:
    """Checks the size in a WebP header: RFC 9649, sections 2.5 to 2.7."""
    chunk, size = head[12:16], (0, 0)
    if chunk == b"VP8X":
        size = int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    elif chunk == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        size = int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    _check_pixels(*size)


def _check_jpeg_2000(head: bytes) -> None:
    """Checks size and bit depth in the codestream's SIZ segment, not in a box: ITU-T T.800, A.5.1."""
    siz = _siz(head)
    right, bottom, left, top, tile_width, tile_height = (
        int.from_bytes(siz[at : at + 4]) for at in range(4, 28, 4)
    )
    _check_pixels(max(0, right - left), max(0, bottom - top))
    _check_pixels(min(tile_width, right), min(tile_height, bottom))
    components = int.from_bytes(siz[36:38])
    signs_and_bits = siz[38 : 38 + 3 * min(components, 4) : 3]
    if any(value & 0x80 or value & 0x7F > 15 for value in signs_and_bits):
        raise DecodeError(
            "a JPEG 2000 file whose values are signed or have more than 16 bits: their range is not known; "
            "scale them to 8 or 16 bits without sign"
        )


def _siz(head: bytes) -> bytes:
    """Returns the SIZ segment of a JPEG 2000 file, starting with its length."""
    at = head.find(_CODESTREAM, 0, LARGE_HEAD)
    siz = head[at + 4 : at + 4 + 128]
    if at < 0 or len(siz) < 39:
        raise DecodeError(
            f"cannot be decoded: no JPEG 2000 codestream begins in its first {LARGE_HEAD} bytes"
        )
    return siz
