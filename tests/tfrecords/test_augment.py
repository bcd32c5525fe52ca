import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tfrecords.augment import (
    LATER,
    PRESETS,
    Augmentation,
    Transform,
    apply_transform,
    describe,
    draw_transform,
    gaussian,
    rescaling,
    standard_noise,
)
from tfrecords.errors import InputError

NONE = dict.fromkeys(("flip", "rotation", "zoom", "crop", "translation", "brightness", "contrast"), 0.0)
STRONG = {"flip": 0.5, "rotation": 180.0, "zoom": 0.6, "crop": 0.5, "translation": 0.5}
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def drawn(spec, record_id="NORMAL/IM-0001-0001.jpeg", *, seed=0, copy=1, height=20, width=30):
    return draw_transform(spec, seed=seed, record_id=record_id, copy=copy, height=height, width=width)


def noise(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def corners(matrix, height, width):
    return matrix @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])


def test_golden_draw():
    # Pinned: other numbers mean other copies, so that a data set converted again would silently differ.
    found = drawn(Augmentation(), seed=7)
    np.testing.assert_allclose(
        found.matrix,
        [
            [0.8743128194505557, 0.007412458574161824, 3.4727882996967967],
            [-0.007412458574161824, 0.8743128194505557, 1.5006434223411862],
        ],
        rtol=1e-12,
    )
    assert (found.gain, found.bias) == pytest.approx((0.9427632160780365, 22.709214659273577), rel=1e-12)


def test_gamma_leaves_the_other_draws():
    before, found = drawn(Augmentation(), seed=7), drawn(Augmentation(gamma=0.3), seed=7)
    np.testing.assert_array_equal(found.matrix, before.matrix)
    assert (found.gain, found.bias) == (before.gain, before.bias)
    assert before.exponent == 1
    assert found.exponent == pytest.approx(0.7855597752048946, rel=1e-12)


@pytest.mark.parametrize("change", ["stretch", "shear", "blur", "noise", "rescale"])
def test_later_strengths_leave_the_other_draws(change):
    before = drawn(Augmentation(gamma=0.3))
    found = drawn(Augmentation(gamma=0.3, **{change: 0.1}))
    assert describe(found, height=20, width=30) != describe(before, height=20, width=30)
    assert (found.gain, found.bias, found.exponent) == (before.gain, before.bias, before.exponent)
    if change not in ("stretch", "shear"):
        np.testing.assert_array_equal(found.matrix, before.matrix)


def test_golden_draw_of_the_later_strengths():
    found = drawn(PRESETS["robust"], seed=7)
    assert (found.blur, found.spacing, found.noise) == pytest.approx(
        (0.0804656693776788, 1.1321231305012893, 0.27566779675832664), rel=1e-12
    )


def test_stretch_and_shear_fill_their_ranges():
    spec = Augmentation(**NONE | {"stretch": 0.5, "shear": 20.0})
    turns = np.array([drawn(spec, f"image {i}").matrix[:, :2] for i in range(500)])
    ratios, angles = turns[:, 0, 0] / turns[:, 1, 1], np.degrees(np.arctan(turns[:, 0, 1] / turns[:, 1, 1]))
    np.testing.assert_allclose(np.linalg.det(turns), 1)  # the area stays
    np.testing.assert_array_equal(turns[:, 1, 0], 0)
    for values, reach in ((np.log(ratios), np.log(1.5)), (angles, 20)):
        assert -reach <= values.min() < -0.97 * reach
        assert 0.97 * reach < values.max() <= reach
        assert abs(values.mean()) < 4 * reach / np.sqrt(3 * 500)


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_a_blur_has_its_standard_deviation(sigma):
    weights = gaussian(41, sigma)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert np.sqrt((weights[20] * (np.arange(41) - 20) ** 2).sum()) == pytest.approx(sigma, rel=2e-3)
    np.testing.assert_allclose(gaussian(9, 0.0), np.eye(9), atol=1e-200)


@pytest.mark.parametrize(("size", "small"), [(40, 20), (40, 10), (60, 40), (30, 30)])
def test_rescaling_is_that_of_pillow(size, small):
    """Where the smaller image has whole pixels."""
    image = np.random.default_rng(0).random((size, size), np.float32) * 255
    resized = Image.fromarray(image).resize((small, small), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.resize((size, size), Image.Resampling.BILINEAR))
    weights = rescaling(size, size / small)
    np.testing.assert_allclose(weights @ image @ weights.T, expected, atol=0.01)


def test_noise_is_nearly_normal_and_each_number_is_its_own():
    numbers = standard_noise(-5, (100, 100, 3))
    assert abs(numbers.mean()) < 4 / np.sqrt(numbers.size)
    assert numbers.std() == pytest.approx(1, abs=0.01)
    assert np.mean(np.abs(numbers) < 1) == pytest.approx(0.683, abs=0.02)
    assert len(np.unique(numbers)) > 0.8 * len(np.unique(np.round(numbers, 4)))
    flat = numbers.reshape(-1)
    assert abs(np.corrcoef(flat[1:], flat[:-1])[0, 1]) < 4 / np.sqrt(flat.size)
    assert abs(np.corrcoef(flat, standard_noise(-4, (100, 100, 3)).reshape(-1))[0, 1]) < 4 / np.sqrt(
        flat.size
    )


def test_noise_has_its_strength_and_comes_before_the_tones():
    grey = np.full((60, 60, 1), 100, np.uint8)
    plain = Transform(IDENTITY, 1, 0, noise=8.0, noise_key=3)
    found = apply_transform(grey, plain).astype(float)
    assert found.std() == pytest.approx(8, rel=0.05)
    doubled = apply_transform(grey, replace(plain, gain=2.0)).astype(float)
    np.testing.assert_array_equal(doubled, np.clip(np.rint((found - 127.5) * 2 + 127.5), 0, 255))


def test_blur_and_rescaling_take_sharpness_and_keep_the_mean():
    image = noise(40, 40, 3)
    for change in ({"blur": 1.0}, {"spacing": 2.0}):
        found = apply_transform(image, Transform(IDENTITY, 1, 0, **change)).astype(float)
        assert found.mean() == pytest.approx(image.mean(), abs=1.5)
        assert found.std() < 0.5 * image.std()


def test_a_form_in_words():
    wide = Transform(np.array([[0.5, 0.0, 0.0], [0.0, 1.0, 0.0]]), 1, 0)
    assert "stretched 2.000 times in width, shifted" in describe(wide, height=20, width=30)
    lean = Transform(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), 1, 0, blur=0.5, spacing=2.0, noise=3.0)
    words = describe(lean, height=20, width=30)
    assert "stretched" not in words
    for part in (
        "sheared by -45.0 degrees",
        "blurred by 0.50 pixels",
        "from 0.500 of the size",
        "noise of 3.0",
    ):
        assert part in words
    turned = drawn(Augmentation(flip=1.0, stretch=0.4, shear=9.0))
    again = drawn(Augmentation(flip=1.0))
    assert describe(turned, height=20, width=30)[:20] == describe(again, height=20, width=30)[:20]


def test_a_draw_follows_from_its_arguments_alone():
    keys = list(itertools.product((0, 1), ("a", "b", "0/a"), (1, 2)))
    spec = Augmentation()
    forwards = {key: drawn(spec, key[1], seed=key[0], copy=key[2]) for key in keys}
    backwards = {key: drawn(spec, key[1], seed=key[0], copy=key[2]) for key in reversed(keys)}
    for key in keys:
        np.testing.assert_array_equal(forwards[key].matrix, backwards[key].matrix)
        assert (forwards[key].gain, forwards[key].bias) == (backwards[key].gain, backwards[key].bias)
    assert len({(*found.matrix.ravel(), found.gain, found.bias) for found in forwards.values()}) == len(keys)


def test_draws_fill_their_ranges_and_never_leave_them():
    spec = Augmentation()
    height, width = 20, 30
    draws = [drawn(spec, f"image {i}", height=height, width=width) for i in range(2000)]
    turns = np.array([found.matrix[:, :2] for found in draws])
    scales = np.sqrt(np.abs(np.linalg.det(turns)))
    flipped = np.linalg.det(turns) < 0
    angles = np.degrees(np.arctan2(turns[:, 1, 0] * np.where(flipped, -1, 1), turns[:, 1, 1]))
    assert 0.45 < flipped.mean() < 0.55
    assert -10 <= angles.min() < -9.5
    assert 9.5 < angles.max() <= 10
    assert 0.9 / 1.1 <= scales.min() < 0.85
    assert 1.05 < scales.max() <= 1 / 0.9
    gains, biases = np.array([[found.gain, found.bias] for found in draws]).T
    for values, middle, reach in ((gains, 1, 0.15), (biases, 0, 25.5)):
        assert middle - reach <= values.min() < middle - 0.98 * reach
        assert middle + 0.98 * reach < values.max() <= middle + reach
    exponents = np.log([drawn(Augmentation(gamma=0.5), f"image {i}").exponent for i in range(2000)])
    reach = np.log(1.5)
    assert -reach <= exponents.min() < -0.98 * reach
    assert 0.98 * reach < exponents.max() <= reach
    assert abs(exponents.mean()) < 4 * reach / np.sqrt(3 * 2000)
    shift = np.array([found.matrix @ (width / 2, height / 2, 1) for found in draws]) - (width / 2, height / 2)
    limit = np.array([width, height]) * (0.1 / 2 + 0.05)
    assert (np.abs(shift) <= limit).all()
    assert (np.abs(shift).max(axis=0) > 0.7 * limit).all()


def test_no_strength_no_change():
    image = noise(20, 30, 3)
    found = drawn(Augmentation(**NONE))
    np.testing.assert_array_equal(found.matrix, IDENTITY)
    assert (found.gain, found.bias) == (1, 0)
    for fill in ("reflect", "edge"):
        np.testing.assert_array_equal(apply_transform(image, found, fill), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_flip_alone_mirrors_exactly(channels):
    image = noise(20, 31, channels)
    found = drawn(Augmentation(**NONE | {"flip": 1.0}), height=20, width=31)
    np.testing.assert_array_equal(apply_transform(image, found), image[:, ::-1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fill", ["reflect", "edge"])
def test_a_quarter_turn_is_exact(channels, fill):
    image = noise(24, 24, channels)
    quarter = Transform(np.array([[0.0, -1.0, 24.0], [1.0, 0.0, 0.0]]), 1, 0)
    np.testing.assert_array_equal(apply_transform(image, quarter, fill), np.rot90(image))


def test_a_rotation_turns_around_the_centre_and_keeps_the_aspect():
    spec = Augmentation(**NONE | {"rotation": 45.0})
    for number in range(20):
        matrix = drawn(spec, f"image {number}").matrix
        np.testing.assert_allclose(matrix @ (15, 10, 1), (15, 10))
        np.testing.assert_allclose(matrix[:, :2] @ matrix[:, :2].T, np.eye(2), atol=1e-12)


def test_a_crop_stays_inside_the_image():
    spec = Augmentation(**NONE | {"crop": 0.5})
    for number in range(200):
        x, y = corners(drawn(spec, f"image {number}").matrix, 20, 30)
        assert -1e-9 <= x.min() < x.max() <= 30 + 1e-9
        assert -1e-9 <= y.min() < y.max() <= 20 + 1e-9
        assert (x.max() - x.min()) / 30 == pytest.approx((y.max() - y.min()) / 20)
        assert (x.max() - x.min()) / 30 >= 0.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fill", ["reflect", "edge"])
def test_no_black_wedges(channels, fill):
    white = np.full((20, 30, channels), 255, np.uint8)
    spec = Augmentation(**NONE | STRONG)
    for number in range(100):
        assert apply_transform(white, drawn(spec, f"image {number}"), fill).min() == 255


@pytest.mark.parametrize(
    ("fill", "row"),
    [("reflect", [30, 20, 10, 20, 30, 40]), ("edge", [10, 10, 10, 20, 30, 40])],
)
def test_what_lies_outside(fill, row):
    image = np.array([[10, 20, 30, 40, 50, 60]] * 4, np.uint8)[..., None]
    right = Transform(np.array([[1.0, 0.0, -2.0], [0.0, 1.0, 0.0]]), 1, 0)
    np.testing.assert_array_equal(apply_transform(image, right, fill)[..., 0], [row] * 4)


def test_a_reflection_goes_on_beyond_the_image():
    image = np.array([[10, 20, 30]], np.uint8)[..., None]
    far = Transform(np.array([[1.0, 0.0, -6.0], [0.0, 1.0, 0.0]]), 1, 0)
    assert apply_transform(image, far)[0, :, 0].tolist() == [30, 20, 10]  # ... 30 20 [10 20 30] 20 10 ...


@pytest.mark.parametrize(
    ("value", "gain", "bias", "result"),
    [
        (100, 1.0, 0.0, 100),
        (100, 1.0, 10.0, 110),
        (100, 1.0, -25.5, 74),
        (250, 1.0, 20.0, 255),
        (5, 1.0, -20.0, 0),
        (100, 1.5, 0.0, 86),
        (155, 1.5, 0.0, 169),
        (100, 0.5, 0.0, 114),
        (0, 1.2, 0.0, 0),
        (255, 1.2, 0.0, 255),
        (0, 0.8, 10.0, 36),
    ],
)
def test_tones(value, gain, bias, result):
    for channels in (1, 3):
        image = np.full((3, 4, channels), value, np.uint8)
        np.testing.assert_array_equal(
            apply_transform(image, Transform(IDENTITY, gain, bias)), np.full_like(image, result)
        )


@pytest.mark.parametrize("exponent", [0.5, 0.77, 1.3, 2.0])
def test_the_tone_curve_comes_before_gain_and_bias(exponent):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    curve = 255 * (image / 255) ** exponent
    transform = Transform(IDENTITY, 1, 0, exponent)
    np.testing.assert_array_equal(apply_transform(image, transform), np.rint(curve))
    expected = np.clip(np.rint((curve - 127.5) * 1.2 + 127.5 - 9), 0, 255)
    np.testing.assert_array_equal(apply_transform(image, replace(transform, gain=1.2, bias=-9)), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (9, 1, 1), (2, 2, 3)])
def test_tiny_images(shape):
    image = noise(*shape)
    found = draw_transform(
        Augmentation(**NONE | STRONG), seed=0, record_id="a", copy=1, height=shape[0], width=shape[1]
    )
    result = apply_transform(image, found)
    assert (result.shape, result.dtype) == (shape, np.uint8)
    assert image.min() <= result.min() <= result.max() <= image.max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip": 1.1}, "--flip=1.1: must be from 0 to 1"),
        ({"flip": -0.1}, "--flip=-0.1: must be from 0 to 1"),
        ({"rotation": 181.0}, "--rotation=181.0: must be from 0 to 180"),
        ({"zoom": 1.0}, "--zoom=1.0: must be from 0 to 0.9"),
        ({"crop": 0.91}, "--crop=0.91: must be from 0 to 0.9"),
        ({"translation": -1.0}, "--translation=-1.0: must be from 0 to 0.9"),
        ({"brightness": 2.0}, "--brightness=2.0: must be from 0 to 0.9"),
        ({"gamma": 3.1}, "--gamma=3.1: must be from 0 to 3"),
        ({"shear": 46.0}, "--shear=46.0: must be from 0 to 45"),
        ({"blur": 0.2}, "--blur=0.2: must be from 0 to 0.1"),
        ({"rescale": -0.1}, "--rescale=-0.1: must be from 0 to 0.9"),
        ({"contrast": float("nan")}, "--contrast=nan: must be from 0 to 0.9"),
        ({"fill": "black"}, "--fill=black: must be reflect or edge"),
    ],
)
def test_strengths_that_cannot_be(change, message, facts):
    with pytest.raises(InputError) as caught:
        Augmentation(**change)
    assert re.search(facts(message), str(caught.value))


def test_the_largest_strengths_are_allowed():
    largest = {name: 0.9 for name, _ in Augmentation().strengths()}
    largest |= {"flip": 1.0, "rotation": 180.0, "gamma": 3.0, "stretch": 3.0, "shear": 45.0, "blur": 0.1}
    spec = Augmentation(**largest, fill="edge")
    assert apply_transform(noise(8, 8, 1), drawn(spec, height=8, width=8), spec.fill).shape == (8, 8, 1)


@pytest.mark.parametrize("copy", range(1, 9))
def test_a_draw_in_words_says_where_a_point_goes(copy):
    """A bright spot of the original is found in the copy where the words put it."""
    height, width, spot = 120, 160, np.array([95.0, 50.0])  # x, y
    rows, columns = np.mgrid[0:height, 0:width]
    image = 200 * np.exp(-(((columns + 0.5 - spot[0]) ** 2 + (rows + 0.5 - spot[1]) ** 2) / 18))
    spec = Augmentation(brightness=0, contrast=0)
    moved_by = draw_transform(spec, seed=0, record_id="x", copy=copy, height=height, width=width)
    words = re.fullmatch(
        r"turned by ([-+\d.]+) degrees( and then flipped)?, enlarged ([\d.]+) times, shifted by ([-+\d.]+) "
        r"to the right and ([-+\d.]+) down; contrast x 1.000, brightness [-+]0.0 of 255; matrix \[(.*)\]",
        describe(moved_by, height=height, width=width),
    )
    degrees, flipped, enlarged, right, down, matrix = words.groups()
    shown = apply_transform(image.astype(np.uint8)[..., None], moved_by)[..., 0].astype(float)
    found = np.array([(shown * (columns + 0.5)).sum(), (shown * (rows + 0.5)).sum()]) / shown.sum()
    angle = np.deg2rad(float(degrees))
    clockwise = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array([width, height]) / 2
    moved = clockwise @ (spot - centre) * float(enlarged) * ([-1, 1] if flipped else [1, 1])
    assert np.abs(moved + centre + [float(right), float(down)] - found).max() < 1.0
    values = np.array([[float(value) for value in row.split()] for row in matrix.split("; ")])
    assert np.abs(values - moved_by.matrix).max() < 1e-4


def test_presets_grow_and_the_default_is_standard():
    assert list(PRESETS) == ["none", "light", "standard", "radiograph", "exposure", "strong", "robust"]
    assert PRESETS["standard"] == Augmentation()
    assert PRESETS["radiograph"] == replace(Augmentation(), flip=0)
    assert PRESETS["exposure"] == replace(PRESETS["radiograph"], gamma=0.3)
    values = [value for preset in PRESETS.values() for _, value in preset.strengths()]
    assert {type(value) for value in values} == {float}  # as from a flag: the plan holds their JSON
    for weaker, stronger in itertools.pairwise(["none", "light", "standard", "strong"]):
        less, more = PRESETS[weaker].strengths(), PRESETS[stronger].strengths()
        assert all(a <= b for (_, a), (_, b) in zip(less, more, strict=True))
        assert less != more


def test_what_plans_and_manifests_hold_has_gamma_only_where_it_is_used():
    assert not {"gamma", *LATER} & Augmentation().to_json().keys()
    assert set(LATER) < PRESETS["robust"].to_json().keys()
    spec = Augmentation(gamma=0.3)
    assert spec.to_json()["gamma"] == 0.3
    for each in (*PRESETS.values(), spec):
        assert Augmentation(**each.to_json()) == each


def test_the_exponent_in_words():
    without, with_it = (
        describe(drawn(Augmentation(gamma=gamma)), height=20, width=30) for gamma in (0.0, 0.3)
    )
    exponent = drawn(Augmentation(gamma=0.3)).exponent
    assert "exponent" not in without
    assert with_it == without.replace("contrast x", f"exponent {exponent:.3f}, contrast x")


def test_a_copy_without_strengths_is_the_original():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert np.array_equal(apply_transform(image, drawn(PRESETS["none"])), image)
