import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from data_pipeline.augment import augmenter
from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.models.normalize import Front, blended, equalized, front, network, normalized, shares
from trainer.models.registry import build_model
from trainer.seeds import seed_generators

SHAPE = (24, 32, 3)


def images(count=4, high=150, seed=0):
    """Images whose levels are not equally frequent, uint8."""
    random = np.random.default_rng(seed)
    return (high * random.random((count, *SHAPE)) ** 2).astype(np.uint8)


def by_hand(plane):
    """The definition, for one plane."""
    levels, counts = np.unique(plane, return_counts=True)
    if len(levels) == 1:
        return plane
    up_to = np.cumsum(counts)
    table = np.rint(255 * (up_to - up_to[0]) / (up_to[-1] - up_to[0]))
    return table[np.searchsorted(levels, plane)]


def test_equalisation_is_that_of_each_image_and_channel():
    given = images()
    given[3] = 77  # one level: it stays
    found = equalized(tf.constant(given)).numpy()
    for image, result in zip(given, found, strict=True):
        for channel in range(3):
            np.testing.assert_array_equal(result[..., channel], by_hand(image[..., channel]))
    assert found[:3].min(axis=(1, 2)).max() == 0
    assert found[:3].max(axis=(1, 2)).min() == 255


def test_equalisation_is_nearly_that_of_pillow():
    image = np.random.default_rng(0).integers(0, 200, (180, 180), np.uint8)
    pillow = np.asarray(ImageOps.equalize(Image.fromarray(image))).astype(int)
    found = equalized(tf.constant(image[None, ..., None])).numpy()[0, ..., 0]
    assert np.abs(pillow - found.astype(int)).max() <= 1


def test_an_image_is_equalised_alike_in_any_batch():
    whole = equalized(tf.constant(images(5))).numpy()
    np.testing.assert_array_equal(equalized(tf.constant(images(5)[2:3])).numpy()[0], whole[2])


@pytest.mark.parametrize("exponent", [0.7, 1.4])
def test_equalisation_cancels_gamma_before_it(exponent):
    """Which is why training changes tones after it. All 256 / 4 levels stay different."""
    given = (images(high=63) * 4).astype(np.uint8)
    bent = np.rint(255 * (given / 255) ** exponent).astype(np.uint8)
    assert len(np.unique(bent)) == len(np.unique(given))
    assert np.abs(bent.astype(int) - given).mean() > 5
    np.testing.assert_array_equal(equalized(tf.constant(bent)), equalized(tf.constant(given)))


def test_a_blend_is_the_weighted_mean():
    image, other = images(2), images(2, high=255, seed=1)
    share = np.array([0.25, 1.0], np.float32)[:, None, None, None]
    expected = np.rint((1 - share) * image + share * other)
    np.testing.assert_array_equal(blended(image, other, share), expected)


def test_shares_are_uniform_and_follow_from_the_key():
    key = tf.range(4000, dtype=tf.int64)
    found = shares(key).numpy()
    assert 0 <= found.min() < 0.01
    assert 0.99 < found.max() < 1
    assert abs(found.mean() - 0.5) < 4 / np.sqrt(12 * 4000)
    np.testing.assert_array_equal(shares(key[7:9]), found[7:9])
    assert found[:2] == pytest.approx([0.9965183138847351, 0.6561004519462585], rel=1e-6)  # pinned


def test_prediction_takes_the_mean_of_image_and_equalised_image():
    given, model = images(), build_model("mlp", SHAPE, 2, dtype="float32")
    equal = equalized(tf.constant(given)).numpy().astype(np.float32)
    for normalize, seen in (("equalize", equal), ("blend", np.rint((given + equal) / 2))):
        whole = normalized(model, normalize)
        np.testing.assert_array_equal(front(whole)(given), seen.astype(np.uint8))
        np.testing.assert_array_equal(whole(given), model(seen.astype(np.uint8)))
        assert network(whole) is model
    assert normalized(model, "none") is model


@pytest.mark.slow
@pytest.mark.parametrize("normalize", ["equalize", "blend"])
def test_training_normalizes_and_then_changes_the_tones(normalize):
    given, key = tf.constant(images()), tf.range(4, dtype=tf.int64)
    whole = normalized(build_model("mlp", SHAPE, 2, dtype="float32"), normalize)
    step = Front.of(normalize, "exposure")
    between = equalized(given)
    if normalize == "blend":
        between = blended(given, between, shares(key)[:, None, None, None])
    expected = augmenter("exposure", picture=False)(between, key)
    assert np.abs(expected.numpy().astype(int) - between).mean() > 2
    np.testing.assert_array_equal(step(whole, given, {"key": key}), expected)
    plain = Front.of(normalize, "none")(whole, given, {"key": key})
    np.testing.assert_array_equal(plain, between)


def test_nothing_comes_before_the_network_without_normalisation():
    assert Front.of("none", "robust") is None


def test_the_dropout_of_the_network_is_found():
    whole = normalized(build_model("best_cnn", SHAPE, 2, dtype="float32"), "equalize")
    assert len(seed_generators(whole)) == 1
    assert len(whole.trainable_variables) == len(network(whole).trainable_variables) > 0


_ELSEWHERE = """
import sys
sys.modules["trainer"] = sys.modules["data_pipeline"] = sys.modules["tfrecords"] = None  # cannot be imported
import keras, numpy as np
model = keras.models.load_model(sys.argv[1], compile=False, safe_mode=True)
np.save(sys.argv[3], model(np.load(sys.argv[2]), training=False))
"""


@pytest.mark.slow
def test_a_saved_model_loads_in_safe_mode_without_this_project(tmp_path):
    whole = normalized(build_model("cnn", SHAPE, 2, dtype="mixed_bfloat16"), "blend")
    whole.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images())
    arguments = [str(tmp_path / name) for name in ("model.keras", "images.npy", "logits.npy")]
    command = [sys.executable, "-c", _ELSEWHERE, *arguments]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    np.testing.assert_allclose(np.load(arguments[-1]), whole(images(), training=False), rtol=1e-5)
    again = keras.models.load_model(arguments[0], compile=False, safe_mode=True)
    assert network(again).name == "cnn"


def test_the_configuration():
    values = {"data": "d", "run_dir": "r"}
    config = TrainConfig.of(**values, normalize="blend")
    assert config.pipeline.keys
    assert config.to_stored()["normalize"] == "blend"
    assert TrainConfig.from_json(config.to_stored()) == config
    assert "normalize" not in TrainConfig.of(**values).to_stored()
    assert not TrainConfig.of(**values, normalize="equalize").pipeline.keys
    with pytest.raises(InputError, match=r"--normalize=histogram: .*none, equalize, blend"):
        TrainConfig.of(**values, normalize="histogram")
