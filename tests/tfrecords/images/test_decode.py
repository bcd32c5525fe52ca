import io
import struct

import numpy as np
import pytest
from image_files import chunk, flat, pixels, png, saved, tiff
from PIL import Image

from tfrecords.images.decode import check_header, decode_fingerprinted
from tfrecords.images.kinds import DecodeError


def array_image(values, mode=None):
    array = np.array(values, np.uint8)
    return Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)


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
