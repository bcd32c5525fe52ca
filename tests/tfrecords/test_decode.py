import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfrecords.decode import MAX_PIXELS, DecodeError, check_kind, decode


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def array_image(values, mode=None):
    array = np.array(values, np.uint8)
    return Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)


def png(width, height, depth, colour, rows=b"", *, extra=b""):
    """Builds a PNG from its raw rows: for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pixels(data, channels, *, height=1, width=4):
    return decode(data, height=height, width=width, channels=channels)


COLOURS = [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]]]
TRIPLES = bytes(np.ravel(COLOURS).tolist())
LUMA = [76, 150, 29, 124]  # ITU-R 601-2: (299 R + 587 G + 114 B) / 1000, rounded
GREYS = [[0, 1, 128, 255]]
ALPHA = [[[255, 0, 0, 255], [255, 255, 255, 0], [255, 255, 255, 51], [200, 100, 50, 255]]]
ON_BLACK = [[255, 0, 0], [0, 0, 0], [51, 51, 51], [200, 100, 50]]
WIDE = [0, 511, 0x8080, 65535]


def wide_png(values, colour):
    return png(4, 1, 16, colour, b"\x00" + struct.pack(f">{len(values)}H", *values))


@pytest.mark.parametrize(
    ("data", "grey", "colour"),
    [
        pytest.param(saved(array_image(GREYS)), GREYS[0], None, id="grayscale PNG"),
        pytest.param(saved(array_image(GREYS), "BMP"), GREYS[0], None, id="grayscale BMP"),
        pytest.param(saved(array_image(COLOURS)), LUMA, COLOURS[0], id="RGB PNG"),
        pytest.param(saved(array_image(COLOURS), "BMP"), LUMA, COLOURS[0], id="RGB BMP"),
        # round(v * 255 / 65535), where the high byte alone would give 0, 1, 128, 255
        pytest.param(wide_png(WIDE, 0), [0, 2, 128, 255], None, id="16-bit grayscale"),
        pytest.param(
            wide_png([*[65535, 0, 0], *[0, 511, 0], *[0x8080, 0x8080, 0x8080], *[1, 255, 256]], 2),
            [76, 1, 128, 0],
            [[255, 0, 0], [0, 1, 0], [128, 128, 128], [0, 0, 1]],
            id="16-bit RGB",
        ),
        pytest.param(
            png(4, 1, 2, 3, b"\x00" + bytes([0b00011011]), extra=chunk(b"PLTE", TRIPLES)),
            LUMA,
            COLOURS[0],
            id="palette",
        ),
        pytest.param(
            png(
                4,
                1,
                2,
                3,
                b"\x00" + bytes([0b00011011]),
                extra=chunk(b"PLTE", bytes(np.array(ALPHA)[0, :, :3].ravel().tolist()))
                + chunk(b"tRNS", bytes([255, 0, 51, 255])),
            ),
            [76, 0, 51, 124],
            ON_BLACK,
            id="palette with alpha",
        ),
        pytest.param(saved(array_image(ALPHA)), [76, 0, 51, 124], ON_BLACK, id="RGBA"),
        pytest.param(
            saved(Image.fromarray(np.array([[[200, 255], [200, 0], [255, 51], [7, 255]]], np.uint8), "LA")),
            [200, 0, 51, 7],
            None,
            id="grayscale with alpha",
        ),
        pytest.param(
            png(4, 1, 8, 2, b"\x00" + TRIPLES, extra=chunk(b"tRNS", b"\0\0\0\xff\0\0")),
            [76, 0, 29, 124],
            [[255, 0, 0], [0, 0, 0], [0, 0, 255], [200, 100, 50]],
            id="RGB with one transparent colour",
        ),
        pytest.param(png(4, 1, 1, 0, b"\x00\x50"), [0, 255, 0, 255], None, id="1 bit"),
        pytest.param(
            saved(array_image([[0, 255, 0, 255]]).convert("1"), "BMP"), [0, 255, 0, 255], None, id="1-bit BMP"
        ),
        pytest.param(png(4, 1, 2, 0, b"\x00\x1b"), [0, 85, 170, 255], None, id="2 bits"),
    ],
)
def test_pixels_by_the_kind_of_image(data, grey, colour):
    assert pixels(data, 1)[0, :, 0].tolist() == grey
    assert pixels(data, 3)[0].tolist() == (colour or [[value] * 3 for value in grey])


def flat(mode, colour):
    return Image.new(mode, (16, 16), colour)


@pytest.mark.parametrize(
    ("image", "grey", "colour"),
    [
        (flat("L", 90), 90, (90, 90, 90)),
        (flat("RGB", (200, 100, 50)), 124, (200, 100, 50)),
        (flat("RGB", (255, 0, 0)), 76, (254, 0, 0)),
        (flat("CMYK", (0, 0, 0, 0)), 255, (255, 255, 255)),
        (flat("CMYK", (255, 0, 0, 0)), 179, (0, 255, 255)),
        (flat("CMYK", (0, 0, 0, 155)), 100, (100, 100, 100)),
    ],
)
def test_jpeg_pixels(image, grey, colour):
    data = saved(image, "JPEG", quality=100, subsampling=0)
    for channels, expected in ((1, [grey]), (3, colour)):
        found = pixels(data, channels, height=16, width=16)
        np.testing.assert_allclose(found.astype(int), np.broadcast_to(expected, found.shape), atol=1)


def test_a_jpegs_own_luma_is_taken():
    random = np.random.default_rng(0)
    data = saved(Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)), "JPEG", quality=60)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("YCbCr", image.size)
        luma = np.asarray(image)[..., 0]
    with Image.open(io.BytesIO(data)) as image:
        by_way_of_colour = np.asarray(image.convert("L"))
    found = pixels(data, 1, height=16, width=24)[..., 0]
    np.testing.assert_array_equal(found, luma)
    assert (found != by_way_of_colour).any()


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).T),
        (8, np.rot90),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_applied(orientation, turned, kind):
    blocks = np.kron(np.array([[10, 80, 160], [210, 250, 40]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = turned(blocks)
    found = pixels(
        saved(Image.fromarray(blocks), kind, exif=exif), 1, height=expected.shape[0], width=expected.shape[1]
    )
    np.testing.assert_allclose(found[..., 0].astype(int), expected, atol=2)


def test_the_resize_is_antialiased():
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    for channels in (1, 3):
        found = pixels(saved(Image.fromarray(checkerboard)), channels, height=16, width=16)
        assert (found.shape, found.dtype) == ((16, 16, channels), np.uint8)
        assert set(np.unique(found)) <= {127, 128}


def test_the_aspect_ratio_is_not_kept():
    halves = np.repeat(np.array([[0, 255]], np.uint8), [20, 20], axis=1).repeat(10, axis=0)
    found = pixels(saved(Image.fromarray(halves)), 1, height=30, width=10)[..., 0]
    assert (found[:, :4] == 0).all()
    assert (found[:, 6:] == 255).all()


def test_the_same_size_is_not_resampled():
    image = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(image)), 1, height=9, width=7)[..., 0], image)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b"GIF89a", "a GIF file; allowed are JPEG, PNG, BMP"),
        (saved(flat("L", 0), "GIF"), "a GIF file; allowed are JPEG, PNG, BMP"),
        (saved(flat("L", 0), "TIFF"), "a TIFF file; allowed are JPEG, PNG, BMP"),
        (saved(flat("L", 0), "WEBP"), "a WebP file; allowed are JPEG, PNG, BMP"),
        (b"just some words", "not an image: it starts with b'just som'; allowed are JPEG, PNG, BMP"),
        (b"\x89PNX\r\n", "not an image: it starts with b'\\x89PNX\\r\\n'; allowed are JPEG, PNG, BMP"),
    ],
)  # fmt: skip
def test_other_kinds_are_named(head, reason):
    for attempt in (lambda: check_kind(head[:16]), lambda: pixels(head, 1)):
        with pytest.raises(DecodeError) as caught:
            attempt()
        assert str(caught.value) == reason


def test_an_animation_is_refused():
    frames = [array_image(GREYS), array_image([[9, 9, 9, 9]])]
    data = saved(frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(DecodeError) as caught:
        pixels(data, 1)
    assert str(caught.value) == "an animation; save the frame that is meant as an image of its own"


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (100_000, 100_000, "cannot be decoded: Image size (10000000000 pixels) exceeds limit"),
        (10_000, 10_000, f"its header announces 10000x10000 pixels; at most {MAX_PIXELS} are read"),
        (MAX_PIXELS + 1, 1, f"its header announces {MAX_PIXELS + 1}x1 pixels; at most {MAX_PIXELS} are read"),
    ],
)  # fmt: skip
def test_a_huge_image_is_refused_from_its_header(width, height, reason):
    with pytest.raises(DecodeError) as caught:
        pixels(png(width, height, 8, 0, b"no rows at all"), 1)  # decoding it would say: truncated
    assert str(caught.value).startswith(reason)


def test_just_below_the_limit_it_is_decoded():
    with pytest.raises(DecodeError, match=r"^cannot be decoded: .*(truncated|broken|decoder)"):
        pixels(png(MAX_PIXELS // 100, 100, 8, 0, b"\x00"), 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_every_cut_is_refused_or_harmless(kind):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8))
    data = saved(image, kind)
    whole = pixels(data, 1, height=12, width=12)
    harmless = []
    for size in range(len(data)):
        try:
            found = pixels(data[:size], 1, height=12, width=12)
        except DecodeError as error:
            assert str(error).startswith(("cannot be decoded: ", "the file is empty", "not an image"))  # noqa: PT017
        else:
            np.testing.assert_array_equal(found, whole)
            harmless.append(size)
    # A PNG's pixels are whole without its last checksums and its end mark: 20 bytes.
    assert harmless == list(range(len(data) - 20, len(data)) if kind == "PNG" else [])


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
