"""Whole-image numbers: each says what its title says, of grey and of colour images."""

import numpy as np
import pytest

from tfrecords.audit.numbers import measure, numbers_of


def measured(image):
    """By name."""
    names = [number.name for number in numbers_of(image.shape[2])]
    values = measure(image)
    assert values.dtype == np.float64
    assert values.shape == (len(names),)
    assert np.isfinite(values).all()
    return dict(zip(names, values.tolist(), strict=True))


def noisy(seed=0, deviation=20, shape=(64, 48, 1), mean=120):
    generator = np.random.default_rng(seed)
    return np.clip(generator.normal(mean, deviation, shape), 0, 255).astype(np.uint8)


def test_names_are_unique_and_every_family_has_a_title():
    for channels in (1, 3):
        numbers = numbers_of(channels)
        assert len({number.name for number in numbers}) == len(numbers)
        assert len({number.title for number in numbers}) == len(numbers)
    assert {number.family for number in numbers_of(3)} - {number.family for number in numbers_of(1)} == {
        "colour"
    }


def test_levels_are_those_of_numpy():
    image = noisy()
    found = measured(image)
    assert found["mean"] == pytest.approx(image.mean(), rel=1e-5)
    assert found["deviation"] == pytest.approx(image.std(), rel=1e-4)
    assert (found["darkest"], found["brightest"]) == (image.min(), image.max())
    for p in (1, 5, 25, 50, 75, 95, 99):
        expected = np.percentile(image, p, method="inverted_cdf")
        assert found[f"percentile_{p}"] == expected
    assert found["black"] == (image <= 2).mean()
    assert found["white"] == pytest.approx((image >= 253).mean())


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ((slice(0, 4), slice(0, 3)), "corner_top_left"),
        ((slice(0, 4), slice(-3, None)), "corner_top_right"),
        ((slice(-4, None), slice(0, 3)), "corner_bottom_left"),
        ((slice(-4, None), slice(-3, None)), "corner_bottom_right"),
        ((slice(16, 32), slice(24, 36)), "grid_2_3"),
        ((slice(0, 3), slice(None)), "border_top"),
        ((slice(None), slice(-2, None)), "border_right"),
    ],
)
def test_a_white_patch_moves_the_number_of_its_place_most(place, name):
    image = np.full((64, 48, 1), 100, np.uint8)
    before = measured(image)
    image[place] = 255
    after = measured(image)
    means = {k: after[k] - before[k] for k in after if k.startswith(("corner", "grid", "border"))}
    means = {k: v for k, v in means.items() if not k.endswith("deviation")}
    assert max(means, key=means.get) == name
    assert means[name] == pytest.approx(155)


def test_blur_lowers_the_finest_detail_and_noise_is_in_grey_levels():
    sharp = noisy(deviation=15)
    soft = ((sharp[:-1].astype(int) + sharp[1:]) // 2).astype(np.uint8)
    assert measured(soft)["sharpness_1"] < measured(sharp)["sharpness_1"] - 0.2
    assert measured(sharp)["noise"] == pytest.approx(15, rel=0.1)
    assert measured(np.full((64, 64, 1), 9, np.uint8))["noise"] == 0


def test_exposure_does_not_change_sharpness():
    image = noisy(deviation=12, mean=100)
    brighter = (image.astype(int) * 3 // 2).clip(0, 255).astype(np.uint8)
    assert measured(brighter)["sharpness_1"] == pytest.approx(measured(image)["sharpness_1"], abs=0.05)


def test_colour():
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 200, 100, 50
    found = measured(image)
    assert (found["mean_red"], found["mean_green"], found["mean_blue"]) == (200, 100, 50)
    assert found["saturation"] == 150
    assert found["mean"] == pytest.approx(350 / 3, rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (5, 1, 3), (17, 31, 1)])
def test_tiny_images_have_numbers_too(shape):
    measured(noisy(shape=shape))
