"""The weights that a run starts from: --weights, and the files that a run knows again by their content."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.models.sources import check_weights
from trainer.models.starting import started_model, with_model_files

SHAPE = (6, 5, 1)


def net(units, classes, *more):
    """Layers with names of their own and one without."""
    return keras.Sequential(
        [
            keras.Input(SHAPE, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(3, 3, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(units),
            *more,
            layers.Dense(classes, name="logits"),
        ]
    )


def started(weights, model, *, classes=2, log=lambda _: None, begun=None):
    config = TrainConfig("data", "run", model="python:net", weights=str(weights))
    build = lambda shape, classes: model  # noqa: E731
    return started_model(with_model_files(config), SHAPE, classes, "float32", begun, build, log)


def values(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5"])
def test_layers_start_from_those_of_equal_name_and_shape(tmp_path, name):
    source = net(4, 3)
    source.layers[2].set_weights([np.full_like(w, 0.25) for w in source.layers[2].get_weights()])
    (source.save if name == "w.keras" else source.save_weights)(tmp_path / name)
    net(4, 2)  # Keras counts on: the layer without a name is another dense_N below
    target = net(4, 2)
    random, lines = values(target), []
    model, facts = started(tmp_path / name, target, log=lines.append)
    assert model is target
    found, (first, norm, dense, logits) = values(model), random
    theirs = list(values(source).values())
    for place, layer in enumerate((first, norm, dense)):
        assert same(found[layer], theirs[place])
    assert not same(found[first], random[first])
    assert same(found[logits], random[logits])  # of three classes there, of two here
    assert "3 of 4 layers, 1 start anew" in facts["weights"]
    assert lines[0].endswith(": logits")


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5"])
def test_of_a_file_of_other_shapes_only_what_fits_is_read(tmp_path, name):
    source = net(7, 2)
    (source.save if name == "w.keras" else source.save_weights)(tmp_path / name)
    target = net(4, 2)
    random = values(target)
    model, facts = started(tmp_path / name, target)
    first, norm, dense, logits = random
    assert same(values(model)[first], source.layers[1].get_weights())
    assert same(values(model)[dense], random[dense])  # not a bias without its kernel
    assert same(values(model)[logits], random[logits])
    assert "2 of 4 layers" in facts["weights"]


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5"])
def test_a_file_that_matches_nothing_is_refused(tmp_path, name):
    source = keras.Sequential([keras.Input((9,)), layers.Dense(9, name="other")])
    (source.save if name == "w.keras" else source.save_weights)(tmp_path / name)
    with pytest.raises(InputError, match=r"--weights=.*none of its layers .* first, norm, dense\w*, logits"):
        started(tmp_path / name, net(4, 2))


def test_a_backbone_inside_starts_from_a_file_of_the_backbone_alone(tmp_path):
    def backbone():
        return keras.Sequential(
            [keras.Input(SHAPE), layers.Conv2D(2, 3, name="c"), layers.Flatten()], name="b"
        )

    for name in ("w.keras", "w.weights.h5"):
        source = backbone()
        (source.save if name == "w.keras" else source.save_weights)(tmp_path / name)
        target = keras.Sequential([keras.Input(SHAPE), backbone(), layers.Dense(2, name="logits")])
        model, facts = started(tmp_path / name, target)
        assert same(model.layers[0].layers[0].get_weights(), source.layers[0].get_weights())
        assert "1 of 2 layers" in facts["weights"]


@pytest.mark.parametrize(
    ("weights", "model", "message"),
    [
        ("imagenet", "cnn", r"--weights=imagenet: is for --model=keras:NAME"),
        ("whole.h5", "cnn", r"--weights=whole.h5: .*FILE.weights.h5"),
        ("", "cnn", r"--weights=: must be none, imagenet"),
    ],
)
def test_what_weights_cannot_be(weights, model, message):
    with pytest.raises(InputError, match=message):
        check_weights(weights, model)
    with pytest.raises(InputError, match=message):
        TrainConfig("data", "run", model=model, weights=weights)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.keras", None, r"does not exist; give a file or a run"),
        ("bad.keras", "x", r"cannot be loaded"),
        ("bad.weights.h5", "x", r"cannot be loaded"),
        ("text", "x", r"must be none, imagenet, FILE.keras"),
        ("folder", "", r"holds no run"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, name, text, message):
    path = tmp_path / name
    if text:
        path.write_text(text)
    elif text == "":
        path.mkdir()
    with pytest.raises(InputError, match=message):
        started(path, net(4, 2))


def test_a_file_and_a_module_are_known_by_their_content(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    of_module = with_model_files(TrainConfig("data", "run", model="own_model:net"))
    sys.modules.pop("own_model", None)
    assert len(of_module.model_sha256) == 64
    path = tmp_path / "m.keras"
    hashes = set()
    for units in (3, 4):
        net(units, 2).save(path)
        config = with_model_files(TrainConfig("data", "run", model=str(path), weights=str(path)))
        assert config.model_sha256 == config.weights_sha256
        hashes.add(config.model_sha256)
    assert len(hashes) == 2
    path.unlink()
    assert with_model_files(TrainConfig("data", "run", weights=str(path))).weights_sha256 == ""
    with pytest.raises(InputError, match=r"--model=.*m.keras: cannot be loaded"):
        with_model_files(config)


def test_defaults_leave_the_configuration_file_as_it_was():
    assert not {"weights", "weights_sha256", "model_sha256"} & TrainConfig("data", "run").to_stored().keys()
