"""Prints the loss of each of the first steps under one or more strategies, as JSON; run by test_parity.

    python parity_losses.py DATA STEPS STRATEGY...      (one_device, mirrored: two logical CPUs; multi_worker)

A block is one step here, so the losses are the means over the global batches of the steps so far.
"""

import json
import sys
from pathlib import Path

import keras
import tensorflow as tf

from data_pipeline.dataset import make_dataset
from data_pipeline.fetch import end_process
from data_pipeline.options import PipelineOptions, Worker
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.blocks import Cuts
from trainer.config import TrainConfig
from trainer.devices.strategy import describe, make_strategy
from trainer.loop import Data, Loop
from trainer.models.registry import build_model
from trainer.workers.agreement import check_agreement, sum_over_workers
from trainer.workers.cluster import cluster_of
from trainer.workers.meeting import meet

_loops = []  # kept to the end, with their iterators


def losses(directory: Path, steps: int, name: str) -> dict:
    """Trains for some steps under a strategy."""
    keras.utils.set_random_seed(0)
    cpus = 0 if name == "multi_worker" else 2
    cluster = cluster_of(name)
    meet(cluster, {}, print)
    strategy = make_strategy(TrainConfig(data="", run_dir="", strategy=name, logical_cpus=cpus))
    manifest, options = Manifest.load(directory), PipelineOptions(global_batch_size=16, seed=5)

    def distributed(split: str, *, training: bool) -> object:
        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = context.num_input_pipelines
            worker = Worker(context.input_pipeline_id, count, context.num_replicas_in_sync // count)
            return make_dataset(directory, manifest, split, options, training=training, worker=worker)

        return strategy.distribute_datasets_from_function(of_worker)

    def build() -> tuple[keras.Model, keras.optimizers.Optimizer]:
        model = build_model("cnn", manifest.image_shape, 2, dtype="float32")
        return model, keras.optimizers.Adam(3e-4)

    found = []
    # Weights that differ much, for a replica's share of a batch has its own mix of classes.
    loop = Loop(strategy, build, 2, [0.25, 4.0], deterministic=True)
    _loops.append(loop)
    loop.run(
        Data(
            train=lambda _: distributed("train", training=True),
            val=lambda: distributed("val", training=False),
            steps_per_epoch=steps,
            val_steps=1,
            global_batch_size=16,
        ),
        [keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: found.append(logs["loss"]))],
        epochs=1,
        cuts=Cuts(of_run=1),
    )
    weights = [float(tf.reduce_sum(tf.abs(variable.value))) for variable in loop.model.weights]
    check_agreement(strategy, 4, "what is the same")
    decided = sum_over_workers(strategy)([7 * cluster.chief, 1])
    facts = {
        "strategy": describe(strategy),
        "disagreement": refused(strategy, 1 if cluster.chief else 4),
        "decided": decided,
    }
    return {"losses": found, "weights": weights, **facts}


def refused(strategy: tf.distribute.Strategy, value: int) -> str:
    """What a worker is told when the workers hold different numbers."""
    try:
        check_agreement(strategy, value, "the step to resume from")
    except InputError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    tf.config.experimental.enable_op_determinism()
    print(json.dumps({name: losses(Path(sys.argv[1]), int(sys.argv[2]), name) for name in sys.argv[3:]}))
    end_process()  # TensorFlow's own end waits for threads of its iterators
