"""PNG: removes large text and colour profiles, which Pillow would refuse although only pixels are needed."""

import zlib
from typing import Final

_SIGNATURE_BYTES: Final = 8
_FRAME_BYTES: Final = 12  # length, name and CRC of a chunk, around its data
_TEXT: Final = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_LARGEST: Final = 1 << 18  # bytes of one chunk, unpacked: less than Pillow reads, enough for an orientation
_MOST: Final = 1 << 24  # bytes of all such chunks, unpacked


def without_large_text(data: bytes) -> bytes:
    """Returns a PNG file without its large chunks of text and its large colour profiles.

    Pillow refuses a file with a compressed chunk of more than a megabyte, or with 64 megabytes of text. Small
    chunks stay, because one of them may hold the orientation.
    """
    kept, at, total = [data[:_SIGNATURE_BYTES]], _SIGNATURE_BYTES, 0
    while at + _FRAME_BYTES <= len(data):
        end = at + _FRAME_BYTES + int.from_bytes(data[at : at + 4])
        chunk = data[at:end]
        size = _text_bytes(chunk[4:8], chunk[8:-4]) if chunk[4:8] in _TEXT else 0
        if size <= _LARGEST and total + size <= _MOST:
            kept.append(chunk)
            total += size
        at = end
    return b"".join(kept)


def _text_bytes(name: bytes, content: bytes) -> int:
    """Returns the bytes of a chunk of text, unpacked; the count stops above `_LARGEST`."""
    if len(content) > _LARGEST:
        return len(content)
    keyword, _, rest = content.partition(b"\0")
    if name == b"tEXt" or (name == b"iTXt" and rest[:1] != b"\1"):
        return len(content)
    packed = rest[1:] if name != b"iTXt" else rest[2:].split(b"\0", 2)[-1]
    try:
        return len(keyword) + len(zlib.decompressobj().decompress(packed, _LARGEST + 1))
    except zlib.error:
        return len(content)
