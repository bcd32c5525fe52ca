import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the dicom extra is not installed")

from dicom_files import dicom, jpeg_lossless, without_meta, without_preamble
from PIL import Image
from pydicom.data import get_testdata_file

from tfrecords.images.decode import check_header, decode
from tfrecords.images.dicom import decode_dicom
from tfrecords.images.dicom_bytes import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    codestream_size,
    has_no_preamble,
    jpeg_is_ybr,
    transfer_syntax,
)
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind

NOISE = np.random.default_rng(0).integers(0, 1 << 16, (36, 41), dtype=np.uint16)
RAMP = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)
ALL = {"WindowCenter": 2048, "WindowWidth": 4096}
GREYS = [[0, 62, 125, 187, 249]]
UNCOMPRESSED = {"explicit": EXPLICIT, "implicit": IMPLICIT, "big endian": BIG_ENDIAN}
OPENINGS = [
    {},
    {"SpecificCharacterSet": "ISO_IR 100"},
    {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "ImageType": ["DERIVED", "SECONDARY"]},
    {"SpecificCharacterSet": ""},
    {"LengthToEnd": 12345},
    {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "M", "NORM", "DIS2D"] * 4},
    {"InstanceCreationDate": "20190317", "InstanceCreationTime": "094233.12"},
]


def no_uid(data):
    """Returns a file whose meta information has no transfer syntax."""
    at = data.index(b"\x02\0\x10\0UI")
    return data[:at] + data[at + 8 + data[at + 6] :]


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("syntax", UNCOMPRESSED)
@pytest.mark.parametrize(
    "harm",
    [
        without_preamble,
        without_meta,
        no_uid,
        lambda data: bytes(128) + b"DICM" + without_meta(data),
        lambda data: without_preamble(no_uid(data)),
        lambda data: data[128:],  # the prefix is there
    ],
)
def test_files_without_a_preamble_are_read(syntax, harm, opening):
    data = harm(dicom(RAMP, syntax, **ALL, **opening))
    assert check_kind(data[:HEAD_BYTES]) == "DICOM"
    assert transfer_syntax(data) == UNCOMPRESSED[syntax]
    assert decode_dicom(data).tolist() == GREYS
    assert decode(data, height=1, width=5, channels=1)[..., 0].tolist() == GREYS
    assert check_header(io.BytesIO(data)) == "patient"


@pytest.mark.parametrize("syntax", ["RLE", "JPEG lossless", "JPEG 2000"])
def test_compressed_files_without_a_preamble_are_read(syntax):
    data = dicom(NOISE, syntax)
    np.testing.assert_array_equal(decode_dicom(without_preamble(data)), decode_dicom(data))
    reason = "in fragments, in a transfer syntax of no compression: TransferSyntaxUID is wrong or missing"
    with pytest.raises(DecodeError, match=reason):
        decode_dicom(without_meta(data))


def test_file_meta_information_without_value_representations():
    """Which the standard does not allow."""
    data = dicom(RAMP, "implicit", **ALL)
    uid = IMPLICIT.encode() + b"\0" * (len(IMPLICIT) % 2)
    meta = b"\x02\0\x10\0" + len(uid).to_bytes(4, "little") + uid
    assert decode_dicom(data[:132] + meta + without_meta(data)).tolist() == GREYS


@pytest.mark.parametrize(
    "name", ["ExplVR_BigEndNoMeta", "ExplVR_LitEndNoMeta", "meta_missing_tsyntax", "no_meta_group_length"]
)
def test_files_of_other_makers_are_called_dicom(name):
    data = Path(get_testdata_file(f"{name}.dcm", download=False)).read_bytes()
    assert check_kind(data[:HEAD_BYTES]) == "DICOM"
    with pytest.raises(DecodeError, match=r"^a DICOM file wh|^a DICOM file without "):
        decode_dicom(data)  # none is an image


def saved(kind, image=None, **options):
    buffer = io.BytesIO()
    (image or Image.fromarray((NOISE >> 8).astype(np.uint8))).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        *(saved(kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "ICO", "TGA", "PCX")),
        b"",
        b"\2\0",
        b"\x08\0\x05\0CS",
        bytes(200),
        b"\xff" * 200,
        "\x08\x05 a text in UTF-16 with odd beginnings, quite a long one".encode("utf-16-le"),
        "patient;label\nP-1;NORMAL\n".encode("utf-16"),
        b"patient,label\nP-1,NORMAL\n" * 9,
        b"UI" * 99,
        b"DICM" * 31 + b"DIC",
        b"DICM is how it begins, but it is a text of more than a few words",
        # numbers, as many programs write them
        *(
            np.arange(start, 99, dtype=kind).tobytes()
            for start in (0, 2, 8)
            for kind in ("<u2", "<u4", ">u2")
        ),
        np.array([8, 4, 9, 16, 4, 9], "<u4").tobytes() * 9,
        np.array([2, 5, 7, 2, 9] * 20, "<u4").tobytes(),
        np.array([8.0, 1.0] * 20, "<f4").tobytes(),
        # no element of the place, a wrong value, a wrong order
        b"\x08\0\x05\0LO\x0a\0ISO_IR 100" + b"\x08\0\x16\0UI\x02\x001.",
        b"\x08\0\x05\0CS\x0a\0\0\1\2\3\4\5\6\7\x08\x09" + b"\x08\0\x16\0UI\x02\x001.",
        b"\x08\0\x16\0UI\x02\x001." + b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
        b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100" + b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100",
        b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100",
        b"\x02\0\x00\0UL\x05\0\0\0\0\0\0",
    ],
)
def test_nothing_else_is_called_dicom(data):
    assert not has_no_preamble(data[:HEAD_BYTES])


def test_random_bytes_are_not_called_dicom():
    """Not even those that open as a DICOM file does."""
    random = np.random.default_rng(0)
    for opening in (b"", b"\x08\0\x05\0", b"\0\x08\0\x05", b"\x02\0\0\0", b"\x08\0\0\0\4\0\0\0"):
        for _ in range(2000):
            assert not has_no_preamble(opening + random.bytes(HEAD_BYTES - len(opening)))


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (jpeg_lossless(NOISE.astype(np.int64), 16), (36, 41, 1, 16)),
        (b"\xff\xd8\xff\xff\xff" + jpeg_lossless(NOISE.astype(np.int64), 16)[3:], (36, 41, 1, 16)),
        (saved("JPEG", Image.fromarray(NOISE[:, :30] >> 8).convert("RGB"), progressive=True), (36, 30, 3, 8)),
        (saved("JPEG2000", no_jp2=True), (36, 41, 1, 8)),
        (saved("JPEG2000"), (36, 41, 1, 8)),  # a file around it
        (b"\xff\xd8\xff\xde\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0", None),
        (b"\xff\xd8\xff\xe0", None),
        (b"\xff\x4f\xff\x51", None),
        (b"", None),
    ],
)
def test_the_size_in_a_compressed_image(data, size):
    assert codestream_size(data) == size


@pytest.mark.parametrize(
    ("options", "is_ybr"), [({}, True), ({"keep_rgb": True}, False), ({"progressive": True}, True)]
)
def test_the_colours_of_a_jpeg(options, is_ybr):
    image = Image.fromarray(NOISE >> 8).convert("RGB")
    assert jpeg_is_ybr(saved("JPEG", image, **options)) is is_ybr
    assert jpeg_is_ybr(saved("JPEG", image)[:2] + saved("JPEG", image)[20:]) is None
    assert jpeg_is_ybr(b"\xff\xd8") is None
