"""The model that averages, held against sums by hand."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest

from tfrecords.errors import InputError
from trainer.models.registry import build_model
from trainer.run import DataFacts
from trainer.served.averaging import averaged, require_alike, views

SHAPE = (7, 9, 1)


def network(seed, classes=3):
    """A net whose probabilities differ much between images, and between an image and its mirror image."""
    keras.utils.set_random_seed(seed)
    model = build_model("mlp", SHAPE, classes, dtype="float32", args={"units": 8})
    for weight in model.trainable_weights:
        weight.assign(np.random.default_rng(seed).normal(0, 1, weight.shape))
    return model


def images(count=6):
    return np.random.default_rng(5).integers(0, 256, (count, *SHAPE), np.uint8)


def probabilities(model, pixels):
    logits = np.asarray(model(pixels, training=False), np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def moved(pixels, down, right):
    """The images moved, by pixels of their padded selves."""
    wide = np.pad(pixels, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    height, width = pixels.shape[1:3]
    return wide[:, 3 - down : 3 - down + height, 3 - right : 3 - right + width]


def test_the_average_is_the_mean_of_the_probabilities():
    models = [network(seed) for seed in (1, 2, 3)]
    pixels = images()
    found = [probabilities(model, pixels) for model in models]
    assert np.ptp(found, axis=0).max() > 0.3
    together = averaged(models)
    assert probabilities(together, pixels) == pytest.approx(np.mean(found, axis=0), abs=1e-6)
    assert (together.output.dtype, together.input.dtype) == ("float32", "uint8")
    # Its logits are the logarithms of probabilities, not a mean of logits.
    logits = np.asarray(together(pixels, training=False))
    assert np.exp(logits).sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_a_class_without_any_probability_has_finite_logits():
    model = network(1)
    model.layers[-1].bias.assign([500.0, 0.0, -500.0])
    assert np.isfinite(averaged([model, model])(images())).all()


def test_models_of_other_shapes_are_not_averaged():
    with pytest.raises(ValueError, match="same shapes"):
        averaged([network(1), network(1, classes=2)])
    with pytest.raises(ValueError, match="one or more"):
        averaged([])


SHIFTS = [(0, 0), (0, 2), (0, -2), (2, 0), (-2, 0)]


@pytest.mark.parametrize(
    ("flip", "shift", "places"),
    [(True, 0, SHIFTS[:1]), (False, 2, SHIFTS), (True, 2, SHIFTS)],
    ids=["flip", "shift", "flip and shift"],
)
def test_views_are_averaged(flip, shift, places):
    model, pixels = network(1), images()
    seen = [moved(pixels, *place) for place in places]
    seen += [each[:, :, ::-1] for each in seen] * flip
    assert len({each.tobytes() for each in seen}) == len(seen)
    by_hand = np.mean([probabilities(model, each) for each in seen], axis=0)
    served = views(model, flip=flip, shift=shift)
    assert probabilities(served, pixels) == pytest.approx(by_hand, abs=1e-6)
    assert np.abs(by_hand - probabilities(model, pixels)).max() > 0.05
    if flip:  # then left and right are the same to it
        mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
        assert probabilities(served, mirrored) == pytest.approx(probabilities(served, pixels), abs=1e-6)


def test_a_network_of_any_size_has_views_of_the_images():
    inputs = keras.Input((None, None, 1), dtype="uint8")
    x = keras.layers.Conv2D(3, 3, padding="same")(keras.ops.cast(inputs, "float32") / 255)
    model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(x))
    pixels = images()
    by_hand = np.mean([probabilities(model, moved(pixels, *place)) for place in SHIFTS], axis=0)
    assert probabilities(views(model, shift=2, image_shape=SHAPE), pixels) == pytest.approx(by_hand, abs=1e-6)


def test_without_views_the_model_stays_itself():
    model = network(1)
    assert views(model) is model


@dataclass
class Named:
    """A run, as `require_alike` sees it."""

    folder: str
    data: DataFacts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_names", ("B", "A")),
        ("image_shape", (7, 9, 3)),
        ("resize", "pad"),
        ("value_range", "window"),
    ],
)
def test_only_models_of_the_same_images_are_averaged(name, value):
    facts = {"name": "x", "class_names": ("A", "B"), "image_shape": SHAPE, "plan": "1"}
    one = Named("runs/a", DataFacts(**facts))
    require_alike([one, Named("runs/c", DataFacts(**{**facts, "name": "y", "plan": "2"}))])
    other = Named("runs/b", DataFacts(**{**facts, name: value}))
    with pytest.raises(InputError, match=rf"runs/b.*{name}.*leave one out"):
        require_alike([one, other])
