import re

import keras
import numpy as np
import pytest

from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.models.registry import MODELS, Architecture, build_model


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("mlp", 4_147_586), ("cnn", 3_300_482), ("best_cnn", 13_477_250), ("resnet", 698_530)],
)
def test_parameters_at_the_notebooks_image_size(name, parameters):
    model = build_model(name, (180, 180, 1), 2, dtype="float32")
    assert model.count_params() == parameters
    assert model.name == name


def test_every_model_of_the_flag_can_be_built():
    for name in MODELS:
        assert build_model(name, (24, 32, 3), 5, dtype="float32").output_shape == (None, 5)


@pytest.mark.parametrize("name", MODELS)
def test_layers_compute_in_the_policy_and_logits_are_float32(name):
    model = build_model(name, (24, 32, 1), 3, dtype="mixed_bfloat16")
    images = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 1), np.uint8)
    logits = model(images, training=False)
    assert logits.dtype == "float32"
    assert logits.shape == (4, 3)
    assert {layer.compute_dtype for layer in model.layers if layer.count_params()} == {"bfloat16", "float32"}
    assert model.get_layer("logits").compute_dtype == "float32"
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert len(np.unique(logits)) > 1  # no softmax, no constant


def test_pixels_are_scaled_inside_the_model_once():
    model = build_model("mlp", (8, 8, 1), 2, dtype="float32")
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    x = images.reshape(5, -1).astype(np.float64) / 255
    dense, logits = (layer.get_weights() for layer in model.layers if layer.count_params())
    expected = np.maximum(x @ dense[0] + dense[1], 0) @ logits[0] + logits[1]
    assert np.asarray(model(images)) == pytest.approx(expected, abs=1e-5)
    assert model.input.dtype == "uint8"


def test_which_models_drop_out():
    for name in MODELS:
        model = build_model(name, (24, 32, 1), 2, dtype="float32")
        rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
        assert rates == {"best_cnn": [0.3], "resnet": [0.2]}.get(name, [])


@pytest.mark.parametrize(
    ("name", "args", "parameters"),
    [
        ("mlp", {"units": 16}, 24 * 32 * 16 + 16 + 16 * 2 + 2),
        ("resnet", {"width": 8, "dropout": 0.0}, None),
        ("best_cnn", {"filters_1": 16, "filters_2": 32, "filters_3": 64, "dropout": 0.5}, None),
        ("cnn", {"kernel_1": 5, "units": 7}, None),
    ],
)
def test_arguments_of_a_model(name, args, parameters):
    model = build_model(name, (24, 32, 1), 2, dtype="float32", args=args)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [args.get("dropout")] * bool(args.get("dropout"))
    if parameters:
        assert model.count_params() == parameters
    kernels = [layer.kernel_size for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    if name == "cnn":
        assert kernels == [(5, 5), (3, 3), (3, 3)]
        assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [7, 2]
    if name == "best_cnn":  # which is the cnn with other numbers
        same = build_model("cnn", (24, 32, 1), 2, dtype="float32")
        assert [w.shape for w in model.weights] == [w.shape for w in same.weights]


def test_an_argument_that_is_none_is_refused():
    with pytest.raises(
        InputError, match=r"--model_args=depth=3: mlp has no such argument; it has units, dropout"
    ):
        build_model("mlp", (24, 32, 1), 2, dtype="float32", args={"depth": 3})


def test_an_unknown_name_is_refused(facts):
    with pytest.raises(InputError) as error:
        build_model("vgg", (24, 32, 1), 2, dtype="float32")
    assert re.search(facts("--model=vgg: must be one of mlp, cnn, best_cnn, resnet"), str(error.value))


@pytest.mark.parametrize("name", ["cnn", "best_cnn"])
def test_too_small_images_are_refused(name):
    with pytest.raises(InputError, match=rf"^--model={name}: cannot take images of \(8, 8, 1\): .+"):
        build_model(name, (8, 8, 1), 2, dtype="float32")


def test_the_least_image_of_the_convolutions():
    assert build_model("cnn", (22, 22, 1), 2, dtype="float32").output_shape == (None, 2)


def test_a_function_and_an_entry_are_all_that_a_model_needs(monkeypatch):
    def body(x, dtype, *, units=4, dropout=0.5):
        return keras.layers.Dense(units, dtype=dtype)(keras.layers.Flatten(dtype=dtype)(x))

    monkeypatch.setitem(MODELS, "tiny", Architecture(body, "a model of this test"))
    assert MODELS["tiny"].args == {"units": 4, "dropout": 0.5}
    config = TrainConfig("data", "run", model="tiny", model_args=(("units", 7),))
    model = build_model(config.model, (3, 5, 1), 2, dtype="float32", args=dict(config.model_args))
    assert [weight.shape for weight in model.weights] == [(15, 7), (7,), (7, 2), (2,)]
    with pytest.raises(InputError, match=r"--model_args=dropout=1: must be from 0 to less than 1"):
        TrainConfig("data", "run", model="tiny", model_args=(("dropout", 1),))
