"""Prints the weights after three steps on one device and on two replicas, as JSON; run by test_loop."""

import json

import keras
import numpy as np
import tensorflow as tf

from data_pipeline.fetch import end_process
from trainer.config import TrainConfig
from trainer.devices.strategy import make_strategy
from trainer.loop import Data, Loop
from trainer.models.registry import build_model

SHAPE = (6, 6, 1)


_loops = []  # kept to the end, with their iterators


def weights(strategy: tf.distribute.Strategy, optimizer: str) -> list[float]:
    """Trains three steps; returns some weights."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    records = tf.data.Dataset.from_tensor_slices(
        {
            "image": random.integers(0, 256, (24, *SHAPE), np.uint8),
            "label": random.integers(0, 2, 24).astype(np.int32),
            "weight": np.ones(24, np.float32),
        }
    ).batch(8)

    def build() -> tuple[keras.Model, keras.optimizers.Optimizer]:
        # float16's loss scale around a plain rule, whose steps are as long as the gradients.
        inner = keras.optimizers.SGD(0.5)
        scaled = keras.optimizers.LossScaleOptimizer(inner) if optimizer == "float16" else inner
        return build_model("mlp", SHAPE, 2, dtype="float32"), scaled

    def spread() -> object:
        return strategy.experimental_distribute_dataset(records)

    loop = Loop(strategy, build, 2)
    _loops.append(loop)
    loop.run(Data(lambda _: spread(), spread, 3, 3, 8), [], epochs=1)
    return np.concatenate([np.ravel(value) for value in loop.model.get_weights()])[::37].tolist()


if __name__ == "__main__":
    config = TrainConfig(data="", run_dir="", strategy="mirrored", logical_cpus=2)
    mirrored = make_strategy(config)
    strategies = (tf.distribute.OneDeviceStrategy("CPU:0"), mirrored)
    print(json.dumps({name: [weights(s, name) for s in strategies] for name in ("SGD", "float16")}))
    end_process()  # TensorFlow's own end waits for threads of its iterators
