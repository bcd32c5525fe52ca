"""Bytes of an image file to uint8 [H, W, C], by one explicit policy for each kind of image.

| image                  | policy                                                                  |
|------------------------|-------------------------------------------------------------------------|
| kind                   | JPEG, PNG, BMP, WebP, TIFF or DICOM by content, whatever the extension  |
| grayscale from colour  | a JPEG's own luma plane; else ITU-R 601-2 luma                          |
| RGB from grayscale     | the plane three times                                                   |
| interlaced PNG         | as any other                                                            |
| progressive JPEG       | as any other                                                            |
| large JPEG             | from 4 times the target: at 1/2, 1/4 or 1/8 of its size, by the DCT     |
| CMYK                   | expanded by Pillow, an Adobe JPEG's inverted planes too; profiles unread |
| palette                | expanded to its colours                                                 |
| 1, 2 and 4 bits        | spread over 0 to 255                                                    |
| 12-bit grayscale       | TIFF: scaled to 8 bits: round(value * 255 / 4095)                       |
| 16-bit grayscale       | PNG, TIFF: scaled to 8 bits: round(value * 255 / 65535)                 |
| 16 bits, more channels | the high byte of each, by Pillow                                        |
| other numbers          | TIFF of 32 bits, signed or floating: refused, their range is not known  |
| white is zero          | TIFF: inverted, so that more is brighter                                |
| alpha                  | laid over black                                                         |
| EXIF orientation       | applied                                                                 |
| animation              | PNG, WebP: refused, which frame is meant is not known                   |
| several pictures       | TIFF pages, MPO: refused, which one is meant is not known               |
| DICOM                  | grey values rescaled and windowed, colours as they are: see dicom.py    |
| more than `MAX_PIXELS` | refused from the header, before anything is decoded                     |

Then one antialiased bilinear resize to the target size; the aspect ratio is not kept.
"""

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from tfrecords.images.dicom import decode_dicom, read_header
from tfrecords.images.kinds import HEAD_BYTES, MAX_PIXELS, DecodeError, check_kind

_GAP: Final = 1.5  # times the target that a mean over whole pixels leaves of a large JPEG
_BITS_PER_SAMPLE, _PHOTOMETRIC, _TILE_WIDTH, _TILE_LENGTH, _SAMPLE_FORMAT = 258, 262, 322, 323, 339  # of TIFF
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
_PILLOW_BUGS: Final = (  # what Pillow trips over in damaged headers, TIFF's above all; found by mutation
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
)


@dataclass(frozen=True)
class Decoded:
    """A decoded image and what it was before it was resized.

    Attributes:
        pixels: uint8 [height, width, channels], resized.
        fingerprint: BLAKE2b-128 in hex over the size and the resized pixels. Where it differs, the images
            do; where it is the same, `content_hash` tells.
        size: (height, width) before the resize, pixels.
    """

    pixels: npt.NDArray[np.uint8]
    fingerprint: str
    size: tuple[int, int]


def check_header(file: BinaryIO) -> str | None:
    """Raises DecodeError if an image file's header alone shows that it cannot be decoded.

    That is its kind, its number of pixels, an animation, or a header that is damaged. No pixel is
    decoded, so a decompression bomb costs nothing. Returns the PatientID of a DICOM file ("" where it
    has none), which must not be shown or stored; None for other images.
    """
    head = file.read(HEAD_BYTES)
    kind = check_kind(head)
    if kind == "DICOM":
        file.seek(0)
        return read_header(file).patient
    if kind == "WebP":
        _check_webp(head)
    file.seek(0)
    with _opened(file, kind):
        return None


def decode(data: bytes, *, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Decodes and resizes one image.

    Args:
        data: a whole file of a kind above.
        height: of the result, pixels.
        width: of the result, pixels.
        channels: 1 (grayscale) or 3 (RGB).

    Returns:
        uint8 [height, width, channels].

    Raises:
        DecodeError: the bytes are no such image, are damaged or cut, or break a policy above.
    """
    return _resized(*_plane(data, height, width, channels), height, width, channels)


def decode_fingerprinted(data: bytes, *, height: int, width: int, channels: int) -> Decoded:
    """Decodes and resizes one image, once, and tells what it was before; else as `decode`."""
    plane, size = _plane(data, height, width, channels)
    pixels = _resized(plane, size, height, width, channels)
    digest = hashlib.blake2b(f"{plane.mode} {plane.width}x{plane.height}\n".encode(), digest_size=16)
    digest.update(pixels.data)
    return Decoded(pixels, digest.hexdigest(), (size[1], size[0]))


def content_hash(data: bytes, *, height: int, width: int, channels: int) -> str:
    """Returns a hash of an image as decoded, policies applied, before the resize; arguments as `decode`.

    BLAKE2b-128 in hex over mode, size and pixels: the same for two files exactly if they show the same, for
    large JPEGs at the resolution they are decoded at.
    """
    plane, _ = _plane(data, height, width, channels)
    digest = hashlib.blake2b(f"{plane.mode} {plane.width}x{plane.height}\n".encode(), digest_size=16)
    digest.update(plane.tobytes())
    return digest.hexdigest()


def _plane(data: bytes, height: int, width: int, channels: int) -> tuple[Image.Image, tuple[int, int]]:
    """Returns the image of mode L or RGB, and its own (width, height), or raises DecodeError.

    The image has its own size, but for a JPEG of four times the target's longer side or more: libjpeg
    then gives 1/2, 1/4 or 1/8 of it from a smaller inverse DCT, still at least twice the target, in less
    time, and the resize takes means over whole pixels first. The result is at most 24 of 255 grey levels
    from full decoding, and less than 1 on average (test_decode.py).
    """
    kind = check_kind(data[:HEAD_BYTES])
    mode = {1: "L", 3: "RGB"}[channels]
    if kind == "DICOM":
        plane = Image.fromarray(decode_dicom(data)).convert(mode)
        return plane, plane.size
    if kind == "WebP":
        _check_webp(data)  # Pillow makes room for a WebP image when it opens it
    with _opened(io.BytesIO(data), kind) as image:
        wide, size = _wide_range(image), image.size
        least = 2 * max(width, height)
        image.draft(mode, (least, least))  # JPEG: only the planes and the resolution that are asked for
        image.load()
        upright = ImageOps.exif_transpose(image)
        turned = image.width != image.height and upright.size == image.size[::-1]
        return _to_mode(upright, mode, wide), size[::-1] if turned else size


@contextmanager
def _opened(file: BinaryIO, kind: str) -> Iterator[Image.Image]:
    """Gives an image whose header was checked and nothing decoded; what Pillow raises is a DecodeError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; the size is checked below
            with Image.open(file, formats=[kind.upper()]) as image:
                _check_header(image)
                yield image
    except UnidentifiedImageError:  # whose own words hold an address in memory
        raise DecodeError("cannot be decoded: its header is damaged") from None
    except _PILLOW_ERRORS as error:
        raise DecodeError(f"cannot be decoded: {error}") from None
    except _PILLOW_BUGS as error:
        raise DecodeError(f"cannot be decoded: {type(error).__name__}: {error}") from None


def _resized(
    plane: Image.Image, size: tuple[int, int], height: int, width: int, channels: int
) -> npt.NDArray[np.uint8]:
    gap = None if plane.size == size else _GAP
    if plane.size != (width, height):
        plane = plane.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=gap)  # antialiased
    return np.asarray(plane).reshape(height, width, channels)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(f"its header announces {width}x{height} pixels; at most {MAX_PIXELS} are read")


def _check_webp(data: bytes) -> None:
    """Checks the size in a WebP header: RFC 9649, sections 2.5 to 2.7."""
    chunk, size = data[12:16], (0, 0)
    if chunk == b"VP8X":
        size = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    elif chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        size = int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    _check_pixels(*size)


def _check_header(image: Image.Image) -> None:
    _check_pixels(image.width, image.height)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        _check_pixels(int(tags.get(_TILE_WIDTH, 1)), int(tags.get(_TILE_LENGTH, 1)))
        if image.mode in ("I", "F") or set(np.ravel(tags.get(_SAMPLE_FORMAT, 1))) != {1}:
            raise DecodeError(
                "a TIFF file whose pixels are of 32 bits, signed or floating: their range is not known; "
                "scale them to 8 or 16 bits without sign"
            )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format in ("TIFF", "MPO"):
        kind = "TIFF file of" if image.format == "TIFF" else "JPEG file (MPO) of"
        raise DecodeError(f"a {kind} {frames} pictures; save the one that is meant as an image of its own")
    if frames > 1:
        raise DecodeError("an animation; save the frame that is meant as an image of its own")


def _wide_range(image: Image.Image) -> tuple[int, int]:
    """Returns which value of a 16-bit grayscale image is black, and which is white."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0, 65535
    white = 4095 if image.tag_v2.get(_BITS_PER_SAMPLE) == (12,) else 65535
    return (white, 0) if image.tag_v2.get(_PHOTOMETRIC) == 0 else (0, white)


def _to_mode(image: Image.Image, mode: str, wide: tuple[int, int]) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grayscale
        values = np.asarray(image).astype(np.uint32)
        white = max(wide)
        grey = ((np.minimum(values, white) * 255 + white // 2) // white).astype(np.uint8)
        grey = grey if wide[0] == 0 else 255 - grey
        clear = image.info.get("transparency")
        image = Image.fromarray(grey if clear is None else np.where(values == clear, np.uint8(0), grey))
    if image.mode in ("RGBa", "La"):  # premultiplied
        image = image.convert(image.mode.upper())
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
    return image if image.mode == mode else image.convert(mode)
