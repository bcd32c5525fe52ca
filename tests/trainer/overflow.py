"""Prints what a step does whose gradients overflow on one replica alone, as JSON; run by test_loop.

python overflow.py STRATEGY      (mirrored: two logical CPUs; multi_worker: by TF_CONFIG)

A line for an overflow on replica 0, and one for replica 1.
"""

import json
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data_pipeline.fetch import end_process
from trainer.config import TrainConfig
from trainer.devices.strategy import make_strategy
from trainer.loop import Data, Loop
from trainer.models.registry import build_model
from trainer.workers.cluster import cluster_of
from trainer.workers.meeting import meet

SHAPE, STEPS = (6, 6, 1), 6


_real = tf.GradientTape.gradient
_loops = []  # kept to the end, with their iterators


def main(name: str) -> None:
    """Trains with an overflow on each of two replicas."""
    meet(cluster_of(name), {}, print)
    config = TrainConfig(data="", run_dir="", strategy=name, logical_cpus=2 * (name == "mirrored"))
    strategy = make_strategy(config)
    for rank in range(2):
        overflowing(strategy, rank)


def overflowing(strategy: Any, rank: int) -> None:
    """Trains six steps in float16; in the third, one replica's gradients are infinite."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    records = tf.data.Dataset.from_tensor_slices(
        {
            "image": random.integers(0, 256, (8 * STEPS, *SHAPE), np.uint8),
            "label": random.integers(0, 2, 8 * STEPS).astype(np.int32),
            "weight": np.ones(8 * STEPS, np.float32),
        }
    ).batch(8, drop_remainder=True)

    def spread() -> Any:
        return strategy.experimental_distribute_dataset(records.repeat())

    def build() -> tuple[keras.Model, Any]:
        model = build_model("mlp", SHAPE, 2, dtype="mixed_float16")
        return model, keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), initial_scale=1024.0)

    loop = Loop(strategy, build, 2)
    _loops.append(loop)

    def gradient(tape: Any, target: Any, sources: Any) -> Any:
        context = tf.distribute.get_replica_context()
        here = context.replica_id_in_sync_group == rank
        bad = here & (loop.optimizer.iterations.value == 2) & (loop.optimizer.dynamic_scale.value == 1024.0)
        return [tf.where(bad, np.inf, each) for each in _real(tape, target, sources)]

    tf.GradientTape.gradient = gradient
    found = []

    def note(block: Any) -> int:
        variables = [loop.optimizer.iterations, loop.optimizer.dynamic_scale]
        copies = [np.asarray(strategy.experimental_local_results(v.value)[-1]).item() for v in variables]
        weights = strategy.experimental_local_results(loop.model.weights[0].value)
        found.append(
            [*copies, float(np.sum(weights[-1])), all(np.array_equal(weights[0], w) for w in weights)]
        )
        return 1

    loop.run(Data(lambda _: spread(), spread, STEPS, 1, 8), [], epochs=1, pause=note, first_block=1)
    print(json.dumps(found[:STEPS]))


if __name__ == "__main__":
    main(sys.argv[1])
    end_process()  # TensorFlow's own end waits for threads of its iterators
