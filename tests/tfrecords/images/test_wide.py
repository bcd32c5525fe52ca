"""Grayscale of more than 8 bits: its range, and what was seen of it."""

import io
import struct

import numpy as np
import pytest
from image_files import png, saved, tiff
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.images.decode import content_hash, decode, decode_fingerprinted, extent_of
from tfrecords.images.kinds import DecodeError
from tfrecords.images.wide import Extent, parse_value_range

VALUES = (0, 100, 2048, 4095)
SHAPE = {"height": 1, "width": 4, "channels": 1}


def words(*values):
    return struct.pack(f"<{len(values)}H", *values)


PNG = saved(Image.fromarray(np.array([VALUES], np.uint16)))
KINDS = {
    "PNG": PNG,
    "TIFF": tiff(4, 1, words(*VALUES), bits=(16,)),
    "JPEG 2000": saved(Image.fromarray(np.array([VALUES], np.uint16)), "JPEG2000"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value_range", "expected"),
    [
        ("full", [0, 0, 8, 16]),  # round(v * 255 / 65535): 17 grey levels
        ("0:4095", [0, 6, 128, 255]),  # round(v * 255 / 4095)
        ("100:2048", [0, 0, 255, 255]),  # what is beyond is clipped
        ("0:65535", [0, 0, 8, 16]),
    ],
)
def test_the_value_range(kind, value_range, expected):
    found = decode_fingerprinted(KINDS[kind], **SHAPE, value_range=value_range)
    assert found.pixels[0, :, 0].tolist() == expected
    assert found.extent == Extent(0, 4095, 65535)
    again = decode(KINDS[kind], **SHAPE, value_range=value_range)
    np.testing.assert_array_equal(again, found.pixels)


def test_twelve_bits_that_the_header_tells():
    twelve = tiff(4, 1, bytes([0x00, 0x00, 0x64, 0x80, 0x0F, 0xFF]), bits=(12,))
    assert decode(twelve, **SHAPE)[0, :, 0].tolist() == [0, 6, 128, 255]
    assert decode(twelve, **SHAPE, value_range="0:2048")[0, :, 0].tolist() == [0, 12, 255, 255]
    assert decode_fingerprinted(twelve, **SHAPE).extent == Extent(0, 4095, 4095)


def test_a_jpeg_2000_of_12_bits():
    """Pillow gives them moved up by four bits."""
    openjpeg = pytest.importorskip("openjpeg.utils", reason="the dicom extra is not installed")
    stored = np.tile(np.array(VALUES, np.uint16), (64, 16))
    data = bytes(openjpeg.encode_array(stored, bits_stored=12))
    shape = {"height": 64, "width": 64, "channels": 1}
    assert decode(data, **shape)[9, :4, 0].tolist() == [0, 6, 128, 255]
    assert decode(data, **shape, value_range="0:2048")[9, :4, 0].tolist() == [0, 12, 255, 255]
    assert decode_fingerprinted(data, **shape).extent == Extent(0, 4095, 4095)


def test_white_is_zero_within_a_range_too():
    data = tiff(4, 1, words(*VALUES), bits=(16,), photometric=0)
    assert decode(data, **SHAPE, value_range="0:4095")[0, :, 0].tolist() == [255, 249, 127, 0]


def test_8_bits_are_as_ever():
    for data in (
        saved(Image.fromarray(np.array([[0, 9, 99, 255]], np.uint8))),
        tiff(4, 1, bytes([0, 9, 99, 255])),
    ):
        assert decode(data, **SHAPE, value_range="0:4095")[0, :, 0].tolist() == [0, 9, 99, 255]
        assert decode_fingerprinted(data, **SHAPE).extent is None


def test_colour_of_16_bits_is_told_and_refused_with_a_range():
    data = png(4, 1, 16, 2, b"\0" + struct.pack(">12H", *[v for v in VALUES for _ in "RGB"]))
    found = decode_fingerprinted(data, **SHAPE)
    assert found.pixels[0, :, 0].tolist() == [0, 0, 8, 15]  # the high bytes
    assert (found.extent, found.coarse) == (None, Extent(0, 4095, 65535))
    with pytest.raises(DecodeError) as caught:
        decode(data, **SHAPE, value_range="0:4095")
    for fact in ("--value_range=0:4095", "8 bits", "16-bit grayscale"):
        assert fact in str(caught.value)


def test_the_content_hash_sees_what_the_range_shows():
    shifted = saved(Image.fromarray(np.array([[1, 101, 2049, 4095]], np.uint16)))
    assert content_hash(PNG, **SHAPE) == content_hash(shifted, **SHAPE)
    assert content_hash(PNG, **SHAPE, value_range="0:255") != content_hash(
        shifted, **SHAPE, value_range="0:255"
    )


def test_the_extent_of_a_file():
    for data in KINDS.values():
        assert extent_of(io.BytesIO(data)) == Extent(0, 4095, 65535)
    for data in (
        saved(Image.new("RGB", (4, 4))),
        saved(Image.new("L", (4, 4)), "TIFF"),
        b"words",
        PNG[:45],
        b"",
    ):
        assert extent_of(io.BytesIO(data)) is None


def test_two_extents():
    assert Extent(5, 90, 4095) | Extent(7, 100, 65535, 3) == Extent(5, 100, 65535, 4)
    assert Extent(5, 90, 4095) | None == Extent(5, 90, 4095)


@pytest.mark.parametrize(
    ("high", "in_use", "levels"),
    [(0, "0:1", 1), (255, "0:255", 2), (256, "0:511", 2), (4095, "0:4095", 17), (65535, "0:65535", 256)],
)
def test_the_bits_in_use(high, in_use, levels):
    extent = Extent(0, high, 65535)
    assert (extent.in_use, extent.levels) == (in_use, levels)


@pytest.mark.parametrize(
    ("text", "value"), [("full", "full"), (" auto", "auto"), ("0:4095", "0:4095"), ("010:0200", "10:200")]
)
def test_a_value_range(text, value):
    assert parse_value_range(text) == value


@pytest.mark.parametrize(
    "text", ["", "4095", "0-4095", "-5:90", "0:65536", "9:9", "90:5", "0:1.5", "all", "0:4095:2"]
)
def test_no_value_range(text, facts):
    with pytest.raises(InputError) as caught:
        parse_value_range(text)
    message = str(caught.value)
    assert message.startswith(f"--value_range={text}: ")
    for fact in ("full", "auto", "LOW:HIGH", "65535", "0:4095"):
        assert fact in message
