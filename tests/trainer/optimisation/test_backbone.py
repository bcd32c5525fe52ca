"""Frozen and slower layers: which they are, that they stay or move as told, and when."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_loop import SHAPE, data, drawn

from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.loop import Loop
from trainer.models.registry import build_model
from trainer.optimisation.backbone import Backbone, Unfreeze


def config(**values):
    return TrainConfig(data="data", run_dir="run", learning_rate=0.1, **values)


def nested():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.BatchNormalization(name="b")]
    )
    inner.name = "inner"
    return keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2, name="head")])


@pytest.mark.parametrize(
    ("pattern", "frozen"), [("inner", {"a", "b"}), ("^a$", {"a"}), ("a|head", {"a", "head"}), ("^b", {"b"})]
)
def test_layers_are_found_by_their_names(pattern, frozen):
    model = nested()
    backbone = Backbone(model, pattern, 1.0)
    backbone.freeze(True)
    assert {layer.name for layer in model._flatten_layers() if layer.variables and not layer.trainable} - {
        "inner"
    } == frozen
    backbone.freeze(False)
    assert len(model.trainable_variables) == 6


@pytest.mark.parametrize(
    ("pattern", "told"), [("conv", "no layer; the layers are .*head"), ("", "all layers")]
)
def test_a_pattern_that_finds_nothing_or_all_is_refused(pattern, told):
    with pytest.raises(InputError, match=told):
        Backbone(nested(), pattern, 1.0)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"freeze": "("}, r"--freeze=\(: is no regular expression"),
        ({"unfreeze_epoch": 2}, "--unfreeze_epoch=2: needs --freeze"),
        (
            {"freeze": "a", "backbone_learning_rate": 0.1},
            "=0.1: needs --unfreeze_epoch",
        ),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values, told):
    with pytest.raises(InputError, match=told):
        config(**values)


class Weights(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(
            {
                each.path: each.numpy()
                for each in self.model.trainable_variables + self.model.non_trainable_variables
            }
        )


def trained(epochs, **values):
    given = config(**values)
    keras.backend.clear_session()  # so that layers have the same names in each training
    keras.utils.set_random_seed(3)

    def build():
        model = build_model("mlp", SHAPE, 2, dtype="float32", args={"units": 4})
        return model, keras.optimizers.SGD(0.1)

    loop = Loop(tf.distribute.OneDeviceStrategy("CPU:0"), build, 2, backbone=Backbone.of(given))
    first = {each.path: each.numpy() for each in loop.model.variables}
    weights, records = Weights(), drawn(8)
    calls = [weights]
    if loop.backbone:
        calls.append(Unfreeze(loop.backbone, given.unfreeze_epoch, loop.retrace))
    loop.run(data(loop, records, records, 8), calls, epochs=epochs)  # one step an epoch
    return first, weights.seen


def moved(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


@pytest.mark.slow
def test_frozen_layers_stay_until_their_epoch():
    first, (one, two, three) = trained(3, freeze="^dense", unfreeze_epoch=3)
    head, dense = {p for p in first if "logits" in p}, {p for p in first if "dense" in p}
    assert head and dense  # noqa: PT018
    assert moved(first, one) == moved(one, two) == head
    assert moved(two, three) == head | dense
    first, (one, two) = trained(2, freeze="^dense")
    assert moved(first, two) == head


@pytest.mark.slow
def test_slower_layers_move_by_their_share_of_the_rate():
    first, (same,) = trained(1)
    _, (slow,) = trained(1, freeze="^dense", unfreeze_epoch=1, backbone_learning_rate=0.025)
    for path in first:
        share = 0.25 if "dense" in path else 1.0
        np.testing.assert_allclose(
            slow[path] - first[path], share * (same[path] - first[path]), rtol=1e-4, atol=1e-7, err_msg=path
        )
