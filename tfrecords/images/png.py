"""PNG: text and colour profiles, which nobody reads here, must not be the reason why pixels are not read."""

import zlib
from typing import Final

_SIGNATURE_BYTES: Final = 8
_FRAME_BYTES: Final = 12  # of a chunk, around its data: length, name, CRC
_TEXT: Final = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_LARGEST: Final = 1 << 18  # bytes, unpacked: Pillow reads more, and an orientation is in less
_MOST: Final = 1 << 24  # of all


def without_large_text(data: bytes) -> bytes:
    """Returns a PNG file without its large chunks of text and its large colour profiles.

    Pillow refuses a file for these: a compressed one of more than a megabyte, or 64 megabytes of them. A
    small one stays, for the orientation may stand in it.
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
    """Returns how many bytes a chunk of text has unpacked; above `_LARGEST` they are not counted."""
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
