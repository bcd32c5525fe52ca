"""Files of unsupported kinds: recognised by their first bytes, named, and with a way to mend it."""

import re
import zlib
from typing import Final, NamedTuple


class Unsupported(NamedTuple):
    """What a file is, such as "a PDF file", and the fix."""

    name: str
    fix: str


_EXPORT: Final = "export it as PNG"
_UNPACK: Final = "unpack it and give the folder of its images"
_AGAIN: Final = "download it again"
_FRAME: Final = "save the frame that you need as an image of its own"
_SLICE: Final = "save the slice that you need as an image of its own"
_ARRAY: Final = "save its array as a PNG or TIFF file"
_DEVELOP: Final = "develop it to TIFF or PNG"
_REMOVE: Final = "remove it"

TEXT: Final = "text"
CANON: Final = b"II*\x00\x10\x00\x00\x00CR"  # a CR2 file; else it looks like a TIFF
CAMERA_RAW: Final = Unsupported("a camera RAW file", _DEVELOP)

_SIGNATURES: Final = (  # (bytes, position, name, fix); the first match counts
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the image itself", "run git lfs pull"),
    (b"/annex/objects/", 0, "a git-annex pointer, not the image itself", "run git annex get"),
    (b"8BPS", 0, "a Photoshop (PSD) file", _EXPORT),
    (b"gimp xcf", 0, "a GIMP (XCF) file", _EXPORT),
    (b"%PDF", 0, "a PDF file", "export its pages as PNG"),
    (b"%!PS", 0, "a PostScript file", _EXPORT),
    (b"\xc5\xd0\xd3\xc6", 0, "a PostScript (EPS) file", _EXPORT),
    (b"AT&TFORM", 0, "a DjVu file", "export its pages as PNG"),
    (b"PK\x03\x04", 0, "a ZIP file", _UNPACK),
    (b"PK\x05\x06", 0, "a ZIP file with nothing in it", _AGAIN),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z file", _UNPACK),
    (b"Rar!\x1a\x07", 0, "a RAR file", _UNPACK),
    (b"BZh", 0, "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ\x00", 0, "an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", 0, "a Zstandard file", _UNPACK),
    (b"ustar", 257, "a tar file", _UNPACK),
    (b"\x93NUMPY", 0, "a NumPy (.npy) file", _ARRAY),
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file", _ARRAY),
    (b"MATLAB ", 0, "a MATLAB file", _ARRAY),
    (b"CDF\x01", 0, "a NetCDF or MINC file", _SLICE),
    (b"CDF\x02", 0, "a NetCDF or MINC file", _SLICE),
    (b"\x5c\x01\x00\x00", 0, "a NIfTI or Analyze volume", _SLICE),
    (b"\x00\x00\x01\x5c", 0, "a NIfTI or Analyze volume", _SLICE),
    (b"\x1c\x02\x00\x00n", 0, "a NIfTI volume", _SLICE),
    (b"\x00\x00\x02\x1cn", 0, "a NIfTI volume", _SLICE),
    (b"n+1\x00", 344, "a NIfTI volume", _SLICE),
    (b"NRRD000", 0, "an NRRD volume", _SLICE),
    (b"ObjectType = Image", 0, "a MetaImage (MHD, MHA) header", _SLICE),
    (b"NDims = ", 0, "a MetaImage (MHD, MHA) header", _SLICE),
    (b"SIMPLE  =", 0, "a FITS file", _ARRAY),
    (b"ZISRAWFILE", 0, "a Zeiss (CZI) file", _EXPORT),
    (CANON, 0, "a camera RAW (CR2) file", _DEVELOP),
    (b"II\x1a\x00\x00\x00HEAPCCDR", 0, "a camera RAW (CRW) file", _DEVELOP),
    (b"IIRO", 0, "a camera RAW (ORF) file", _DEVELOP),
    (b"IIRS", 0, "a camera RAW (ORF) file", _DEVELOP),
    (b"MMOR", 0, "a camera RAW (ORF) file", _DEVELOP),
    (b"IIU\x00", 0, "a camera RAW (RW2) file", _DEVELOP),
    (b"FUJIFILMCCD-RAW", 0, "a camera RAW (RAF) file", _DEVELOP),
    (b"FOVb", 0, "a camera RAW (X3F) file", _DEVELOP),
    (b"\x00MRM", 0, "a camera RAW (MRW) file", _DEVELOP),
    (b"icns", 0, "an icon (ICNS) file", _EXPORT),
    (b"\x76\x2f\x31\x01", 0, "an OpenEXR file", "scale it to 8 or 16 bits, as PNG"),
    (b"#?RADIANCE", 0, "a Radiance (HDR) file", "scale it to 8 or 16 bits, as PNG"),
    (b"#?RGBE", 0, "a Radiance (HDR) file", "scale it to 8 or 16 bits, as PNG"),
    (b"\xff\x0a", 0, "a JPEG XL file", _EXPORT),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", 0, "a JPEG XL file", _EXPORT),
    (b"II\xbc", 0, "a JPEG XR file", _EXPORT),
    (b"\x8aMNG\r\n\x1a\n", 0, "an MNG animation", _FRAME),
    (b"DDS ", 0, "a DirectDraw (DDS) file", _EXPORT),
    (b"qoif", 0, "a QOI file", _EXPORT),
    (b"BPG\xfb", 0, "a BPG file", _EXPORT),
    (b"\x0a\x05\x01", 0, "a PCX file", _EXPORT),
    (b"\x01\xda", 0, "an SGI file", _EXPORT),
    (b"\x59\xa6\x6a\x95", 0, "a Sun raster file", _EXPORT),
    (b"\xd7\xcd\xc6\x9a", 0, "a Windows metafile (WMF)", _EXPORT),
    (b" EMF", 40, "a Windows metafile (EMF)", _EXPORT),
    (b"moov", 4, "a video (MOV) file", _FRAME),
    (b"mdat", 4, "a video (MOV) file", _FRAME),
    (b"\x1a\x45\xdf\xa3", 0, "a video (MKV, WebM) file", _FRAME),
    (b"FLV\x01", 0, "a video (FLV) file", _FRAME),
    (b"\x00\x00\x01\xba", 0, "a video (MPEG) file", _FRAME),
    (b"\x00\x00\x01\xb3", 0, "a video (MPEG) file", _FRAME),
    (b"OggS", 0, "a video or sound (Ogg) file", _FRAME),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, "a video (WMV) file", _FRAME),
    (b"ID3", 0, "a sound (MP3) file", _REMOVE),
    (b"PAR1", 0, "a Parquet file", "give it as --listing if it lists the images"),
    (b"SQLite format 3\x00", 0, "an SQLite database", _REMOVE),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0, "a file of Microsoft Office or Windows (Thumbs.db)", _REMOVE),
    (b"\x00\x05\x16\x07", 0, "a resource file of macOS (AppleDouble), not the image itself", _REMOVE),
    (b"bplist00", 0, "a property list of macOS", _REMOVE),
    (b"book\x00\x00\x00\x00mark", 0, "an alias of macOS", "give the file that it stands for"),
    (b"L\x00\x00\x00\x01\x14\x02\x00", 0, "a shortcut (LNK) of Windows", "give the file that it stands for"),
    (b"\x7fELF", 0, "a program", _REMOVE),
    (b"MZ", 0, "a program", _REMOVE),
)

_NETPBM: Final = re.compile(rb"P[1-7]\s")
_MARKUP: Final = (  # matched at the start of the text, in lower case
    (re.compile(rb"<svg|<\?xml.*<svg", re.DOTALL), Unsupported("an SVG drawing", _EXPORT)),
    (
        re.compile(rb"<!doctype html|<html|<head|<body|<script"),
        Unsupported("an HTML page, as a failed download leaves it", _AGAIN),
    ),
    (re.compile(rb"<\?xml|<[a-z]+[ >]"), Unsupported("an XML page, as a failed download leaves it", _AGAIN)),
    (re.compile(rb'\{\s*["}]|\[\s*[\[{"\d-]'), Unsupported("a JSON file", _REMOVE)),
    (re.compile(rb"data:image/"), Unsupported("an image as text (a data URL)", "decode its base64 text")),
    (re.compile(rb"ivborw0kggo|/9j/[24]"), Unsupported("an image as text (base64)", "decode it")),
)


def identify_unsupported(head: bytes) -> Unsupported | None:
    """Returns what an unsupported file is, from its first bytes; None if that is not known."""
    for signature, at, name, fix in _SIGNATURES:
        if head.startswith(signature, at):
            return Unsupported(name, fix)
    return (
        _in_a_container(head)
        or _as_text(head)
        or (Unsupported("a TGA file", _EXPORT) if _is_tga(head) else None)
    )


def _in_a_container(head: bytes) -> Unsupported | None:
    """Returns what a file is whose kind depends on what its container holds; None if it is no such file."""
    found = None
    if head[:2] == b"\x1f\x8b":
        volume = b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"
        if _unpacked(head).startswith(volume):
            found = Unsupported("a compressed NIfTI (.nii.gz) volume", _SLICE)
        else:
            found = Unsupported("a gzip file", _UNPACK)
    elif head[4:8] == b"ftyp":
        found = CAMERA_RAW if head[8:11] == b"crx" else Unsupported("a video (MP4, MOV) file", _FRAME)
    elif head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"):
        is_video = head[8:12] == b"AVI "
        found = (
            Unsupported("a video (AVI) file", _FRAME)
            if is_video
            else Unsupported("a sound (WAV) file", _REMOVE)
        )
    elif len(head) > 3 and not head.strip(b"\x00"):
        found = Unsupported(
            "a file of zeros, which a crash or a full disk leaves", "copy or download it again"
        )
    elif head[:4] in (b"\x00\x00\x01\x00", b"\x00\x00\x02\x00") and any(head[4:6]):
        found = Unsupported("an icon (ICO) or cursor (CUR) file", _EXPORT)
    elif _NETPBM.match(head):
        found = Unsupported("a Netpbm (PBM, PGM, PPM) file", _EXPORT)
    return found


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(head, 16)
    except zlib.error:
        return b""


def _as_text(head: bytes) -> Unsupported | None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Unsupported(TEXT, _REMOVE)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for pattern, found in _MARKUP:
        if pattern.match(start):
            return found
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":  # the head may end inside a letter
            return None
        text = head[: error.start].decode()
    readable = len(text) > 3 and all(letter.isprintable() or letter.isspace() for letter in text)
    return Unsupported(TEXT, _REMOVE) if readable else None


def _is_tga(head: bytes) -> bool:
    """Returns whether the first 18 bytes are a possible TGA header; the format has no signature."""
    if len(head) < 18:
        return False
    sides = int.from_bytes(head[12:14], "little"), int.from_bytes(head[14:16], "little")
    palette = head[2] in (1, 9)
    return (
        head[2] in (1, 2, 3, 9, 10, 11)
        and head[1] == palette
        and (palette or not any(head[3:8]))
        and head[16] in ((8,) if palette or head[2] in (3, 11) else (15, 16, 24, 32))
        and all(sides)
        and head[17] & 0xC0 == 0
    )
