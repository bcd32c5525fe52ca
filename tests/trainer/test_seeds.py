"""On several replicas: test_parity.py, in a process that has several devices."""

from itertools import pairwise

import keras
import numpy as np

from trainer.seeds import decorrelate_replicas, seed_generators


def build():
    keras.utils.set_random_seed(1)
    inner = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.4)])
    inputs = keras.Input((64,))
    x = keras.layers.GaussianNoise(0.1)(inner(inputs))
    return keras.Model(inputs, keras.layers.Dropout(0.5)(x))


def test_random_layers_are_found_in_nested_models_too():
    states = [tuple(np.asarray(generator.state.value)) for generator in seed_generators(build())]
    assert len(set(states)) == 3
    assert [count for _, count in states] == [0, 0, 0]


def test_a_single_device_draws_what_keras_draws():
    plain, changed, ones = build(), build(), np.ones((4, 64), np.float32)
    decorrelate_replicas(changed)
    drawn = [np.asarray(changed(ones, training=True)) for _ in range(3)]
    for values in drawn:
        assert np.array_equal(values, plain(ones, training=True))
    assert all(not np.array_equal(a, b) for a, b in pairwise(drawn))


def test_a_model_that_differs_by_replica_is_saved_as_any(tmp_path):
    model = build()
    decorrelate_replicas(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    ones = np.ones((4, 64), np.float32)
    assert np.array_equal(again(ones), model(ones))
