from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import augment as online
from data_pipeline.splitmix64 import uniforms
from tfrecords import augment as baked
from tfrecords.augment import PRESETS, Augmentation, Transform

HEIGHT, WIDTH = 40, 56


def keys(count, *, seed=0, epoch=0, copy=0):
    ids = tf.constant([f"NORMAL/IM-{number:04d}.jpeg" for number in range(count)])
    copies = tf.fill([count], tf.constant(copy, tf.int64))
    return online.record_keys(online.id_hashes(ids), copies, seed=seed, epoch=tf.constant(epoch, tf.int64))


def drawn(spec, count=2000, **key):
    return in_numpy(online.draw_transforms(spec, keys(count, **key), height=HEIGHT, width=WIDTH))


def in_numpy(transforms):
    return [value.numpy() for value in transforms if value is not None]


def smooth(count, channels, *, height=HEIGHT, width=WIDTH):
    """Images with edges and gradients, uint8 [N, H, W, C]."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 9, 9, channels)).astype(np.float32)
    return tf.image.resize(coarse, (height, width)).numpy().astype(np.uint8)


def batch_of(draws):
    names = ("matrix", "gain", "bias")
    return online.Transforms(*(np.stack([getattr(one, name) for one in draws]) for name in names))


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_draw_of_given_numbers_is_that_of_the_baked_copies(preset, monkeypatch):
    """Same uniform numbers, same matrix, gain and bias: the distributions are the same, too."""
    spec, key = PRESETS[preset], keys(50)
    found = in_numpy(online.draw_transforms(spec, key, height=HEIGHT, width=WIDTH))
    numbers = uniforms(key, 16).numpy().T
    for row, uniform in enumerate(numbers):
        monkeypatch.setattr(baked, "uniforms", lambda key, count, uniform=uniform: uniform[:count])
        expected = baked.draw_transform(spec, seed=0, record_id="", copy=0, height=HEIGHT, width=WIDTH)
        np.testing.assert_allclose(found[0][row], expected.matrix, rtol=1e-12, atol=1e-12)
        drawn_row = [values[row] for values in found[1:]]
        wanted = [expected.gain, expected.bias, expected.exponent]
        wanted += [expected.blur, expected.spacing, expected.noise, key[row].numpy()]
        assert drawn_row == pytest.approx(wanted[: len(drawn_row)], rel=1e-12)
    assert len(found) == (8 if spec.noise else 4 if spec.gamma else 3)


def test_draws_are_distributed_as_those_of_the_baked_copies():
    """Two-sample Kolmogorov-Smirnov statistics below 1.95 sqrt(2 / n): the level is 0.001 each."""
    spec, count = PRESETS["strong"], 2000
    found = drawn(spec, count)
    offline = batch_of(
        [
            baked.draw_transform(spec, seed=1, record_id=f"image {n}", copy=1, height=HEIGHT, width=WIDTH)
            for n in range(count)
        ]
    )
    for one, other in zip(found, offline[: len(found)], strict=True):
        for mine, theirs in zip(one.reshape(count, -1).T, other.reshape(count, -1).T, strict=True):
            grid = np.sort(np.concatenate([mine, theirs]))
            shares = [np.searchsorted(np.sort(values), grid, "right") / count for values in (mine, theirs)]
            assert np.abs(shares[0] - shares[1]).max() < 1.95 * np.sqrt(2 / count)


def test_draws_of_other_seeds_epochs_records_and_copies_have_nothing_in_common():
    spec, count = PRESETS["standard"], 1000
    gains = [
        drawn(spec, count, **key)[1]
        for key in ({}, {"epoch": 1}, {"seed": 1}, {"copy": 1}, {"seed": 1, "epoch": 1})
    ]
    pairs = np.corrcoef(gains)[np.triu_indices(len(gains), 1)]
    assert np.abs(pairs).max() < 4.5 / np.sqrt(count)
    assert all(len(set(one)) == count for one in gains)
    assert np.abs(np.corrcoef(gains[0][1:], gains[0][:-1])[0, 1]) < 4.5 / np.sqrt(count)


def test_golden_draw():
    """Pinned: other keys mean that a run that is resumed sees other images."""
    assert keys(2, seed=7, epoch=3).numpy().tolist() == [-3306693078200790993, 8040257417302772838]
    assert drawn(Augmentation(), 1, seed=7, epoch=3)[1] == pytest.approx([1.0156326423159323], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preset", ["light", "standard", "radiograph", "exposure", "strong", "robust"])
def test_the_warp_is_that_of_the_baked_copies(preset, channels, compiled):
    """At most two grey levels apart, and in less than one pixel of 500: float32 beside Pillow's float64.

    One level by the warp, where a fraction is next to a whole number; more contrast makes two of it.
    """
    spec = PRESETS[preset]
    images, key = smooth(40, channels), keys(40)
    draws = online.draw_transforms(spec, key, height=HEIGHT, width=WIDTH)
    whole = tf.function(
        lambda image, drawn: online.apply_transforms(image, drawn, spec.fill), jit_compile=compiled
    )
    found = whole(tf.constant(images), draws).numpy().astype(int)
    values = zip(images, *in_numpy(draws), strict=True)
    expected = np.stack(
        [baked.apply_transform(image, Transform(*drawn), spec.fill) for image, *drawn in values]
    )
    assert np.abs(found - expected).max() <= 2
    assert (found != expected).mean() < 0.002
    assert np.abs(images.astype(int) - expected).mean() > 2


@pytest.mark.parametrize("change", ["stretch", "shear", "blur", "noise", "rescale"])
def test_each_later_strength_is_that_of_the_baked_copies(change):
    strength = {"stretch": 1.0, "shear": 30.0, "blur": 0.05, "noise": 0.2, "rescale": 0.8}[change]
    spec, images = replace(PRESETS["none"], **{change: strength}), smooth(12, 3)
    draws = online.draw_transforms(spec, keys(12), height=HEIGHT, width=WIDTH)
    found = online.apply_transforms(tf.constant(images), draws, spec.fill).numpy().astype(int)
    values = [
        {name: value[row].numpy() for name, value in draws._asdict().items() if value is not None}
        for row in range(12)
    ]
    pairs = zip(images, values, strict=True)
    expected = np.stack(
        [baked.apply_transform(image, Transform(**drawn), spec.fill) for image, drawn in pairs]
    )
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.002
    assert np.abs(images.astype(int) - expected).mean() > 1
    unchanged = online.draw_transforms(PRESETS["none"], keys(12), height=HEIGHT, width=WIDTH)
    if change not in ("stretch", "shear"):
        np.testing.assert_array_equal(draws.matrix, unchanged.matrix)


def test_the_noise_is_that_of_the_baked_copies():
    key = keys(3)
    found = online.standard_noise(key, (5, 7, 3)).numpy()
    for row, one in zip(found, key.numpy(), strict=True):
        np.testing.assert_allclose(row, baked.standard_noise(int(one), (5, 7, 3)), atol=1e-6)


@pytest.mark.parametrize("spacing", [1.0, 1.0000001, 1.37, 2.0, 9.9])
def test_the_weights_of_an_axis_are_those_of_the_baked_copies(spacing):
    for size in (1, 2, 17):
        np.testing.assert_allclose(
            online.rescaling(size, tf.constant([spacing]))[0], baked.rescaling(size, spacing), atol=1e-4
        )
        np.testing.assert_allclose(
            online.gaussian(size, tf.constant([spacing - 1]))[0], baked.gaussian(size, spacing - 1), atol=1e-6
        )


@pytest.mark.slow
def test_picture_and_then_tones_are_both_at_once():
    images, key = tf.constant(smooth(6, 1)), keys(6)
    whole = online.augmenter("robust")(images, key).numpy()
    picture = online.augmenter("robust", tones=False)(images, key)
    found = online.augmenter("robust", picture=False)(picture, key).numpy().astype(int)
    assert np.abs(picture.numpy().astype(int) - whole).mean() > 2
    assert np.abs(found - whole).max() <= 2  # XLA compiles each by itself, so it rounds here and there
    assert (found != whole).mean() < 0.002


@pytest.mark.parametrize("fill", ["reflect", "edge"])
@pytest.mark.parametrize(("height", "width"), [(30, 44), (44, 30), (1, 9), (9, 1), (2, 2)])
def test_far_outside_the_image(fill, height, width):
    """Several sizes away: the border is mirrored again and again, without the edge twice, or repeated."""
    random = np.random.default_rng(1)
    images = smooth(20, 1, height=height, width=width)
    draws = [
        Transform(
            np.column_stack([random.normal(0, 1.5, (2, 2)), random.normal(0, 2 * max(height, width), 2)]),
            1,
            0,
        )
        for _ in images
    ]
    found = online.apply_transforms(tf.constant(images), batch_of(draws), fill).numpy().astype(int)
    expected = np.stack([baked.apply_transform(*pair, fill) for pair in zip(images, draws, strict=True)])
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.02


@pytest.mark.parametrize("fill", ["reflect", "edge"])
def test_no_change_flip_and_quarter_turn_are_exact(fill):
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    draws = [
        Transform(np.array(matrix, float), 1, 0)
        for matrix in ([[1, 0, 0], [0, 1, 0]], [[-1, 0, 24], [0, 1, 0]], [[0, -1, 24], [1, 0, 0]])
    ]
    found = online.apply_transforms(tf.constant(images), batch_of(draws), fill).numpy()
    expected = [images[0], images[1][:, ::-1], np.rot90(images[2])]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["strong", "robust"])
def test_an_image_is_the_same_in_any_batch(preset):
    images, key = smooth(33, 1), keys(33)
    augment = online.augmenter(preset)
    whole = augment(tf.constant(images), key).numpy()
    for rows in (slice(0, 1), slice(5, 12), slice(32, None, -1)):
        np.testing.assert_array_equal(augment(tf.constant(images[rows]), key[rows]).numpy(), whole[rows])


def test_none_is_nothing_to_do():
    assert online.augmenter("none") is None


def test_gamma_leaves_the_other_draws():
    before, found = drawn(PRESETS["radiograph"]), drawn(PRESETS["exposure"])
    for one, other in zip(before, found, strict=False):
        np.testing.assert_array_equal(one, other)


def test_later_strengths_leave_the_other_draws():
    before = drawn(PRESETS["exposure"])
    found = drawn(replace(PRESETS["exposure"], blur=0.01, noise=0.1, rescale=0.5))
    for one, other in zip(before, found, strict=False):
        np.testing.assert_array_equal(one, other)


def test_a_batch_is_one_chain_of_ops():
    """Nothing an image, nothing that only a CPU of Python can do."""
    graph = (
        tf.function(
            lambda image, key: online.apply_transforms(
                image, online.draw_transforms(PRESETS["standard"], key, height=8, width=8), "reflect"
            )
        )
        .get_concrete_function(tf.TensorSpec([None, 8, 8, 1], tf.uint8), tf.TensorSpec([None], tf.int64))
        .graph
    )
    kinds = [op.type for op in graph.get_operations()]
    assert kinds.count("GatherV2") == 4
    assert "Pow" not in kinds  # standard has no gamma, and spends nothing on it
    assert not [kind for kind in kinds if "While" in kind or "PyFunc" in kind or "Map" in kind]
