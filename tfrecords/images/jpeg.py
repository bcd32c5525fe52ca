"""JPEG: decoded so that what libjpeg calls damaged is refused. Pillow shows such a file with grey areas."""

from typing import Final

import simplejpeg
from PIL import Image

from tfrecords.images.kinds import DecodeError

_COLOURS: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
# How libjpeg's warnings about the pixels begin (jerror.h). Others are about what stands in headers.
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end of JPEG file", "Inconsistent progression sequence")
_JPEG_LS: Final = 0xF7
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HARMLESS: Final = "bad ICC marker"


def loaded(data: bytes, image: Image.Image) -> Image.Image:
    """Returns a JPEG image decoded, in the mode and at the size that the draft of `image` has.

    libjpeg goes on after damage, with what it can make of the rest, and counts a warning; Pillow does not
    show the count. simplejpeg gives the same pixels of the same libjpeg-turbo in the same time, and raises.
    It is no second decoding, but for CMYK, whose planes Pillow inverts where they are.

    Args:
        data: the file; other pictures behind the first are passed over.
        image: the same, opened by Pillow and not loaded.

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
        planes = None  # no damage, but something that Pillow may know better
    if planes is None or image.mode == "CMYK" or planes.shape[:2] != (image.height, image.width):
        image.load()
        return image
    decoded = Image.fromarray(planes.reshape(planes.shape[:2]) if image.mode == "L" else planes)
    decoded.info = image.info  # the orientation is in it
    return decoded


def unknown_coding(data: bytes) -> str | None:
    """Returns what a JPEG file is, with a fix, that is coded in a way which Pillow does not read; else None.

    The frame header is looked for: ITU-T T.81 B.2.2, T.87 C.2.2.
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
