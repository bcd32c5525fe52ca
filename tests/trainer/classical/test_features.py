import numpy as np
import pytest

from trainer.classical.features import area_means, feature_shape


@pytest.mark.parametrize(
    ("image_shape", "pixels", "expected"),
    [
        ((180, 180, 1), 64, (64, 64)),
        ((24, 32, 3), 64, (24, 32)),  # never up
        ((200, 100, 1), 50, (50, 25)),
        ((1000, 1, 1), 10, (10, 1)),
    ],
)
def test_the_longer_side_is_brought_down(image_shape, pixels, expected):
    assert feature_shape(image_shape, pixels) == expected
    images = np.zeros((2, *image_shape), np.uint8)
    found = area_means(images, pixels)
    assert (found.shape, found.dtype) == ((2, expected[0] * expected[1]), np.float32)


def test_means_of_areas():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    assert area_means(image, 2)[0] * 255 == pytest.approx([2.5, 4.5, 10.5, 12.5])
    # Of three pixels in two areas, the middle one is shared.
    assert area_means(np.array([[[[0], [30], [60]]]], np.uint8), 2)[0] * 255 == pytest.approx([10, 50])


def test_colours_are_averaged_and_the_brightness_is_kept():
    images = np.random.default_rng(0).integers(0, 256, (3, 37, 53, 3), np.uint8)
    found = area_means(images, 16)
    assert found.mean(axis=1) * 255 == pytest.approx(images.mean(axis=(1, 2, 3)), rel=1e-5)
    assert found.min() >= 0
    assert area_means(np.full((1, 9, 9, 1), 255, np.uint8), 4) == pytest.approx(1)


def test_an_image_gives_the_same_whatever_is_beside_it():
    images = np.random.default_rng(0).integers(0, 256, (7, 20, 30, 1), np.uint8)
    together = area_means(images, 13)
    for number, image in enumerate(images):
        assert np.array_equal(area_means(image[None], 13)[0], together[number])
