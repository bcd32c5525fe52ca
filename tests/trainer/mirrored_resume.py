"""Trains on two logical CPUs, and again from mid-epoch; prints both as JSON; run by test_parity.

    python mirrored_resume.py FOLDER

The model has BatchNormalization and Dropout.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from data_pipeline.fetch import end_process
from trainer.blocks import Cuts
from trainer.callbacks.history import HistoryFiles
from trainer.callbacks.saving import SaveCheckpoints
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.devices.strategy import make_strategy
from trainer.loop import Data, Loop
from trainer.models.registry import build_model
from trainer.stopping import Pause, Stopping

SHAPE, STEPS, BATCH = (16, 16, 1), 7, 8


def main(folder: Path) -> None:
    """Trains two epochs, then the rest of the second once more."""
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    strategy = make_strategy(TrainConfig(data="", run_dir="", strategy="mirrored", logical_cpus=2))
    random = np.random.default_rng(0)
    records = tf.data.Dataset.from_tensor_slices(
        {
            "image": random.integers(0, 256, (STEPS * BATCH, *SHAPE), np.uint8),
            "label": random.integers(0, 2, STEPS * BATCH).astype(np.int32),
            "weight": np.ones(STEPS * BATCH, np.float32),
        }
    ).batch(BATCH, drop_remainder=True)
    spread = strategy.experimental_distribute_dataset
    data = Data(
        train=lambda start: spread(records.repeat().skip(start)),
        val=lambda: spread(records.repeat()),
        steps_per_epoch=STEPS,
        val_steps=STEPS,
        global_batch_size=BATCH,
    )

    def build() -> tuple[keras.Model, keras.optimizers.Optimizer]:
        return build_model("resnet", SHAPE, 2, dtype="float32"), keras.optimizers.Adam(0.01)

    loops = []

    def trained(start: int) -> dict:
        loop = Loop(strategy, build, 2, deterministic=True)
        loops.append(loop)  # kept to the end, with its iterators
        checkpoints = Checkpoints(
            folder / str(start), loop.model, loop.optimizer, keep=9, meters=loop.kept_meters
        )
        resumed = None
        if start:
            first = Checkpoints(folder / "0", loop.model, loop.optimizer, meters=loop.kept_meters)
            resumed = first.restore(start)
        history = HistoryFiles(None, resumed.history if resumed else ())
        saver = SaveCheckpoints(
            checkpoints,
            history,
            [],
            resumed,
            steps_per_epoch=STEPS,
            keep_meters=loop.keep_meters,
            every_steps=5,
        )
        stopping = Stopping(list, max_minutes=0, began=0)
        loop.run(
            data,
            [history, saver],
            epochs=2,
            start=divmod(start, STEPS),
            cuts=Cuts(of_run=5),
            pause=Pause(saver, stopping, chief=True, steps_per_epoch=STEPS),
        )
        rows = [{k: v for k, v in row.items() if k[:6] not in ("images", "input_")} for row in history.rows]
        variables = [*loop.model.variables, *loop.optimizer.variables]
        copies = [strategy.experimental_local_results(each.value) for each in variables]
        drop = tf.function(lambda: loop.model.layers[-2](tf.ones([1, 64]), training=True))
        dropped = strategy.run(drop)
        return {
            "rows": rows,
            "steps": checkpoints.steps(),
            "values": [np.asarray(own[0]).tobytes().hex() for own in copies],
            "same on both": all(np.array_equal(own[0], own[1]) for own in copies),
            "masks": [np.asarray(own).tolist() for own in strategy.experimental_local_results(dropped)],
        }

    print(json.dumps([trained(0), trained(10)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    end_process()  # TensorFlow's own end waits for threads of its iterators
