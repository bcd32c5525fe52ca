"""Trains with each of some levers, whole, resumed in mid-epoch, and on one device; run by test_levers.

    python lever_runs.py DATA FOLDER LEVERS

LEVERS is JSON: the name of each lever, and the values of its configuration. The result is a line of JSON: for
each lever the histories of three runs, and hashes of their weights and of the answers of the models that they
have published. "whole" and "resumed" are mirrored over two logical CPUs; "resumed" goes on from the last
checkpoint in mid-epoch of "whole". "one_device" is another whole run.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from data_pipeline.fetch import end_process
from trainer.config import TrainConfig
from trainer.run import RESULT_NAME
from trainer.training import train

BASE = {
    "model": "cnn",
    "model_args": (("filters_1", 4), ("filters_2", 4), ("filters_3", 4), ("units", 8)),
    "epochs": 2,
    "global_batch_size": 8,
    "learning_rate": 0.003,
    "precision": "float32",
    "deterministic": True,
    "logical_cpus": 2,
    "threads_per_process": 2,
    "checkpoint_steps": 3,
    "checkpoint_minutes": 0.0,
    "keep": 999,
}


def trained(values: dict[str, Any], folder: Path, data: str) -> dict[str, Any]:
    """Trains, or goes on with, a run; returns its rows, and hashes of its model."""
    config = TrainConfig.of(**BASE | {"data": data, "run_dir": str(folder)} | values)
    train(config, lambda _: None, evaluate=False)
    rows = json.loads((folder / "history.json").read_text())
    model = keras.models.load_model(folder / "model.keras", compile=False, safe_mode=True)
    weights = b"".join(weight.tobytes() for weight in model.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (4, *model.input_shape[1:]), np.uint8)
    answers = np.asarray(model(images, training=False))
    return {
        "answers": hashlib.sha256(answers.tobytes()).hexdigest(),
        "rows": [{k: v for k, v in row.items() if k[:6] not in ("images", "input_")} for row in rows],
        "weights": hashlib.sha256(weights).hexdigest(),
        "steps": sorted(int(path.name[5:]) for path in (folder / "checkpoints").iterdir()),
    }


def three(values: dict[str, Any], folder: Path, data: str) -> dict[str, Any]:
    """Trains the three runs of one lever."""
    values = {
        name: tuple(map(tuple, value)) if name.endswith("_args") else value for name, value in values.items()
    }
    whole = trained(values | {"strategy": "mirrored"}, folder / "whole", data)
    per_epoch = whole["steps"][-1] // whole["rows"][-1]["epoch"]
    cut = max(step for step in whole["steps"] if step % per_epoch)
    shutil.copytree(folder / "whole", folder / "resumed")
    for name in ("model.keras", RESULT_NAME, "history.json", "history.csv"):
        (folder / "resumed" / name).unlink()
    for step in whole["steps"]:
        if step > cut:
            shutil.rmtree(folder / "resumed" / "checkpoints" / f"step-{step:010d}")
    resumed = trained(values | {"strategy": "mirrored"}, folder / "resumed", data)
    one = trained(values | {"strategy": "one_device"}, folder / "one", data)
    return {"whole": whole, "resumed": resumed, "one_device": one, "cut": cut}


if __name__ == "__main__":
    data, folder, levers = sys.argv[1:]
    found = {name: three(values, Path(folder) / name, data) for name, values in json.loads(levers).items()}
    print(json.dumps(found))
    end_process()  # TensorFlow's own end waits for threads of its iterators
