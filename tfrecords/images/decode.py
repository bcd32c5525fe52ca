"""Decodes the bytes of an image file to uint8 [H, W, C], by one explicit policy for each kind of image.

| image                  | policy                                                                  |
|------------------------|-------------------------------------------------------------------------|
| kind                   | by content, not by name: JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF, JPEG 2000 |
| other kinds            | DICOM (extra `dicom`) and HEIC (extra `heic`), likewise                 |
| grayscale from colour  | a JPEG's own luma plane; else ITU-R 601-2 luma                          |
| RGB from grayscale     | the plane three times                                                   |
| interlaced PNG         | as any other                                                            |
| progressive JPEG       | as any other                                                            |
| large JPEG             | from 4 times the target: at 1/2, 1/4 or 1/8 of its size, by the DCT     |
| damaged JPEG           | refused where libjpeg warns: data that end early or late, unknown codes |
| CMYK                   | expanded by Pillow, an Adobe JPEG's inverted planes too; profiles unread |
| palette                | expanded to its colours                                                 |
| 1, 2 and 4 bits        | spread over 0 to 255                                                    |
| 9 to 16-bit grayscale  | JPEG 2000 of B bits: scaled to 8 bits: round(value * 255 / (2^B - 1))   |
| 12-bit grayscale       | TIFF: scaled to 8 bits: round(value * 255 / 4095)                       |
| 16-bit grayscale       | PNG, TIFF: scaled to 8 bits: round(value * 255 / 65535)                 |
| `--value_range`        | of more than 8 bits: round((value - LOW) * 255 / (HIGH - LOW)), clipped |
| 16 bits, more channels | the high byte of each, by Pillow; refused with `--value_range`          |
| other numbers          | TIFF of 32 bits, signed or floating: refused, their range is not known  |
| JPEG 2000 numbers      | signed, or of more than 16 bits: refused likewise                       |
| white is zero          | TIFF: inverted, so that more is brighter                                |
| alpha                  | laid over black                                                         |
| BMP without alpha      | whose alpha is 0 everywhere: opaque                                     |
| EXIF orientation       | applied                                                                 |
| large text in a PNG    | passed over, and large colour profiles                                  |
| animation              | PNG, WebP, GIF, AVIF, HEIC: refused, which frame is meant is not known  |
| several pictures       | JPEG (MPO): the first; HEIC: the one that the file calls its primary    |
| TIFF pages             | the one that is no thumbnail, mask or smaller copy; several such: refused |
| camera RAW             | CR2, CR3, NEF, ARW, DNG ...: refused, their previews are not the picture |
| any other file         | refused by its name: Git LFS pointer, HTML page, PSD, NIfTI, video ...  |
| DICOM                  | grey values rescaled and windowed, colours as they are: see dicom.py    |
| more than `MAX_PIXELS` | refused from the header, before anything is decoded                     |

One antialiased bilinear resize to the target size follows. `--resize` chooses how it treats the aspect ratio:

| `--resize`             | policy                                                                  |
|------------------------|-------------------------------------------------------------------------|
| stretch                | each side by itself; the aspect ratio is not kept                       |
| pad                    | the whole image fits in, in the middle; black bars fill the rest        |
| crop                   | the image fills the target; what stands out is cut off on both sides    |
"""

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
from PIL import AvifImagePlugin, Image, ImageOps, UnidentifiedImageError

from tfrecords.errors import InputError
from tfrecords.images import jpeg
from tfrecords.images.checks import LARGE_HEAD, check_head, check_opened, depth_of
from tfrecords.images.dicom import decode_dicom, read_header
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind
from tfrecords.images.planes import COLOUR_GRID, Plane, Target, shows_colour, to_plane
from tfrecords.images.png import without_large_text
from tfrecords.images.resize import resized
from tfrecords.images.tiff import primary_page
from tfrecords.images.wide import FULL, Extent

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # many processes decode at once

_FORMATS: Final = {"HEIC": "HEIF", "JPEG 2000": "JPEG2000"}  # Pillow's names, where they differ
_PILLOW_ERRORS: Final = (
    OSError,  # includes UnidentifiedImageError, and truncated files
    SyntaxError,  # Pillow raises it for broken PNG chunks
    ValueError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_PILLOW_BUGS: Final = (  # raised by Pillow for damaged headers, mostly of TIFF; found by mutating files
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
)


@dataclass(frozen=True)
class Decoded:
    """A decoded image, and facts about it from before the resize.

    Attributes:
        pixels: uint8 [height, width, channels], resized.
        fingerprint: BLAKE2b-128 in hex over the size and the resized pixels. Images with different
            fingerprints differ; of images with the same one, `content_hash` decides.
        size: (height, width) before the resize, pixels.
        is_flat: whether all resized pixels have one colour, bars left out.
        extent: of grayscale of more than 8 bits, the range of the stored values; else None.
        coarse: of 16 bits in several channels, that range as far as the high bytes show it; else None.
        stored_in_colour: whether the file has colour channels, even if all pixels are grey.
        shows_colour: whether some pixels are not grey; None where that was not checked.
    """

    pixels: npt.NDArray[np.uint8]
    fingerprint: str
    size: tuple[int, int]
    is_flat: bool = False
    extent: Extent | None = None
    coarse: Extent | None = None
    stored_in_colour: bool = False
    shows_colour: bool | None = None


def check_header(file: BinaryIO) -> str | None:
    """Raises DecodeError if an image file's header alone shows that it cannot be decoded.

    The header shows the kind, the number of pixels, an animation, or damage. No pixel is decoded, so a
    decompression bomb costs nothing.

    Returns:
        The PatientID of a DICOM file, "" where it has none; it must not be shown or stored. None for other
        images.

    Raises:
        InputError: the package that reads this kind is not installed.
    """
    head = file.read(HEAD_BYTES)
    kind = check_kind(head)
    file.seek(0)
    if kind == "DICOM":
        return read_header(file).patient
    if kind == "JPEG 2000":
        head = file.read(LARGE_HEAD)
        file.seek(0)
    check_head(kind, head)
    try:
        with _opened(file, kind):
            return None
    except DecodeError:
        if kind != "PNG":
            raise
        file.seek(0)
        with _opened(io.BytesIO(without_large_text(file.read())), kind):
            return None


def decode(
    data: bytes, *, height: int, width: int, channels: int, resize: str = "stretch", value_range: str = FULL
) -> npt.NDArray[np.uint8]:
    """Decodes and resizes one image.

    Args:
        data: a whole file of a kind above.
        height: this and the other arguments are those of `Target`.
        width: see `Target`.
        channels: see `Target`.
        resize: see `Target`.
        value_range: see `Target`.

    Returns:
        uint8 [height, width, channels].

    Raises:
        DecodeError: the bytes are no such image, are damaged or cut, or break a policy above.
        InputError: the package that reads this kind is not installed.
    """
    target = Target(height, width, channels, resize, value_range)
    plane = _plane(data, target)
    return resized(plane.image, plane.size, (width, height), resize)[0]


def decode_fingerprinted(
    data: bytes,
    *,
    height: int,
    width: int,
    channels: int,
    resize: str = "stretch",
    value_range: str = FULL,
    detect_colour: bool = False,
) -> Decoded:
    """Decodes and resizes one image as `decode` does, and returns it with its facts.

    To find out whether a JPEG shows colour costs half as much as decoding it again, so this is done only with
    `detect_colour`. For all other kinds it is always done where `channels` is 1.
    """
    target = Target(height, width, channels, resize, value_range)
    plane = _plane(data, target, detect_colour=detect_colour)
    pixels, shown = resized(plane.image, plane.size, (width, height), resize)
    digest = hashlib.blake2b(plane.head(), digest_size=16)
    digest.update(pixels.data)
    return Decoded(
        pixels,
        digest.hexdigest(),
        (plane.size[1], plane.size[0]),
        _is_flat(shown),
        plane.extent,
        plane.coarse,
        plane.stored_in_colour,
        plane.shows_colour,
    )


def _is_flat(pixels: npt.NDArray[np.uint8]) -> bool:
    """Returns whether all pixels are equal; for most images a look at the last row is enough."""
    first = pixels[0, 0]
    return bool((pixels[-1] == first).all() and (pixels == first).all())


def content_hash(
    data: bytes, *, height: int, width: int, channels: int, resize: str = "stretch", value_range: str = FULL
) -> str:
    """Returns a hash of an image as decoded, before the resize; the arguments are those of `decode`.

    It is BLAKE2b-128 in hex over mode, size and pixels. Two files have the same hash exactly if they have the
    same pixels; large JPEGs are compared at the resolution at which they are decoded.
    """
    plane = _plane(data, Target(height, width, channels, resize, value_range))
    digest = hashlib.blake2b(plane.head(), digest_size=16)
    digest.update(plane.image.tobytes())
    return digest.hexdigest()


def extent_of(file: BinaryIO) -> Extent | None:
    """Returns the range of the stored values of grayscale of more than 8 bits; None for all other images.

    Of other images only the header is read. An image that cannot be decoded gives None, too.
    """
    try:
        head = file.read(HEAD_BYTES)
        kind = check_kind(head)
        if kind not in ("PNG", "TIFF", "JPEG 2000"):
            return None
        file.seek(0)
        with _opened(file, kind) as image:
            if not image.mode.startswith("I"):
                return None
            file.seek(0)
        return _plane(file.read(), Target(1, 1, 1)).extent
    except DecodeError:
        return None


def _plane(data: bytes, target: Target, *, detect_colour: bool = False) -> Plane:
    """Returns the image in mode L or RGB with its facts, or raises DecodeError.

    The image keeps its size, except a JPEG of at least four times the target's longer side. libjpeg decodes
    it faster at 1/2, 1/4 or 1/8 of its size by a smaller inverse DCT, still at least twice the target, and
    the resize first takes means over whole pixels. The result differs from full decoding by at most 24 of 255
    grey levels, and by less than 1 on average (test_decode.py).
    """
    kind = check_kind(data[:HEAD_BYTES])
    if kind == "DICOM":
        image = Image.fromarray(decode_dicom(data))
        return to_plane(image, image.size, target)
    check_head(kind, data)
    try:
        return _loaded(data, kind, target, detect_colour)
    except DecodeError:
        if kind != "PNG" or len(lighter := without_large_text(data)) == len(data):
            raise
    return _loaded(lighter, kind, target, detect_colour)


def _loaded(data: bytes, kind: str, target: Target, detect_colour: bool) -> Plane:
    with _opened(io.BytesIO(data), kind) as image:
        depth = depth_of(image, kind, data)
        if kind != "JPEG":
            image.load()
            upright = ImageOps.exif_transpose(image)
            if kind == "BMP" and upright.mode == "RGBA" and upright.getchannel("A").getextrema() == (0, 0):
                upright = upright.convert("RGB")  # the fourth byte is unused
            return to_plane(upright, upright.size, target, depth)
        size, colour, least = image.size, image.mode != "L", 2 * max(target.width, target.height)
        image.draft(
            "L" if target.channels == 1 else "RGB", (least, least)
        )  # decodes only the channels and the resolution that are needed
        loaded = jpeg.loaded(data, image)
        upright = ImageOps.exif_transpose(loaded)
        turned = loaded.width != loaded.height and upright.size == loaded.size[::-1]
        plane = to_plane(upright, size[::-1] if turned else size, target)
        plane.stored_in_colour = colour
    if plane.shows_colour is None and colour and detect_colour:
        with _opened(io.BytesIO(data), kind) as image:
            image.draft("RGB", (COLOUR_GRID, COLOUR_GRID))
            plane.shows_colour = shows_colour(image)
    return plane


@contextmanager
def _opened(file: BinaryIO, kind: str) -> Iterator[Image.Image]:
    """Yields an image with its header checked, not yet decoded; turns Pillow's errors into DecodeError."""
    if kind == "HEIC":
        _open_heic()
    page = primary_page(file) if kind == "TIFF" else 0
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; the size is checked below
            with Image.open(file, formats=[_FORMATS.get(kind, kind.upper())]) as image:
                if page:
                    image.seek(page)
                check_opened(image, kind)
                yield image
    except UnidentifiedImageError:  # its message holds an address in memory
        file.seek(0)
        coding = jpeg.unknown_coding(file.read(LARGE_HEAD)) if kind == "JPEG" else None
        raise DecodeError(coding or "cannot be decoded: its header is damaged") from None
    except _PILLOW_ERRORS as error:
        raise DecodeError(f"cannot be decoded: {error}") from None
    except _PILLOW_BUGS as error:
        raise DecodeError(f"cannot be decoded: {type(error).__name__}: {error}") from None


@cache
def _open_heic() -> None:
    try:
        import pillow_heif
    except ImportError:
        raise InputError(
            "a HEIC file, and the package that reads it is not installed; install the extra `heic` with\n"
            "  python -m pip install pillow-heif"
        ) from None
    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
