"""The temperature is found again where it is known, and leaves the ranking as it is."""

import numpy as np
import pytest

from tfrecords.errors import InputError
from trainer.evaluation.intervals import point_values
from trainer.evaluation.predictions import Predictions
from trainer.models.registry import build_model
from trainer.served.rules import HIGHEST, LOWEST, fixed_temperature
from trainer.served.temperature import (
    effect,
    fit_temperature,
    in_words,
    logits_of,
    temperature,
)

KNOWN = [0.4, 1.0, 2.5]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def drawn(classes, records=20_000):
    """Logits that are calibrated, and labels that are drawn by them."""
    random = np.random.default_rng(classes)
    logits = random.normal(0, 2, (records, classes))
    uniform = random.random((records, 1))
    return logits, (softmax(logits).cumsum(axis=1) < uniform).sum(axis=1).clip(0, classes - 1)


def loss(logits, labels, value):
    return -np.log(softmax(logits / value)[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("known", KNOWN)
@pytest.mark.parametrize("classes", [2, 4])
def test_a_known_temperature_is_found(known, classes):
    logits, labels = drawn(classes)
    found = fit_temperature(logits * known, labels)
    assert found == pytest.approx(known, rel=0.03)
    least = loss(logits * known, labels, found)
    assert least <= min(loss(logits * known, labels, found * by) for by in (0.5, 0.99, 1.01, 2))
    of_probabilities = fit_temperature(np.log(softmax(logits * known)), labels)  # logarithms are logits too
    assert of_probabilities == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[3.0, 0.0], [0.0, 1.0]], [0, 1], 1.0),  # All right: the smaller, the better, for ever.
        ([[3.0, 0.0], [0.0, 1.0]], [1, 0], 1.0),  # All wrong: the greater, the better.
        ([[1.0, 1.0], [2.0, 2.0]], [0, 1], 1.0),  # They say nothing.
        ([[0.1, 0.0]] * 999 + [[0.0, 0.01]], [0] * 1000, LOWEST),
        ([[9.0, 0.0]] * 51 + [[0.0, 9.0]] * 49, [0] * 100, HIGHEST),
    ],
    ids=["right", "wrong", "nothing", "lowest", "highest"],
)
def test_where_there_is_no_minimum_the_temperature_stays(logits, labels, expected):
    assert fit_temperature(np.array(logits), np.array(labels)) == expected


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((2, 2)), np.array([0])),
        (np.zeros((2, 2)), np.array([0, 2])),
        (np.array([[0.0, np.inf]]), np.array([0])),
        (np.zeros((0, 2)), np.zeros(0, int)),
    ],
    ids=["lengths", "labels", "infinite", "none"],
)
def test_what_is_no_prediction_is_refused(logits, labels):
    with pytest.raises(ValueError, match=r"logit|labels"):
        fit_temperature(logits, labels)


def test_the_model_divides_its_logits():
    model = build_model("mlp", (5, 6, 1), 3, dtype="float32", args={"units": 4})
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 1), np.uint8)
    cooled = temperature(model, 2.5)
    expected = np.asarray(model(pixels, training=False)) / 2.5
    assert np.asarray(cooled(pixels, training=False)) == pytest.approx(expected, rel=1e-6)
    assert temperature(model, 1.0) is model


def test_the_report_says_what_it_did():
    logits, labels = drawn(2, records=2000)
    names = tuple(map(str, range(len(labels))))

    def predicted(at):
        return Predictions(("A", "B"), names, names, labels, softmax(at))

    value = fit_temperature(3 * logits, labels)
    found = effect(predicted(3 * logits / value), value)
    assert found["value"] == value == pytest.approx(3, rel=0.1)
    assert found["loss"] == pytest.approx(point_values(predicted(3 * logits / value), None)["loss"])
    assert found["loss_without"] == pytest.approx(point_values(predicted(3 * logits), None)["loss"], rel=1e-6)
    assert found["loss"] < found["loss_without"]
    assert found["calibration_error"] < found["calibration_error_without"]
    told = in_words(found)
    for name in ("calibration_error", "calibration_error_without"):
        assert f"{found[name]:.3f}" in told
    assert "validation" in told
    assert "optimistic" in in_words({**found, "chosen_here": True})
    assert "temperature 1:" in in_words({**found, "value": 1.0})
    given = in_words(effect(predicted(3 * logits / value), 1.0, fixed=True))
    assert "temperature 1 given as a number" in given
    assert "validation" not in given


def test_what_the_flag_takes():
    assert [fixed_temperature(text) for text in ("none", "validation", "0.1", "2.5")] == [1, None, 0.1, 2.5]
    for text in ("0", "0.09", "11", "-1", "nan", "inf", "", "cold", "1,5"):
        with pytest.raises(InputError, match=f"--temperature={text}: must be none, validation, or a number"):
            fixed_temperature(text)


def test_a_probability_of_zero_has_a_logit():
    sure = Predictions(("A", "B"), ("1",), ("1",), np.array([0]), np.array([[1.0, 0.0]]))
    assert np.isfinite(logits_of(sure)).all()
