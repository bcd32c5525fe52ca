import re

import keras
import numpy as np
import pytest

from tfrecords.errors import InputError
from trainer.inference import BATCH_SIZE, Predictor
from trainer.models.registry import build_model

pytestmark = pytest.mark.slow

SHAPE = (24, 32, 1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return build_model("best_cnn", SHAPE, 3, dtype="float32")


@pytest.fixture(scope="module")
def predictor(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return Predictor(path)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, *SHAPE), np.uint8)


def test_probabilities_are_the_softmax_of_the_models_logits(predictor, model, images):
    logits = np.asarray(model(images, training=False), np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = predictor.probabilities(images)
    assert found.dtype == np.float64
    assert found == pytest.approx(expected, abs=1e-6)
    assert found.sum(axis=1) == pytest.approx(np.ones(BATCH_SIZE), abs=1e-15)
    assert np.array_equal(predictor.probabilities(images), found)  # Dropout is off


def test_an_images_answer_is_the_same_to_the_bit_whatever_is_beside_it(predictor, images):
    together = predictor.probabilities(images)
    for count in (1, 5):
        assert np.array_equal(predictor.probabilities(images[:count]), together[:count])


def test_large_logits_do_not_overflow(tmp_path, images):
    model = build_model("mlp", SHAPE, 2, dtype="float32")
    model.get_layer("logits").set_weights([np.zeros((128, 2)), np.array([0.0, 2000.0])])
    model.save(tmp_path / "model.keras")
    assert Predictor(tmp_path / "model.keras").probabilities(images[:2]).tolist() == [[0.0, 1.0]] * 2


def test_a_model_that_is_not_there_yet(tmp_path, facts):
    with pytest.raises(InputError) as error:
        Predictor(tmp_path / "model.keras")
    assert re.search(
        facts(
            f"{tmp_path}/model.keras: not there yet; the run has not ended: the command that started it "
            f"resumes it"
        ),
        str(error.value),
    )


@pytest.mark.parametrize("content", [b"", b"no model", "cut"])
def test_a_damaged_model_is_named(tmp_path, model, content):
    path = tmp_path / "model.keras"
    model.save(path)
    path.write_bytes(path.read_bytes()[:-1000] if content == "cut" else content)
    with pytest.raises(InputError, match=r"model\.keras: cannot be loaded: .+; train it again$"):
        Predictor(path)


def test_a_model_file_with_code_in_it_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input(SHAPE), keras.layers.Lambda(lambda x: x * 2)]).save(path)
    with pytest.raises(InputError, match=r"model\.keras: cannot be loaded: .*Lambda"):
        Predictor(path)
