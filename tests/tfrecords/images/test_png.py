"""A PNG is read whatever text stands in it."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from image_files import chunk, pixels, png, saved
from PIL import Image, PngImagePlugin

from tfrecords.images.decode import check_header, decode
from tfrecords.images.kinds import DecodeError
from tfrecords.images.png import without_large_text

ROWS = b"\0" + bytes([10, 200]) + b"\0" + bytes([90, 120])
WORDS = b"words " * 500_000  # three megabytes; Pillow stops at one
PACKED = zlib.compress(WORDS)
ORIENTATION = b'<x:xmpmeta tiff:Orientation="3"/>'
TEXTS = {
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + PACKED),
    "iTXt": chunk(b"iTXt", b"Comment\0\1\0en\0\0" + PACKED),
    "plain iTXt": chunk(b"iTXt", b"Comment\0\0\0en\0\0" + WORDS),
    "tEXt": chunk(b"tEXt", b"Comment\0" + WORDS),
    "many": b"".join(chunk(b"zTXt", b"C%d\0\0" % n + zlib.compress(WORDS[:900_000])) for n in range(80)),
    "iCCP": chunk(b"iCCP", b"sRGB\0\0" + PACKED),
}


def found(data):
    check_header(io.BytesIO(data))
    return decode(data, height=2, width=2, channels=1)[..., 0].tolist()


@pytest.mark.parametrize("name", TEXTS)
def test_large_text_is_passed_over(name):
    assert found(png(2, 2, 8, 0, ROWS, extra=TEXTS[name])) == [[10, 200], [90, 120]]


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - {"iCCP"}))
def test_large_text_behind_the_pixels_too(name):
    plain = png(2, 2, 8, 0, ROWS)
    assert found(plain[:-12] + TEXTS[name] + plain[-12:]) == [[10, 200], [90, 120]]


def test_pillow_alone_refuses_it():
    assert len(WORDS) > PngImagePlugin.MAX_TEXT_CHUNK
    for name in ("zTXt", "iTXt", "many"):
        with (
            pytest.raises(ValueError, match=r"(?i)text"),
            Image.open(io.BytesIO(png(2, 2, 8, 0, ROWS, extra=TEXTS[name]))),
        ):
            pass


def test_an_orientation_beside_it_is_applied():
    small = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + ORIENTATION)
    for extra in (small, small + TEXTS["zTXt"], TEXTS["iTXt"] + small):
        assert found(png(2, 2, 8, 0, ROWS, extra=extra)) == [[120, 90], [200, 10]]


def test_a_bomb_in_a_text_costs_nothing():
    bomb = zlib.compressobj()
    packed = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush()
    data = png(2, 2, 8, 0, ROWS, extra=chunk(b"zTXt", b"Comment\0\0" + packed))
    assert without_large_text(data) == png(2, 2, 8, 0, ROWS)
    assert found(data) == [[10, 200], [90, 120]]


def test_other_damage_is_still_refused():
    data = png(2, 2, 8, 0, b"no rows", extra=TEXTS["zTXt"])
    with pytest.raises(DecodeError):
        found(data)
    broken = bytearray(png(2, 2, 8, 0, ROWS, extra=TEXTS["zTXt"]))
    broken[20] ^= 1  # the height
    with pytest.raises(DecodeError):
        found(bytes(broken))


def test_all_else_stays():
    data = png(
        2, 2, 8, 0, ROWS, extra=chunk(b"tEXt", b"Comment\0short") + chunk(b"gAMA", struct.pack(">I", 45455))
    )
    assert without_large_text(data) == data
    assert np.shape(found(data)) == (2, 2)


def test_an_interlaced_png_is_as_any_other():
    image = np.random.default_rng(0).integers(0, 256, (13, 11), dtype=np.uint8)
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in image[y::dy, x::dx])
    found = pixels(png(11, 13, 8, 0, rows, interlaced=True), 1, height=13, width=11)
    np.testing.assert_array_equal(found[..., 0], image)


def test_every_damaged_byte_of_a_png_is_refused_or_harmless():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8))
    data = saved(image)
    whole = pixels(data, 1, height=12, width=12)
    refused = 0
    for at, bit in itertools.product(range(len(data)), (1, 128)):
        damaged = bytearray(data)
        damaged[at] ^= bit
        try:
            found = pixels(bytes(damaged), 1, height=12, width=12)
        except DecodeError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, whole)
    assert refused > len(data)
