"""What a file is, by its first bytes; what is not read is called by its name, with what to do."""

import gzip
import io
import json
import re
import tarfile
import zipfile

import numpy as np
import pytest
from image_files import saved, tiff
from PIL import Image

from tfrecords.images.decode import decode
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind

RULE = "allowed are JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF, HEIC, JPEG 2000, DICOM"
PLAIN = Image.new("RGB", (9, 7), (200, 100, 50))


def box(name, content):
    return (8 + len(content)).to_bytes(4) + name + content


def ftyp(*brands):
    return box(b"ftyp", brands[0] + bytes(4) + b"".join(brands)) + box(b"free", bytes(20))


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", saved(PLAIN))
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    return buffer.getvalue()


def array():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 4)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (saved(PLAIN, "JPEG"), "JPEG"),
        (saved(PLAIN, "PNG"), "PNG"),
        (saved(PLAIN, "BMP"), "BMP"),
        (saved(PLAIN, "WEBP"), "WebP"),
        (saved(PLAIN, "TIFF"), "TIFF"),
        (saved(PLAIN, "TIFF", big_tiff=True), "TIFF"),
        (saved(PLAIN, "GIF"), "GIF"),
        (saved(PLAIN, "AVIF"), "AVIF"),
        (ftyp(b"mif1", b"miaf", b"avif"), "AVIF"),
        (ftyp(b"avis", b"avif"), "AVIF"),
        (ftyp(b"heic", b"mif1", b"heic"), "HEIC"),
        (ftyp(b"heix", b"mif1"), "HEIC"),
        (ftyp(b"mif1", b"heic", b"miaf"), "HEIC"),
        (ftyp(b"msf1", b"hevc"), "HEIC"),
        (saved(PLAIN, "JPEG2000"), "JPEG 2000"),
        (saved(PLAIN, "JPEG2000", no_jp2=True), "JPEG 2000"),
        (bytes(128) + b"DICM", "DICOM"),
    ],
)
def test_a_kind_is_told_by_its_first_bytes(data, kind):
    assert check_kind(data[:HEAD_BYTES]) == kind


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
S3 = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'
SVG = b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'
TGA = bytes([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 7, 0, 24, 0]) + bytes(range(189))
NIFTI = (348).to_bytes(4, "little") + bytes(340) + b"n+1\0" + bytes(200)
MHD = b"ObjectType = Image\nNDims = 3\nElementDataFile = ct.raw\n"


@pytest.mark.parametrize(
    ("data", "name", "fix"),
    [
        (LFS, "Git LFS pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s12--ab.jpg\n", "git-annex pointer", "git annex get"),
        (b"8BPS\0\1" + bytes(20), "Photoshop (PSD)", "PNG"),
        (b"gimp xcf v011\0", "GIMP (XCF)", "PNG"),
        (b"<!DOCTYPE html>\n<html><head>", "HTML page", "download it again"),
        (b"\xef\xbb\xbf\r\n  <HTML lang='de'>", "HTML page", "download it again"),
        (S3, "XML page", "download it again"),
        (b"<Error><Code>NoSuchKey</Code></Error>", "XML page", "download it again"),
        (SVG, "SVG", "PNG"),
        (b'<svg width="9">', "SVG", "PNG"),
        (json.dumps({"error": "not found"}).encode(), "JSON", "remove it"),
        (json.dumps([{"id": 1}], indent=1).encode(), "JSON", "remove it"),
        (b"%PDF-1.7\n", "PDF", "PNG"),
        (b"%!PS-Adobe-3.0", "PostScript", "PNG"),
        (zipped(), "ZIP", "unpack it"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z", "unpack it"),
        (b"Rar!\x1a\x07\x01\0", "RAR", "unpack it"),
        (tarred(), "tar", "unpack it"),
        (gzip.compress(saved(PLAIN), mtime=0), "gzip", "unpack it"),
        (gzip.compress(NIFTI, mtime=0), ".nii.gz", "slice"),
        (NIFTI, "NIfTI", "slice"),
        (NIFTI[3::-1] + NIFTI[4:], "NIfTI", "slice"),
        ((540).to_bytes(4, "little") + b"n+2\0\r\n\x1a\n", "NIfTI", "slice"),
        (b"NRRD0004\ntype: short\n", "NRRD", "slice"),
        (MHD, "MetaImage", "slice"),
        (array(), "NumPy", "array"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5", "array"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "MATLAB", "array"),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(40), "camera RAW (CR2)", "develop it"),
        (ftyp(b"crx ", b"isom"), "camera RAW", "develop it"),
        (b"FUJIFILMCCD-RAW 0201", "camera RAW (RAF)", "develop it"),
        (b"IIU\0\x18\0\0\0", "camera RAW (RW2)", "develop it"),
        (saved(PLAIN, "ICO"), "icon (ICO)", "PNG"),
        (saved(PLAIN, "ICNS"), "icon (ICNS)", "PNG"),
        (saved(PLAIN, "TGA"), "TGA", "PNG"),
        (TGA, "TGA", "PNG"),
        (saved(PLAIN.convert("L"), "TGA", compression="tga_rle"), "TGA", "PNG"),
        (saved(PLAIN, "PPM"), "Netpbm", "PNG"),
        (saved(PLAIN, "PCX"), "PCX", "PNG"),
        (saved(PLAIN, "SGI"), "SGI", "PNG"),
        (saved(PLAIN, "DDS"), "DDS", "PNG"),
        (saved(PLAIN, "QOI"), "QOI", "PNG"),
        (saved(PLAIN, "EPS"), "PostScript", "PNG"),
        (b"\x76\x2f\x31\x01\2\0\0\0", "OpenEXR", "8 or 16 bits"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL", "PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "PNG"),
        (ftyp(b"isom", b"mp41"), "video (MP4, MOV)", "frame"),
        (ftyp(b"qt  "), "video (MP4, MOV)", "frame"),
        (b"RIFF\x24\0\0\0AVI LIST", "video (AVI)", "frame"),
        (b"\x1a\x45\xdf\xa3\x01\0\0\0", "video (MKV, WebM)", "frame"),
        (b"RIFF\x04\0\0\0WAVEfmt ", "sound (WAV)", "remove it"),
        (bytes(2000), "zeros", "download it again"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(20), "Thumbs.db", "remove it"),
        (b"\x00\x05\x16\x07\0\2\0\0Mac OS X", "AppleDouble", "remove it"),
        (b"data:image/png;base64,iVBORw0KGgo", "data URL", "decode"),
        (b"iVBORw0KGgoAAAANSUhEUgAA", "base64", "decode"),
        (b"/9j/4AAQSkZJRgABAQAAAQ", "base64", "decode"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_called_by_its_name(data, name, fix):
    for attempt in (
        lambda: check_kind(data[:HEAD_BYTES]),
        lambda: decode(data, height=4, width=4, channels=1),
    ):
        with pytest.raises(DecodeError) as caught:
            attempt()
        reason, what, rule = str(caught.value).split("; ")
        assert name in reason
        assert fix in what
        assert rule == RULE


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b"just some words", f"text, not an image: it starts with b'just som'; {RULE}"),
        (b"BMW,1\nVW,2\nAudi,3\nOpel,4\n", f"text, not an image: it starts with b'BMW,1\\nVW'; {RULE}"),
        ("Größe ".encode() * 80, f"text, not an image: it starts with {'Größe '.encode()!r}; {RULE}"),
        (b"\xff\xfex\0;\0y\0", f"text, not an image: it starts with b'\\xff\\xfex\\x00;\\x00y\\x00'; {RULE}"),
        (b"\x89PNX\r\n", f"not an image: it starts with b'\\x89PNX\\r\\n'; {RULE}"),
        (b"12345678WEBPVP8 \xff", f"not an image: it starts with b'12345678'; {RULE}"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_quoted(head, reason):
    with pytest.raises(DecodeError) as caught:
        check_kind(head[:HEAD_BYTES])
    assert str(caught.value) == reason
    with pytest.raises(DecodeError) as caught:
        check_kind(head[:HEAD_BYTES], quote=False)
    assert str(caught.value) == re.sub(r": it starts with b'.*'", "", reason)


def test_a_tiff_header_is_no_cameras():
    assert check_kind(tiff(4, 1, b"CR\2\0")) == "TIFF"
