import io
import itertools
import re
import struct

import numpy as np
import pytest
from image_files import chunk, png, saved, tiff
from PIL import Image

from tfrecords.demo import phantom
from tfrecords.images.decode import check_header, decode, decode_fingerprinted
from tfrecords.images.kinds import MAX_PIXELS, DecodeError


def array_image(values, mode=None):
    array = np.array(values, np.uint8)
    return Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)


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
        pytest.param(
            png(4, 1, 16, 0, b"\x00" + struct.pack(">4H", *WIDE), extra=chunk(b"tRNS", b"\xff\xff")),
            [0, 2, 128, 0],
            None,
            id="16-bit grayscale with one transparent value",
        ),
        pytest.param(
            png(
                4,
                1,
                8,
                2,
                b"\0" + TRIPLES[:3] + b"\0" + TRIPLES[6:9] + b"\0" + TRIPLES[3:6] + TRIPLES[9:],
                interlaced=True,
            ),
            LUMA,
            COLOURS[0],
            id="interlaced PNG",
        ),
        pytest.param(saved(array_image(GREYS), "TIFF"), GREYS[0], None, id="grayscale TIFF"),
        pytest.param(saved(array_image(COLOURS), "TIFF"), LUMA, COLOURS[0], id="RGB TIFF"),
        pytest.param(saved(array_image(COLOURS), "TIFF", big_tiff=True), LUMA, COLOURS[0], id="BigTIFF"),
        pytest.param(
            saved(array_image(COLOURS), "TIFF", compression="tiff_lzw"), LUMA, COLOURS[0], id="LZW TIFF"
        ),
        pytest.param(saved(array_image(ALPHA), "TIFF"), [76, 0, 51, 124], ON_BLACK, id="RGBA TIFF"),
        pytest.param(
            tiff(
                4,
                1,
                bytes(np.ravel(np.column_stack([ON_BLACK, [255, 0, 51, 255]])).tolist()),
                bits=(8,) * 4,
                photometric=2,
                t338=(1,),
            ),
            [76, 0, 51, 124],
            ON_BLACK,
            id="TIFF with colours multiplied by alpha",
        ),
        pytest.param(
            tiff(
                4,
                1,
                bytes([255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 255, 0, 55]),
                bits=(8,) * 4,
                photometric=5,
            ),
            [179, 255, 0, 83],
            [[0, 255, 255], [255, 255, 255], [0, 0, 0], [200, 0, 200]],
            id="CMYK TIFF",
        ),
        pytest.param(
            tiff(4, 1, struct.pack("<4H", *WIDE), bits=(16,)), [0, 2, 128, 255], None, id="16-bit TIFF"
        ),
        pytest.param(
            tiff(4, 1, struct.pack(">4H", *WIDE), bits=(16,), order=">"),
            [0, 2, 128, 255],
            None,
            id="16-bit TIFF of the other byte order",
        ),
        pytest.param(
            tiff(
                4,
                1,
                struct.pack("<12H", 65535, 0, 0, 0, 511, 0, 0x8080, 0x8080, 0x8080, 1, 255, 256),
                bits=(16, 16, 16),
                photometric=2,
            ),
            [76, 1, 128, 0],
            [[255, 0, 0], [0, 1, 0], [128, 128, 128], [0, 0, 1]],
            id="16-bit RGB TIFF",
        ),
        # 0, 24, 2048, 4095: round(v * 255 / 4095)
        pytest.param(
            tiff(4, 1, bytes([0x00, 0x00, 0x18, 0x80, 0x0F, 0xFF]), bits=(12,)),
            [0, 1, 128, 255],
            None,
            id="12-bit TIFF",
        ),
        pytest.param(
            tiff(4, 1, bytes(GREYS[0]), photometric=0), [255, 254, 127, 0], None, id="white is zero"
        ),
        pytest.param(
            tiff(4, 1, b"\x50", bits=(1,), photometric=0), [255, 0, 255, 0], None, id="1-bit, white is zero"
        ),
        pytest.param(
            tiff(4, 1, struct.pack("<4H", *WIDE), bits=(16,), photometric=0),
            [255, 253, 127, 0],
            None,
            id="16-bit, white is zero",
        ),
        pytest.param(saved(array_image(COLOURS), "WEBP", lossless=True), LUMA, COLOURS[0], id="WebP"),
        pytest.param(saved(array_image(GREYS), "GIF"), GREYS[0], None, id="grayscale GIF"),
        pytest.param(saved(array_image(COLOURS), "GIF"), LUMA, COLOURS[0], id="GIF"),
        pytest.param(
            saved(array_image([[0, 1, 2, 1]]).convert("P"), "GIF", transparency=1),
            [0, 0, 2, 0],
            None,
            id="GIF with alpha",
        ),
        pytest.param(saved(array_image(GREYS), "JPEG2000"), GREYS[0], None, id="grayscale JPEG 2000"),
        pytest.param(saved(array_image(COLOURS), "JPEG2000", mct=0), LUMA, COLOURS[0], id="JPEG 2000"),
        pytest.param(
            saved(array_image(COLOURS), "JPEG2000", no_jp2=True, mct=0),
            LUMA,
            COLOURS[0],
            id="JPEG 2000 without a box",
        ),
        pytest.param(
            saved(Image.fromarray(np.array([WIDE], np.uint16)), "JPEG2000"),
            [0, 2, 128, 255],
            None,
            id="16-bit JPEG 2000",
        ),
        pytest.param(
            saved(array_image(ALPHA), "JPEG2000", mct=0), [76, 0, 51, 124], ON_BLACK, id="RGBA JPEG 2000"
        ),
        pytest.param(
            saved(array_image(ALPHA), "WEBP", lossless=True, exact=True),
            [76, 0, 51, 124],
            ON_BLACK,
            id="RGBA WebP",
        ),
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
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation, turned, kind):
    blocks = np.kron(np.array([[10, 80, 160], [210, 250, 40]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = turned(blocks)
    found = pixels(
        saved(Image.fromarray(blocks), kind, exif=exif), 1, height=expected.shape[0], width=expected.shape[1]
    )
    np.testing.assert_allclose(found[..., 0].astype(int), expected, atol=2)


def test_a_progressive_jpeg_is_as_any_other():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8))
    plain, progressive = (saved(image, "JPEG", progressive=value) for value in (False, True))
    assert b"\xff\xc0" in plain
    assert b"\xff\xc2" in progressive
    for channels in (1, 3):
        np.testing.assert_array_equal(
            pixels(progressive, channels, height=33, width=47), pixels(plain, channels, height=33, width=47)
        )


def fully_decoded(data, target):
    height, width = target
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", image.size)
        return np.asarray(image.convert("L").resize((width, height), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("target", [(180, 180), (240, 60), (60, 240)], ids=["square", "tall", "wide"])
@pytest.mark.parametrize("size", [(1857, 1317), (2000, 990), (3100, 2900)])
def test_a_large_jpeg_is_nearly_its_full_decoding(size, target):
    """The bound that the docstring states; a scale of one step more breaks it."""
    for seed in range(4):
        film = phantom.draw(
            np.random.default_rng(seed), phantom.Anatomy.draw(np.random.default_rng(seed)), opacities=True
        )
        noise = np.random.default_rng(seed).normal(0, 12, (size[1], size[0]))
        large = np.asarray(Image.fromarray(film).resize(size, Image.Resampling.BICUBIC)) + noise
        data = saved(Image.fromarray(np.clip(large, 0, 255).astype(np.uint8)), "JPEG", quality=90)
        found = decode_fingerprinted(data, height=target[0], width=target[1], channels=1)
        difference = np.abs(found.pixels[..., 0].astype(int) - fully_decoded(data, target))
        assert difference.max() <= 24
        reduced = min(size) >= 4 * max(target)
        assert (difference.max() > 0) == reduced  # 0 is full decoding
        assert difference.mean() < 1
        assert found.size == (size[1], size[0])  # its own, not what it was decoded at


def test_a_jpeg_below_four_times_the_target_is_decoded_in_full():
    values = np.random.default_rng(0).integers(0, 256, (719, 719), dtype=np.uint8)
    data = saved(Image.fromarray(values), "JPEG")
    np.testing.assert_array_equal(
        pixels(data, 1, height=180, width=180)[..., 0], fully_decoded(data, (180, 180))
    )


@pytest.mark.parametrize("target", [(30, 80), (80, 30)], ids=["wide", "tall"])
@pytest.mark.parametrize("size", [(150, 120), (1200, 900), (900, 1200)], ids=str)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WebP", "TIFF"])
def test_a_target_that_is_not_square(kind, size, target):
    """One bright corner says where up is, and where left."""
    (width, height), (rows, columns) = size, target
    values = np.zeros((height, width, 3), np.uint8)
    values[: height // 2, : width // 5] = 255
    for channels in (1, 3):
        found = decode_fingerprinted(
            saved(Image.fromarray(values), kind), height=rows, width=columns, channels=channels
        )
        assert found.pixels.shape == (rows, columns, channels)
        assert found.size == (height, width)
        bright = found.pixels.mean(2) > 127
        assert abs(bright[0].sum() - columns // 5) <= 1
        assert abs(bright[:, 0].sum() - rows // 2) <= 1
        assert not bright[-1].any()
        assert not bright[:, -1].any()


def test_a_large_turned_jpeg_keeps_its_own_size():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    data = saved(Image.new("L", (1600, 1200), 90), "JPEG", exif=exif)
    assert decode_fingerprinted(data, height=180, width=180, channels=1).size == (1600, 1200)


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


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "AVIF"])
def test_animations_are_refused(kind):
    frames = [flat("RGB", (9, 9, 9)), flat("RGB", (200, 9, 9))]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    for attempt in (lambda: pixels(data, 1), lambda: check_header(io.BytesIO(data))):
        with pytest.raises(DecodeError) as caught:
            attempt()
        assert str(caught.value) == "an animation; save the frame that is meant as an image of its own"


def bmp(alpha):
    """Builds a BMP of 32 bits with a mask for alpha, of four pixels: Pillow reads it as RGBA."""
    body = b"".join(bytes([blue, green, red, alpha]) for red, green, blue in COLOURS[0])
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 56, 4, 1, 1, 32, 3, len(body), 0, 0, 0, 0) + masks
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


def test_a_bmp_whose_alpha_is_0_everywhere_is_opaque():
    for alpha in (0, 255):
        assert pixels(bmp(alpha), 3)[0].tolist() == COLOURS[0]
        assert pixels(bmp(alpha), 1)[0, :, 0].tolist() == LUMA
    assert pixels(bmp(51), 3)[0].tolist() == [[51, 0, 0], [0, 51, 0], [0, 0, 51], [40, 20, 10]]
    clear = saved(array_image([[[200, 100, 50, 0]] * 4]))  # a PNG says what it means
    assert pixels(clear, 1)[0, :, 0].tolist() == [0] * 4


def test_avif():
    data = saved(flat("RGB", (200, 100, 50)), "AVIF", quality=100)
    check_header(io.BytesIO(data))
    for channels, expected in ((1, [124]), (3, [200, 100, 50])):
        found = pixels(data, channels, height=16, width=16)
        np.testing.assert_allclose(found.astype(int), np.broadcast_to(expected, found.shape), atol=2)


def heic(image, **options):
    pytest.importorskip("pillow_heif", reason="the heic extra is not installed").register_heif_opener()
    return saved(image, "HEIF", quality=-1, chroma=444, **options)


def test_heic():
    first, second = flat("RGB", (200, 100, 50)), Image.new("RGB", (40, 20), (9, 9, 9))
    for data in (
        heic(first),
        heic(first, save_all=True, append_images=[second], primary_index=0),
        heic(second, save_all=True, append_images=[first], primary_index=1),
    ):
        check_header(io.BytesIO(data))
        found = decode_fingerprinted(data, height=16, width=16, channels=3)
        assert found.size == (16, 16)
        np.testing.assert_allclose(
            found.pixels.astype(int), np.broadcast_to((200, 100, 50), (16, 16, 3)), atol=1
        )


def test_a_turned_heic_is_upright():
    image = Image.new("L", (40, 20), 10)
    image.paste(240, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()  # written as a turn of the picture, as phones do
    found = decode_fingerprinted(heic(image), height=40, width=20, channels=1)
    assert found.size == (40, 20)
    assert (found.pixels[:18] > 230).all()
    assert (found.pixels[22:] < 20).all()


def test_a_cut_heic_and_an_animated_one_are_refused():
    data = heic(flat("RGB", (200, 100, 50)))
    for size in (20, 60, len(data) // 2, len(data) - 9):
        with pytest.raises(DecodeError, match=r"^cannot be decoded: "):
            pixels(data[:size], 1)
    animated = data[:8] + b"hevc" + data[12:]
    for attempt in (lambda: pixels(animated, 1), lambda: check_header(io.BytesIO(animated))):
        with pytest.raises(DecodeError, match="an animation"):
            attempt()


def test_without_what_reads_heic_the_extra_is_named(run_python, tmp_path):
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    script = (
        "import sys; sys.modules['pillow_heif'] = None; from tfrecords.images.decode import check_header; "
        f"check_header(open({str(path)!r}, 'rb'))"
    )
    done = run_python("-c", script)
    assert "InputError" in done.stderr
    assert "extra `heic`" in done.stderr
    assert "python -m pip install pillow-heif" in done.stderr


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
            DecodeError, match="a JPEG 2000 file whose pixels are signed or of more than 16 bits"
        ):
            attempt()


def test_the_first_picture_of_an_mpo_is_the_one():
    """So phones save a picture with its depth, its gain map, or the other lens behind it."""
    random = np.random.default_rng(0)
    first, second = (Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)) for _ in "ab")
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    data = saved(first, "MPO", save_all=True, append_images=[second], exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    check_header(io.BytesIO(data))
    for channels in (1, 3):
        alone = pixels(saved(first, "JPEG", exif=exif), channels, height=40, width=48)
        np.testing.assert_array_equal(pixels(data, channels, height=40, width=48), alone)
        np.testing.assert_allclose(
            alone.mean((0, 1)),
            np.asarray(first.convert("L" if channels == 1 else "RGB")).mean((0, 1)),
            atol=2,
        )


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
            "a TIFF file whose pixels are of 32 bits, signed or floating: their range is not known; scale "
            "them to 8 or 16 bits without sign"
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
        said = facts(f"its header announces {width}x{height} pixels; at most {MAX_PIXELS} are read")
        assert re.search(said, str(caught.value))


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


@pytest.mark.parametrize("kind", ["GIF", "JPEG2000", "AVIF", "TIFF", "WEBP"])
def test_other_kinds_are_never_shown_in_part(kind):
    """A reader that goes on with half of a file would fill the rest with grey."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))
    data = saved(image, kind)
    whole = pixels(data, 1, height=32, width=32)
    for size in np.linspace(1, len(data) - 1, 40).astype(int):
        try:
            found = pixels(data[:size], 1, height=32, width=32)
        except DecodeError:
            continue
        np.testing.assert_array_equal(found, whole)


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
