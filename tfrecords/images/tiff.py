"""Finds the page of a TIFF file that is the picture; others may be its thumbnail, mask or smaller copies.

Source: TIFF 6.0, sections 2 and 8; BigTIFF has wider fields.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from tfrecords.images.kinds import DecodeError
from tfrecords.images.unsupported import CAMERA_RAW

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 259, 262
_SUB_IFDS, _DNG_VERSION = 330, 50706
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_SENSOR: Final = frozenset({32803, 34892})  # photometric: a colour filter array, linear raw
_OF_CAMERAS: Final = frozenset({32767, 32769, 32770, 34713, 65000, 65535})  # compressions of Sony, Nikon ...
_MOST_PAGES: Final = 1000
_MOST_TAGS: Final = 512  # read of a page


@dataclass(frozen=True)
class _Page:
    width: int
    height: int
    is_smaller: bool  # its tags say that it is a smaller copy or a mask

    def is_small_beside(self, other: "_Page") -> bool:
        """Returns whether each side is at most half as long as that of another page."""
        return 2 * self.width <= other.width and 2 * self.height <= other.height


def primary_page(file: BinaryIO) -> int:
    """Returns the number of the page that is the picture; the other pages must be thumbnails or masks.

    A page is a thumbnail or mask if its tags say so (NewSubfileType or SubfileType), or if each of its sides
    is at most half as long as that of the largest page. Of a damaged file it is page 0; the decoder says what
    is wrong with it.

    Raises:
        DecodeError: several pages are pictures, or the file is a camera's RAW file, whose pages are previews.
    """
    file.seek(0)
    try:
        pages = _pages(file)
    except (struct.error, OverflowError, ValueError, OSError):
        return 0
    if len(pages) < 2:
        return 0
    candidates = [page for page in pages if not page.is_smaller] or pages
    largest = max(candidates, key=lambda page: page.width * page.height)
    full = [page for page in candidates if not page.is_small_beside(largest)]
    if len(full) > 1:
        raise DecodeError(
            f"a TIFF file of {len(full)} pictures; save the one that you need as an image of its own"
        )
    return pages.index(largest)


def _pages(file: BinaryIO) -> list[_Page]:
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    at = struct.unpack(f"{order}{'Q' if big else 'I'}", head[8:16] if big else head[4:8])[0]
    pages: list[_Page] = []
    seen: set[int] = set()
    while at and at not in seen and len(pages) < _MOST_PAGES:
        seen.add(at)
        tags, at = _tags(file, at, order, big)
        smaller = bool(tags.get(_SUBFILE, 0) & (_REDUCED | _MASK)) or tags.get(_OLD_SUBFILE) == 2
        preview = not pages and tags.get(_SUBFILE, 0) & _REDUCED and _SUB_IFDS in tags
        of_a_camera = tags.get(_PHOTOMETRIC) in _SENSOR or tags.get(_COMPRESSION) in _OF_CAMERAS
        if _DNG_VERSION in tags or of_a_camera or preview:
            raise DecodeError(f"{CAMERA_RAW.name}; {CAMERA_RAW.fix}")
        pages.append(_Page(tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0), smaller))
    return pages


def _tags(file: BinaryIO, at: int, order: str, big: bool) -> tuple[dict[int, int], int]:
    """Returns the first value of each tag of a page (or its offset), and the offset of the next page."""
    file.seek(at)
    size, entry, offset = (8, 20, "Q") if big else (2, 12, "I")
    count = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(size))[0]
    data = file.read(entry * min(count, _MOST_TAGS))
    tags = {}
    for start in range(0, len(data) - entry + 1, entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, start)
        value = start + (12 if big else 8)
        tags[tag] = struct.unpack_from(f"{order}{ {3: 'H', 16: 'Q'}.get(kind, 'I') }", data, value)[0]
    file.seek(at + size + entry * count)
    following = file.read(struct.calcsize(offset))
    return tags, struct.unpack(f"{order}{offset}", following)[0] if len(following) > 3 else 0
