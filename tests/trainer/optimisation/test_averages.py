"""Averages of weights: the formula, what they are used for, and what a checkpoint keeps of them."""

import keras
import numpy as np
import pytest
from small_loop import data, drawn, make_loop

from trainer.checkpoint import Checkpoints, State, read_best
from trainer.optimisation.averages import averaged


class Weights(keras.callbacks.Callback):
    """Keeps the weights after each block, which is one step here."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.get_weights())


@pytest.fixture(scope="module")
def run():
    loop, weights = make_loop(ema=0.5), Weights()
    first = loop.model.get_weights()
    records = drawn(12)
    loop.run(
        data(loop, records, records, 4),
        [weights],
        epochs=2,
        pause=lambda _: 1,
        first_block=1,
    )
    return loop, first, weights.seen


@pytest.mark.slow
def test_the_averages_follow_the_formula(run):
    loop, expected, seen = run
    assert len(seen) == 6
    for number, weights in enumerate(seen, 1):
        kept = min(0.5, (1 + number) / (10 + number))
        expected = [kept * one + (1 - kept) * now for one, now in zip(expected, weights, strict=True)]
    for average, value in zip(loop.averages.values, expected, strict=True):
        np.testing.assert_allclose(average.numpy(), value, rtol=1e-5, atol=1e-7)
    assert not np.allclose(loop.averages.values[0].numpy(), seen[-1][0], atol=1e-5)


def test_validation_uses_the_averages_and_training_does_not(run):
    loop, _, seen = run
    images = drawn(5).image
    before = loop.model.get_weights()
    logits = loop.averages.logits(images).numpy()
    twin = keras.models.clone_model(loop.model)
    twin.set_weights([average.numpy() for average in loop.averages.values])
    np.testing.assert_allclose(logits, twin(images).numpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(logits - loop.model(images).numpy()).max() > 1e-3
    for one, two, three in zip(before, loop.model.get_weights(), seen[-1], strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_without_averages_the_weights_are_used():
    loop = make_loop()
    assert loop.averages.values == []
    images = drawn(5).image
    np.testing.assert_array_equal(loop.averages.logits(images), loop.model(images))


def test_a_checkpoint_keeps_weights_and_averages_and_its_readers_take_the_averages(run, tmp_path):
    loop, _, _ = run
    kept = [average.numpy() for average in loop.averages.values]
    raw = loop.model.get_weights()
    checkpoints = Checkpoints(tmp_path, loop.model, loop.optimizer, averages=loop.averages.values)
    checkpoints.save(State(6, 2, 2, 6, 0.5, (), {}))
    for variable in (*averaged(loop.model), *loop.averages.values):
        variable.assign(np.zeros(variable.shape, np.float32))
    checkpoints.restore(6)
    for found, expected in zip(loop.model.get_weights(), raw, strict=True):
        np.testing.assert_array_equal(found, expected)
    twin = keras.models.clone_model(loop.model)
    assert read_best(tmp_path, twin).epoch == 2
    for found, expected in zip(twin.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(found, expected)
    checkpoints.use_averages()
    for found, expected in zip(loop.model.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(found, expected)
