import io
import re
import struct

import pytest
from image_files import flat, pixels, png, saved, tiff

from tfrecords.images.decode import check_header
from tfrecords.images.kinds import MAX_PIXELS, DecodeError


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "AVIF"])
def test_animations_are_refused(kind):
    frames = [flat("RGB", (9, 9, 9)), flat("RGB", (200, 9, 9))]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    for attempt in (lambda: pixels(data, 1), lambda: check_header(io.BytesIO(data))):
        with pytest.raises(DecodeError) as caught:
            attempt()
        assert str(caught.value) == "an animation; save the frame that you need as an image of its own"


def jpeg_2000_header(width, height, *, bits=8, signed=False):
    siz = struct.pack(">HHIIIIIIIIH", 41, 0, width, height, 0, 0, width, height, 0, 0, 1)
    return b"\xff\x4f\xff\x51" + siz + bytes([bits - 1 | signed << 7, 1, 1]) + bytes(90)


def jpeg_2000_whose_box_lies():
    data = saved(flat("L", 9), "JPEG2000")
    at = data.index(b"\xff\x4f\xff\x51") + 8
    return data[:at] + struct.pack(">II", 10_000, 9_000) + data[at + 8 :]


@pytest.mark.parametrize(("bits", "signed"), [(8, True), (16, True), (17, False), (32, False)])
def test_jpeg_2000_numbers_whose_range_is_not_known_are_refused(bits, signed):
    data = jpeg_2000_header(4, 4, bits=bits, signed=signed)
    for attempt in (lambda: pixels(data, 1), lambda: check_header(io.BytesIO(data))):
        with pytest.raises(
            DecodeError, match="a JPEG 2000 file whose values are signed or have more than 16 bits"
        ):
            attempt()


@pytest.mark.parametrize(
    ("bits", "sample_format", "kind"),
    [(32, 3, "f"), (32, 1, "I"), (32, 2, "i"), (16, 2, "h"), (8, 2, "b")],
)
def test_numbers_whose_range_is_not_known_are_refused(bits, sample_format, kind, facts):
    data = tiff(4, 1, struct.pack(f"<4{kind}", 0, 1, 2, 3), bits=(bits,), t339=(sample_format,))
    with pytest.raises(DecodeError) as caught:
        pixels(data, 1)
    assert re.search(
        facts(
            "a TIFF file whose values have 32 bits, or are signed or floating: their range is not known; "
            "scale them to 8 or 16 bits without sign"
        ),
        str(caught.value),
    )


def webp_header(form, width, height):
    if form == b"VP8X":
        body = b"\0" * 4 + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    elif form == b"VP8L":
        body = b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14)
    else:
        body = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    body = form + struct.pack("<I", len(body)) + body + b"\0" * 40
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize(
    ("data", "width", "height"),
    [
        (webp_header(b"VP8X", 10_000, 9_999), 10_000, 9_999),
        (webp_header(b"VP8X", 1 << 24, 1 << 24), 1 << 24, 1 << 24),
        (webp_header(b"VP8L", 16_384, 16_383), 16_384, 16_383),
        (webp_header(b"VP8 ", 16_383, 16_382), 16_383, 16_382),
        (tiff(10_000, 9_000, b"\0"), 10_000, 9_000),
        (jpeg_2000_header(10_000, 9_000), 10_000, 9_000),
        (jpeg_2000_whose_box_lies(), 10_000, 9_000),
        (
            b"GIF89a" + struct.pack("<HH", 10_000, 9_000) + b"\0\0\0,\0\0\0\0\x10'\x28#\0\2\1\0\0;",
            10_000,
            9_000,
        ),
        (tiff(16, 16, b"\0", t322=(60_000,), t323=(60_000,)), 60_000, 60_000),
    ],
)
def test_other_huge_images_are_refused_from_their_headers(data, width, height, facts):
    for attempt in (lambda: pixels(data, 1), lambda: check_header(io.BytesIO(data))):
        with pytest.raises(DecodeError) as caught:
            attempt()
        said = facts(f"its header says {width}x{height} pixels; at most {MAX_PIXELS} are read")
        assert re.search(said, str(caught.value))


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (100_000, 100_000, "cannot be decoded: Image size (10000000000 pixels) exceeds limit"),
        (10_000, 10_000, f"its header says 10000x10000 pixels; at most {MAX_PIXELS} are read"),
        (MAX_PIXELS + 1, 1, f"its header says {MAX_PIXELS + 1}x1 pixels; at most {MAX_PIXELS} are read"),
    ],
)  # fmt: skip
def test_a_huge_image_is_refused_from_its_header(width, height, reason):
    with pytest.raises(DecodeError) as caught:
        pixels(png(width, height, 8, 0, b"no rows at all"), 1)  # decoding it would say: truncated
    assert str(caught.value).startswith(reason)


def test_just_below_the_limit_it_is_decoded():
    with pytest.raises(DecodeError, match=r"^cannot be decoded: .*(truncated|broken|decoder)"):
        pixels(png(MAX_PIXELS // 100, 100, 8, 0, b"\x00"), 1)
