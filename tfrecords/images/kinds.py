"""Recognises the kind of an image file by its first bytes; defines the error for an unusable image."""

from typing import Final

from tfrecords.images.dicom_bytes import has_no_preamble
from tfrecords.images.unsupported import CANON, TEXT, identify_unsupported

MAX_PIXELS: Final = 89_478_485  # Pillow's own limit: a quarter of a gigabyte of RGB
HEAD_BYTES: Final = 512  # read from a file to recognise its kind

_SIGNATURES: Final = (  # (bytes, position, kind); DICOM comes first: its first 128 bytes may be a TIFF header
    (b"DICM", 128, "DICOM"),
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"BM", 0, "BMP"),
    (b"WEBP", 8, "WebP"),
    (b"GIF87a", 0, "GIF"),
    (b"GIF89a", 0, "GIF"),
    (b"II*\x00", 0, "TIFF"),
    (b"MM\x00*", 0, "TIFF"),
    (b"II+\x00", 0, "TIFF"),  # BigTIFF
    (b"MM\x00+", 0, "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", 0, "JPEG 2000"),
    (b"\xff\x4f\xff\x51", 0, "JPEG 2000"),  # a codestream without a box
)

_ALLOWED: Final = ("JPEG", "PNG", "BMP", "WebP", "TIFF", "GIF", "AVIF", "HEIC", "JPEG 2000", "DICOM")
_BMP_HEADERS: Final = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes; text may begin with BM, too
_BRANDS: Final = (  # of an ISO base media file: the main one, or one beside mif1 or msf1
    (frozenset({b"avif", b"avis"}), "AVIF"),
    (
        frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}),
        "HEIC",
    ),
)


class DecodeError(Exception):
    """An image that cannot be used; the message is the reason, without the path."""


def is_dicom(head: bytes) -> bool:
    """Returns whether a file that starts with `head` (`HEAD_BYTES` bytes) is a DICOM file."""
    return head.startswith(b"DICM", 128) or has_no_preamble(head)


def check_kind(head: bytes, *, quote: bool = True) -> str:
    """Returns the kind of a file, one of `_ALLOWED`, from its first `HEAD_BYTES` bytes.

    Args:
        head: the bytes; fewer where the file is shorter.
        quote: whether the error may show the first bytes of the file.

    Raises:
        DecodeError: it is none of these kinds. The reason names the kind where it is known, with a fix.
    """
    if not head:
        raise DecodeError("the file is empty (0 bytes)")
    for signature, at, kind in _SIGNATURES:
        if head.startswith(signature, at) and _is(kind, head):
            return kind
    if brand := _brand(head):
        return brand
    if is_dicom(head):
        return "DICOM"
    found = identify_unsupported(head)
    allowed = f"allowed are {', '.join(_ALLOWED)}"
    if found and found.name != TEXT:
        raise DecodeError(f"{found.name}; {found.fix}; {allowed}")
    reason = "text, not an image" if found else "not an image"
    if quote:
        reason += f": it starts with {head[:8]!r}"
    raise DecodeError(f"{reason}; {allowed}")


def _is(kind: str, head: bytes) -> bool:
    """Returns whether a file with the signature of a kind is of that kind; some signatures are short."""
    if kind == "WebP":
        return head.startswith(b"RIFF")
    if kind == "BMP":
        return len(head) < 18 or int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return not head.startswith(CANON)


def _brand(head: bytes) -> str | None:
    """Returns AVIF or HEIC, or None for all other files."""
    if head[4:8] != b"ftyp":
        return None
    brands = [head[8:12]]
    if brands[0] in (b"mif1", b"msf1"):
        end = min(int.from_bytes(head[:4]), len(head))
        brands += [head[at : at + 4] for at in range(16, end - 3, 4)]
    return next((kind for brand in brands for names, kind in _BRANDS if brand in names), None)
