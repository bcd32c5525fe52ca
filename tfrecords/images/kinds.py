"""The kinds of image files, told by their first bytes, and the error for an image that cannot be used."""

from typing import Final

from tfrecords.images.dicom_bytes import has_no_preamble

MAX_PIXELS: Final = 89_478_485  # Pillow's own limit: a quarter of a gigabyte of RGB
HEAD_BYTES: Final = 132  # of a file, that tell its kind

_SIGNATURES: Final = (  # (bytes, position, kind); a DICOM's first 128 bytes may be a TIFF header
    (b"DICM", 128, "DICOM"),
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"BM", 0, "BMP"),
    (b"WEBP", 8, "WebP"),
    (b"II*\x00", 0, "TIFF"),
    (b"MM\x00*", 0, "TIFF"),
    (b"II+\x00", 0, "TIFF"),  # BigTIFF
    (b"MM\x00+", 0, "TIFF"),
)

_ALLOWED: Final = ("JPEG", "PNG", "BMP", "WebP", "TIFF", "DICOM")

_OTHER_SIGNATURES: Final = {  # known, to say what it is; not read
    b"GIF8": "GIF",
    b"%PDF": "PDF",
    b"PK\x03\x04": "ZIP",
}


class DecodeError(Exception):
    """An image that cannot be used; the message is the reason, without the path."""


def is_dicom(head: bytes) -> bool:
    """Returns whether a file that starts with `head` (`HEAD_BYTES` bytes) is a DICOM file."""
    return head.startswith(b"DICM", 128) or has_no_preamble(head)


def check_kind(head: bytes, *, quote: bool = True) -> str:
    """Returns the kind of a file by its first `HEAD_BYTES` bytes: one of JPEG, PNG, BMP, WebP, TIFF, DICOM.

    Args:
        head: the bytes; fewer of a shorter file.
        quote: whether the error may show what the file starts with.

    Raises:
        DecodeError: it is of none of these kinds.
    """
    if not head:
        raise DecodeError("the file is empty (0 bytes)")
    for signature, at, kind in _SIGNATURES:
        if head.startswith(signature, at) and (kind != "WebP" or head.startswith(b"RIFF")):
            return kind
    if is_dicom(head):
        return "DICOM"
    other = next((name for sig, name in _OTHER_SIGNATURES.items() if head.startswith(sig)), None)
    found = f"a {other} file" if other else "not an image"
    if quote and not other:
        found += f": it starts with {head[:8]!r}"
    raise DecodeError(f"{found}; allowed are {', '.join(_ALLOWED)}")
