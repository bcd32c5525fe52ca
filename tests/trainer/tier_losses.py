"""Trains from one tier after the other; prints what was chosen and found as JSON; run by test_tiers.

    python tier_losses.py DATA FOLDER STRATEGY CACHE...     (mirrored: two logical CPUs)

CACHE is a value of --cache; "poor" is auto where the last worker has no memory to spare.
"""

import hashlib
import json
import sys
from pathlib import Path

import keras
import tensorflow as tf

from data_pipeline.fetch import end_process
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.devices.strategy import make_strategy
from trainer.loop import Loop
from trainer.models.registry import build_model
from trainer.tiers import choose_train_tier, run_data
from trainer.workers.cluster import cluster_of
from trainer.workers.meeting import meet


def losses(config: TrainConfig, strategy: tf.distribute.Strategy) -> dict:
    """Trains two epochs."""
    keras.utils.set_random_seed(0)
    manifest = Manifest.load(Path(config.data))

    def build() -> tuple[keras.Model, keras.optimizers.Optimizer]:
        model = build_model("cnn", manifest.image_shape, 2, dtype="float32")
        return model, keras.optimizers.Adam(3e-4)

    loop, epochs = Loop(strategy, build, 2, deterministic=True), []
    tier = choose_train_tier(config, manifest, strategy)
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(logs))
    loop.run(run_data(config, manifest, strategy, tier), [keep], epochs=2)
    found = [{name: logs[name] for name in ("loss", "auc", "val_loss", "val_auc")} for logs in epochs]
    weights = b"".join(weight.tobytes() for weight in loop.model.get_weights())
    return {"tier": tier.name, "epochs": found, "weights": hashlib.sha256(weights).hexdigest()}


if __name__ == "__main__":
    tf.config.experimental.enable_op_determinism()
    data, folder, name, *caches = sys.argv[1:]
    config = TrainConfig.of(
        data=data,
        run_dir=f"{folder}/run",
        cache_dir=f"{folder}/cache",
        strategy=name,
        logical_cpus=2 if name == "mirrored" else 0,
        global_batch_size=16,
    )
    cluster = cluster_of(name)
    meet(cluster, {}, print)
    strategy = make_strategy(config)
    found = {}
    for cache in caches:
        budget = 1 if cache == "poor" and not cluster.chief else 0
        given = {"cache": "auto" if cache == "poor" else cache, "ram_budget": budget}
        found[cache] = losses(config.changed(**given), strategy)
    print(json.dumps(found))
    end_process()
