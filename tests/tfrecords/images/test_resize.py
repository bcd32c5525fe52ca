"""What becomes of the aspect ratio."""

import numpy as np
import pytest
from image_files import pixels, saved
from PIL import Image

from tfrecords.images.decode import decode, decode_fingerprinted
from tfrecords.images.resize import resized

KINDS = ("PNG", "JPEG")


def drawn(width, height):
    """Returns an image whose grey tells the place: 0 to 200 from left to right, 40 more below."""
    values = np.tile(np.linspace(0, 200, width), (height, 1))
    values[height // 2 :] += 40
    return Image.fromarray(np.round(values).astype(np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_stretch_takes_each_side_by_itself(kind):
    data = saved(drawn(400, 100), kind, quality=100)
    found = decode(data, height=60, width=60, channels=1)
    np.testing.assert_array_equal(found, decode(data, height=60, width=60, channels=1, resize="stretch"))
    assert found[0, 0, 0] < 5
    assert 195 < found[0, -1, 0] < 201


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "target", "rows", "columns"),  # (width, height), (height, width), where the image is
    [
        ((400, 100), (60, 60), slice(22, 37), slice(0, 60)),
        ((100, 400), (60, 60), slice(0, 60), slice(22, 37)),
        ((100, 80), (60, 60), slice(6, 54), slice(0, 60)),
        ((30, 20), (60, 60), slice(10, 50), slice(0, 60)),
        ((1600, 400), (60, 60), slice(22, 37), slice(0, 60)),  # a JPEG is decoded reduced
        ((1000, 3), (10, 10), slice(4, 5), slice(0, 10)),
    ],
)
def test_pad_shows_all_of_it_between_black_bars(kind, channels, size, target, rows, columns):
    data = saved(drawn(*size), kind, quality=100)
    found = decode(data, height=target[0], width=target[1], channels=channels, resize="pad")
    assert (found.shape, found.dtype) == ((*target, channels), np.uint8)
    inside = np.zeros(target, bool)
    inside[rows, columns] = True
    assert not found[~inside].any()
    shown = found[rows, columns].astype(int)
    expected = np.asarray(
        drawn(*size).resize((shown.shape[1], shown.shape[0]), Image.Resampling.BILINEAR)
    ).astype(int)
    np.testing.assert_allclose(shown, np.broadcast_to(expected[..., None], shown.shape), atol=8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "target", "box"),  # (width, height), (height, width), the part that is shown
    [
        ((400, 100), (60, 60), (150, 0, 250, 100)),
        ((100, 400), (60, 60), (0, 150, 100, 250)),
        ((100, 80), (40, 80), (0, 15, 100, 65)),
        ((30, 20), (60, 60), (5, 0, 25, 20)),
        ((1600, 400), (60, 60), (600, 0, 1000, 400)),  # a JPEG is decoded reduced
    ],
)
def test_crop_shows_the_middle(kind, channels, size, target, box):
    data = saved(drawn(*size), kind, quality=100)
    found = decode(data, height=target[0], width=target[1], channels=channels, resize="crop")
    expected = np.asarray(drawn(*size).crop(box).resize(target[::-1], Image.Resampling.BILINEAR)).astype(int)
    difference = np.abs(found.astype(int) - expected[..., None])
    assert found.shape == (*target, channels)
    assert difference[:, 1:-1].max() <= 8
    assert difference.max() <= 12  # at the cut, pixels beyond it count too


@pytest.mark.parametrize("resize", ["pad", "crop"])
@pytest.mark.parametrize("size", [(80, 60), (800, 600), (8, 6)])
def test_of_the_same_aspect_ratio_all_are_one(resize, size):
    for kind in KINDS:
        data = saved(drawn(*size), kind)
        stretched = decode(data, height=45, width=60, channels=1)
        np.testing.assert_array_equal(decode(data, height=45, width=60, channels=1, resize=resize), stretched)


def test_a_turned_image_is_cut_and_padded_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    for kind in ("JPEG", "TIFF", "PNG"):
        data = saved(Image.new("L", (800, 200), 99), kind, exif=exif)
        found = decode(data, height=40, width=40, channels=1, resize="pad")[..., 0]
        assert (found[:, :15] == 0).all()
        assert (found[:, 15:25] == 99).all()
        assert (found[:, 25:] == 0).all()


def test_bars_are_no_part_of_what_is_shown():
    padded, shown = resized(Image.new("L", (40, 10), 7), (40, 10), (20, 20), "pad")
    assert (padded.shape, shown.shape) == ((20, 20, 1), (5, 20, 1))
    assert (np.count_nonzero(padded), set(np.unique(shown))) == (100, {7})


def test_one_colour_is_told_by_the_pixels_without_bars():
    grey = {"height": 20, "width": 20, "channels": 1}
    for value in (0, 7):
        data = saved(Image.new("RGB", (40, 10), (value, value, value)))
        for resize in ("stretch", "pad", "crop"):
            assert decode_fingerprinted(data, **grey, resize=resize).is_flat
            assert decode_fingerprinted(data, **(grey | {"channels": 3}), resize=resize).is_flat
    for mark in ((0, 0), (39, 9)):
        image = Image.new("L", (40, 10), 7)
        image.putpixel(mark, 255)
        assert not decode_fingerprinted(saved(image), **grey).is_flat
    half = Image.new("RGB", (40, 10), (200, 0, 0))
    half.paste((0, 0, 200), (0, 0, 20, 10))
    assert not decode_fingerprinted(saved(half), **(grey | {"channels": 3})).is_flat


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
