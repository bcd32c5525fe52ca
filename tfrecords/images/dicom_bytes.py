"""Recognises a DICOM file and its encoding from its bytes, before pydicom reads it."""

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

IMPLICIT: Final = "1.2.840.10008.1.2"  # little endian: the standard's default transfer syntax
EXPLICIT: Final = "1.2.840.10008.1.2.1"  # little endian
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"  # explicit
PREFIX: Final = b"DICM"  # follows the preamble of 128 bytes
DATA_SET: Final = 132  # offset of what follows preamble and prefix

# Value representations, PS3.5 6.2. After those of the second set come two unused bytes and a length of four.
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_OF_META: Final = {
    0x00020000: b"UL",
    0x00020001: b"OB",
    **dict.fromkeys((0x00020002, 0x00020003, 0x00020010, 0x00020012), b"UI"),
}
# A data set begins with one of these: the elements of group 0008 that are no sequence, PS3.6.
_OF_GROUP_8: Final = {
    0x00080000 + number: vr
    for vr, numbers in {
        b"UL": (0x00, 0x01),
        b"CS": (0x05, 0x08, 0x60, 0x61, 0x64, 0x68),
        b"DA": (0x12, 0x20, 0x21, 0x22, 0x23),
        b"TM": (0x13, 0x30, 0x31, 0x32, 0x33),
        b"UI": (0x14, 0x16, 0x17, 0x18, 0x19, 0x1A),
        b"DT": (0x15, 0x2A),
        b"SH": (0x50, 0x94),
        b"LO": (0x10, 0x70, 0x80),
        b"PN": (0x90,),
    }.items()
    for number in numbers
}
_PIXEL_DATA: Final = 0x7FE00010
_LONGEST_TEXT: Final = 1 << 12  # bytes
_ENOUGH: Final = 96  # characters: one value so long is enough to recognise a DICOM file
_ALPHABETS: Final = {  # the bytes that a value may have
    b"CS": re.compile(rb"[A-Za-z0-9 _\\.\-]*\0?"),
    b"DA": re.compile(rb"[0-9.\-\\ ]*\0?"),
    b"TM": re.compile(rb"[0-9.:\-\\ ]*\0?"),
    b"DT": re.compile(rb"[0-9.+\-\\ ]*\0?"),
    b"UI": re.compile(rb"[0-9.\\ ]*\0?"),
}
_TEXT: Final = re.compile(rb"[^\0-\x1a\x1c-\x1f\x7f]*\0?")  # an escape may change the character set
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # T.81, T.87
_JPEG_2000: Final = b"\xff\x4f\xff\x51"  # SOC and SIZ
_JP2: Final = b"\0\0\0\x0cjP  \r\n\x87\n"  # a file around the codestream, which the standard does not allow


def has_no_preamble(head: bytes) -> bool:
    """Returns whether a file that starts with `head` is a DICOM file without the preamble of PS3.10.

    Such a file starts with the prefix, the file meta information or the data set. Each element in `head` must
    be a known one, in order, with a value that it may have.
    """
    at = _after_prefix(head)
    if head[at : at + 2] == b"\x02\x00":
        return _are_elements(head, at, _OF_META, explicit=True, little=True)
    return bool(_data_set_syntax(head, at))


def transfer_syntax(head: bytes) -> str:
    """Returns the transfer syntax of a DICOM file; "" if it is not known.

    The file meta information holds it: PS3.10, 7.1. Where that is missing, the first elements show which of
    the three uncompressed syntaxes it is.
    """
    at = DATA_SET if head.startswith(PREFIX, DATA_SET - 4) else _after_prefix(head)
    while head[at : at + 2] == b"\x02\x00":
        kind = head[at + 4 : at + 6]
        start = at + (12 if kind in _LONG else 8)
        if kind in _LONG:
            size = int.from_bytes(head[at + 8 : start], "little")
        else:  # implicit meta information too: some programs write it, against the standard
            size = int.from_bytes(head[at + 6 if kind in _SHORT else at + 4 : start], "little")
        if head[at + 2 : at + 4] == b"\x10\x00" and size:
            return head[start : start + size].rstrip(b"\0 ").decode("ascii", "replace")
        at = start + size
    return _data_set_syntax(head, at) or (_likely_syntax(head, at) if at else "")


def _after_prefix(head: bytes) -> int:
    return len(PREFIX) if head.startswith(PREFIX) else 0


def _likely_syntax(head: bytes, at: int) -> str:
    """Returns the likely syntax of a data set that follows a preamble or file meta information."""
    if len(head) < at + 8 or head[at : at + 4] == bytes(4):
        return ""
    if head[at + 4 : at + 6] not in _SHORT | _LONG:
        return IMPLICIT
    return EXPLICIT if head[at + 1] < head[at] else BIG_ENDIAN


def _data_set_syntax(head: bytes, at: int) -> str:
    for syntax, explicit, little in (
        (EXPLICIT, True, True),
        (BIG_ENDIAN, True, False),
        (IMPLICIT, False, True),
    ):
        if _are_elements(head, at, _OF_GROUP_8, explicit=explicit, little=little):
            return syntax
    return ""


class _Element(NamedTuple):
    """An element in the first bytes of a file.

    Attributes:
        tag: group and number.
        vr: value representation; b"" in an implicit syntax.
        size: bytes of the whole value.
        value: as much of the value as the bytes hold.
    """

    tag: int
    vr: bytes
    size: int
    value: bytes


def _elements(head: bytes, at: int, *, explicit: bool, little: bool, meta: bool) -> Iterator[_Element | None]:
    """Yields the elements from the offset `at` on; None, and then nothing, for bytes that are no element.

    With `meta` it yields only those of the file meta information: the data set may have another encoding.
    """
    order = "<" if little else ">"
    while len(head) >= at + 8:
        group, number = struct.unpack_from(f"{order}HH", head, at)
        if meta and group != 2:
            return
        vr = head[at + 4 : at + 6] if explicit else b""
        start, form = at + 8, "H" if vr in _SHORT else "L"
        if vr in _LONG and head[at + 6 : at + 8] == b"\0\0":
            start += 4
        elif explicit and vr not in _SHORT:
            yield None
            return
        if len(head) < start:
            return
        (size,) = struct.unpack_from(order + form, head, start - struct.calcsize(order + form))
        yield _Element(group << 16 | number, vr, size, head[start : start + size])
        at = start + size


def _are_elements(head: bytes, at: int, known: dict[int, bytes], *, explicit: bool, little: bool) -> bool:
    """Returns whether elements with possible values begin at the offset `at`.

    The first element must be a known one. In an implicit syntax one of them must hold text, and a second one
    must follow unless the first is long enough.
    """
    last, count, texts = -1, 0, 0  # texts: characters
    for element in _elements(head, at, explicit=explicit, little=little, meta=known is _OF_META):
        if element is None or element.tag <= last or element.tag > _PIXEL_DATA:
            return False
        vr = known.get(element.tag, b"")
        if not _fits(element, vr) or (count == 0 and (not vr or (explicit and vr != element.vr))):
            return False
        if vr not in (b"", b"UL", b"OB"):
            texts += len(element.value.strip(b"\0 "))
        last, count = element.tag, count + 1
    return count >= 1 if explicit else texts >= (1 if count > 1 else _ENOUGH)


def _fits(element: _Element, vr: bytes) -> bool:
    """Returns whether an element's value can have a VR; any value can have the VR b""."""
    if vr == b"UL":
        return element.size == 4
    if vr in (b"", b"OB"):
        return True
    return element.size <= _LONGEST_TEXT and bool(_ALPHABETS.get(vr, _TEXT).fullmatch(element.value))


def codestream_size(data: bytes) -> tuple[int, int, int, int] | None:
    """Returns (rows, columns, components, bits) from the header of a JPEG, JPEG-LS or JPEG 2000 stream.

    It is None where the header cannot be read. Sources: ITU-T T.81 B.2.2, T.87 C.2.2, T.800 A.5.1.
    """
    if data.startswith(_JP2):
        data = data[max(data.find(_JPEG_2000), 0) :]
    if data.startswith(_JPEG_2000) and len(data) >= 43:
        right, bottom, left, top = (int.from_bytes(data[at : at + 4]) for at in (8, 12, 16, 20))
        return bottom - top, right - left, int.from_bytes(data[40:42]), (data[42] & 0x7F) + 1
    for marker, at in _segments(data):
        if marker in _START_OF_FRAME and at + 9 < len(data):
            rows, columns = (int.from_bytes(data[at + i : at + i + 2]) for i in (5, 7))
            return rows, columns, data[at + 9], data[at + 4]
    return None


def jpeg_is_ybr(data: bytes) -> bool | None:
    """Returns whether the three components of a JPEG stream are Y, Cb and Cr; None if that is not known.

    The JFIF marker decides, else the Adobe marker (ITU-T T.872, 6.5.3), else components named R, G and B.
    """
    adobe = None
    for marker, at in _segments(data):
        body = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
        if marker == 0xE0 and body.startswith(b"JFIF\0"):
            return True
        if marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11] != 0
        if marker in _START_OF_FRAME:
            names = bytes(body[6:15:3])
            return False if adobe is None and names in (b"RGB", b"rgb") else adobe
    return adobe


def _segments(data: bytes) -> list[tuple[int, int]]:
    """Returns (marker, offset) of the segments of a JPEG stream up to its first frame."""
    found = []
    at = 2
    while data.startswith(b"\xff\xd8") and at + 3 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == 0xDE:  # a hierarchical image: several sizes
            break
        found.append((marker, at))
        if marker in _START_OF_FRAME:
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return found
