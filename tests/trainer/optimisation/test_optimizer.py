"""Every optimizer of Keras by its name: its arguments, what decays, and two replicas like one device."""

import json

import numpy as np
import pytest
from keras.src.optimizers import ALL_OBJECTS

from tfrecords.errors import InputError
from trainer.checks import check_rows
from trainer.config import OPTIMIZERS, TrainConfig
from trainer.models.registry import build_model
from trainer.optimisation.optimizer import make_optimizer

OF_OTHERS = {"optimizer", "lossscaleoptimizer", "multioptimizer", "optimizermap"}  # they have others inside


def config(**values):
    return TrainConfig(data="data", run_dir="run", **values)


def test_the_names_are_those_of_keras():
    assert set(OPTIMIZERS) == {kind.__name__.lower() for kind in ALL_OBJECTS} - OF_OTHERS


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_made_with_the_rate(name):
    optimizer = make_optimizer(config(optimizer=name), 0.25, "float32")
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate.numpy()) == 0.25


def test_arguments_reach_the_optimizer():
    given = config(
        optimizer="sgd",
        optimizer_args=(("momentum", 0.5), ("nesterov", True)),
        clip_norm=2.0,
        weight_decay=0.1,
    )
    optimizer = make_optimizer(given, 0.1, "mixed_float16").inner_optimizer
    assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.5, True, 0.1)
    assert optimizer.global_clipnorm == 2.0
    assert make_optimizer(config(optimizer="adamw"), 0.1, "float32").weight_decay == 0.004
    assert given == TrainConfig.from_json(json.loads(json.dumps(given.to_stored())))


def test_arguments_that_an_optimizer_does_not_take_are_refused():
    with pytest.raises(InputError) as error:
        make_optimizer(config(optimizer="sgd", optimizer_args=(("beta_1", 0.5),)), 0.1, "float32")
    assert all(words in str(error.value) for words in ("--optimizer_args=beta_1=0.5", "sgd", "momentum"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"optimizer": "adamant"}, "--optimizer=adamant: must be one of .*adamw"),
        ({"ema": 1.0}, "--ema=1: must be from 0 to less than 1"),
        ({"weight_decay": -0.1}, "--weight_decay=-0.1: must be 0 or more"),
        ({"clip_norm": -1.0}, "--clip_norm=-1.0: must be 0 or more"),
        ({"accumulate": 0}, "--accumulate=0: must be 1 or more"),
        ({"optimizer_args": (("use_ema", True),)}, "--optimizer_args=use_ema=True: is the flag --ema"),
        ({"optimizer_args": (("global_clipnorm", 1),)}, "is the flag --clip_norm"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values, told):
    with pytest.raises(InputError, match=told):
        config(**values)


def test_a_batch_that_cannot_be_cut_into_parts_is_refused():
    check_rows(config(accumulate=4), 16)
    with pytest.raises(InputError, match=r"--accumulate=3: --global_batch_size=32 .* for example 36"):
        check_rows(config(accumulate=3), 16)  # of each of two replicas


def test_vectors_do_not_decay():
    model = build_model("resnet", (16, 16, 1), 2, dtype="float32")
    given = config(optimizer="sgd", weight_decay=0.5)
    optimizer = make_optimizer(given, 0.1, "float32", model.trainable_variables)
    optimizer.build(model.trainable_variables)
    before = [each.numpy() for each in model.trainable_variables]
    optimizer.apply([0 * each.value for each in model.trainable_variables], model.trainable_variables)
    ranks = set()
    for variable, value in zip(model.trainable_variables, before, strict=True):
        factor = 1.0 if value.ndim < 2 else 1 - 0.5 * 0.1
        np.testing.assert_allclose(variable.numpy(), value * factor, rtol=1e-6)
        ranks.add(value.ndim)
    assert ranks == {1, 2, 4}


REPLICAS = """
import json
import sys
import keras
import numpy as np
import tensorflow as tf
from data_pipeline.fetch import end_process
from trainer.config import OPTIMIZERS, TrainConfig
from trainer.devices.strategy import make_strategy
from trainer.loop import Data, Loop
from trainer.models.registry import build_model
from trainer.checks import check_rows
from trainer.optimisation.optimizer import make_optimizer

random = np.random.default_rng(0)
label = random.integers(2, size=16).astype(np.int32)
image = (random.integers(0, 150, (16, 6, 6, 1)) + 100 * label[:, None, None, None]).astype(np.uint8)
records = {"image": image, "label": label, "weight": np.ones(16, np.float32)}
kept, found = [], {}
for name in OPTIMIZERS:
    found[name] = []
    for kind in ("one_device", "mirrored"):
        config = TrainConfig(data="", run_dir="", strategy=kind, logical_cpus=2, optimizer=name)
        strategy = make_strategy(config)
        keras.utils.set_random_seed(3)
        def build():
            model = build_model("mlp", (6, 6, 1), 2, dtype="float32", args={"units": 8})
            return model, make_optimizer(config, 0.01, "float32", model.trainable_variables)
        loop = Loop(strategy, build, 2)
        spread = lambda: strategy.experimental_distribute_dataset(
            tf.data.Dataset.from_tensor_slices(records).batch(8, drop_remainder=True).repeat()
        )
        data = Data(lambda start: spread(), spread, steps_per_epoch=6, val_steps=2, global_batch_size=8)
        losses = []
        keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: losses.append(logs["val_loss"]))
        loop.run(data, [keep], epochs=2)
        kept.append(loop)
        found[name].append(losses)
print(json.dumps(found))
end_process()
"""


@pytest.mark.slow
@pytest.mark.stops
@pytest.mark.storm
def test_every_optimizer_trains_two_replicas_as_one_device(run_python):
    done = run_python("-c", REPLICAS)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(OPTIMIZERS)
    for name, (one, two) in found.items():
        assert one == pytest.approx(two, rel=1e-3), name
        assert one[0] != one[1], name
