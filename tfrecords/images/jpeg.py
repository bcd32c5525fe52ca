"""JPEG: decoded with an error for a damaged file, which Pillow would show with grey areas."""

from typing import Final

import simplejpeg
from PIL import Image

from tfrecords.images.kinds import DecodeError

_COLOURS: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
# The first words of libjpeg's warnings about pixels (jerror.h). Its other warnings are about headers.
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression sequence")
_JPEG_LS: Final = 0xF7
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HARMLESS: Final = "bad ICC marker"


def loaded(data: bytes, image: Image.Image) -> Image.Image:
    """Returns a JPEG image decoded, in the mode and at the size that the draft of `image` has.

    After damage libjpeg goes on with the rest of the file and counts a warning, but Pillow does not show the
    count. simplejpeg decodes with the same libjpeg-turbo to the same pixels in the same time, and raises an
    error. Only CMYK is decoded twice, because Pillow inverts the planes where Adobe's marker says so.

    Args:
        data: the file; pictures after the first are ignored.
        image: the same file, opened by Pillow and not loaded.

    Raises:
        DecodeError: libjpeg calls it damaged.
    """
    try:
        planes = simplejpeg.decode_jpeg(
            data, _COLOURS[image.mode], min_height=image.height, min_width=image.width, strict=True
        )
    except ValueError as error:
        reason = str(error)
        if reason.startswith(_DAMAGE) and _HARMLESS not in reason:
            raise DecodeError(f"cannot be decoded: {reason}") from None
        planes = None  # not damaged: Pillow may be able to decode it
    if planes is None or image.mode == "CMYK" or planes.shape[:2] != (image.height, image.width):
        image.load()
        return image
    decoded = Image.fromarray(planes.reshape(planes.shape[:2]) if image.mode == "L" else planes)
    decoded.info = image.info  # the orientation is in it
    return decoded


def unknown_coding(data: bytes) -> str | None:
    """Returns why Pillow cannot read the coding of a JPEG file, with a fix; None if it can.

    The frame header says which coding it is: ITU-T T.81 B.2.2, T.87 C.2.2.
    """
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _JPEG_LS:
            return "a JPEG-LS file; save it as PNG or as 16-bit TIFF"
        if marker in _FRAMES and data[at + 4] != 8:
            return f"a JPEG file of {data[at + 4]} bits; save it as 16-bit PNG or TIFF"
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return None
