"""Runs that end early, by a signal or by harm to their data, and are started again."""

import json
import shutil
import signal
import subprocess
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_directories import TIMES, epoch_steps, figures, history

from tfrecords.manifest import Manifest
from trainer.evaluation.epoch_metrics import EpochMetrics

pytestmark = pytest.mark.slow


@pytest.mark.storm
@pytest.mark.stops
def test_the_end_of_a_cosine_is_not_moved_by_a_resumed_run(converted, run_command, tmp_path):
    command = ("trainer.main", f"--data={converted}", f"--run_dir={tmp_path / 'run'}", "--model=mlp")
    done = run_command(
        *command, "--schedule=cosine", "--warmup_epochs=1", "--epochs=2", "--precision=float32"
    )
    assert (done.returncode, done.stderr) == (0, "")
    words = "mlp, Adam 0.001 by cosine over 2 epochs, 1 of warm-up, global batch 32"
    assert f"model      {words}" in done.stdout
    assert history(tmp_path / "run")[-1]["learning_rate"] == 0.0
    again = run_command(
        *command, "--schedule=cosine", "--warmup_epochs=1", "--epochs=3", "--precision=float32"
    )
    assert (again.returncode, again.stdout) == (2, "")
    assert "another configuration (--epochs=2 there, --epochs=3 now); choose another" in again.stderr


STREAMED = (
    "--model=mlp",
    "--epochs=12",
    "--patience=12",
    "--global_batch_size=4",
    "--precision=float32",
    "--deterministic",
    "--cache=stream",
    "--keep=99",
    "--checkpoint_steps=4",
    "--checkpoint_minutes=0",
)


@pytest.mark.stops
@pytest.mark.storm
def test_a_shard_harmed_while_it_is_trained_on_is_named_and_the_run_goes_on(train, converted, tmp_path):
    """Each harm is done as soon as its process has written a checkpoint; the shard is read each epoch."""
    data, kept = tmp_path / "data", tmp_path / "kept"
    shutil.copytree(converted, data)
    shard = data / Manifest.load(data).split("train").shards[0].name
    shutil.copy(shard, kept)

    def flip_a_bit():
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)

    whole, harmed = tmp_path / "whole" / "run", tmp_path / "harmed" / "run"
    for folder in (whole, harmed):
        folder.parent.mkdir()
    last = 0
    for harm, message in (
        (shard.unlink, f"error: {shard}: the shard is missing; "),
        (flip_a_bit, f"error: {shard}: record "),
    ):
        process = train(data, harmed, STREAMED)
        while process.poll() is None and steps_in(harmed)[-1] <= last:
            time.sleep(0.001)
        harm()
        printed = process.communicate()[0]
        assert process.returncode == 2, printed
        assert printed.splitlines()[-1].startswith(message)
        assert "Traceback" not in printed
        assert steps_in(harmed)[-1] > last
        last = steps_in(harmed)[-1]
        shutil.copy(kept, shard)
    for folder in (harmed, whole):
        process = train(data, folder, STREAMED)
        printed = process.communicate()[0]
        assert process.returncode == 0, printed
        assert ("resuming after epoch" in printed) == (folder == harmed)
    assert figures(harmed) == figures(whole)
    assert steps_in(harmed) == steps_in(whole)
    for name in {f"step-{last:010d}", f"step-{steps_in(whole)[-1]:010d}"}:
        refuse_other_tensors(*(folder / "checkpoints" / name for folder in (harmed, whole)))


def steps_in(run):
    """The steps there is a checkpoint of, after a 0."""
    folder = run / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return [0, *sorted(int(name.removeprefix("step-")) for name in names if name.startswith("step-"))]


def refuse_other_tensors(mine, other):
    """Returns the shapes of the tensors of two checkpoints, which must be the same to the bit."""
    ours, theirs = (tf.train.load_checkpoint(place / "variables") for place in (mine, other))
    shapes = theirs.get_variable_to_shape_map()
    assert ours.get_variable_to_shape_map() == shapes
    for key in shapes.keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        assert np.array_equal(ours.get_tensor(key), theirs.get_tensor(key)), (mine.name, key)
    return shapes


RESUMED = (
    "--model=resnet",  # BatchNormalization and Dropout
    "--schedule=cosine",
    "--warmup_epochs=1",
    "--epochs=9",
    "--patience=2",
    "--min_delta=5",  # more than a loss near ln 2 can fall: only epoch 1 counts as better, so 3 is the last
    "--global_batch_size=4",
    "--precision=float32",
    "--deterministic",
    "--keep=9",
    "--checkpoint_steps=4",
    "--checkpoint_minutes=0",
)


@pytest.fixture
def train(start):
    """Starts a training that prints all that it says at once."""

    def begin(data, folder, flags=RESUMED):
        return start(
            *("-m", "trainer.main", f"--data={data}", f"--run_dir={folder}", *flags),
            env={"PYTHONUNBUFFERED": "1"},
            cwd=folder.parent,
            stderr=subprocess.STDOUT,
        )

    return begin


def kill_at(process, folder, name):
    """Kills the process when there is a checkpoint of this name."""
    while process.poll() is None and not (folder / "checkpoints" / name).exists():
        time.sleep(0.001)
    assert process.poll() is None, process.stdout.read()
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.storm
@pytest.mark.stops
def test_a_run_killed_twice_in_mid_epoch_ends_as_one_that_was_not(train, converted, tmp_path):
    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    for folder in (whole, killed):
        folder.parent.mkdir()
    steps = epoch_steps(converted, 4)
    assert steps % 4  # so that the multiples of 4 below are in mid-epoch
    first, second = (next(s for s in range(4, 99, 4) if s > epoch * steps) for epoch in (0, 1))

    kill_at(train(converted, killed), killed, f"step-{first:010d}")
    assert not (killed / "history.json").exists()  # in the first epoch
    # While a checkpoint of the second epoch is being written.
    kill_at(train(converted, killed), killed, f".step-{second:010d}.tmp")
    assert not (killed / "model.keras").exists()
    outputs = []
    for folder in (killed, whole):
        process = train(converted, folder)
        outputs.append(process.communicate()[0])
        assert process.returncode == 0, outputs[-1]
    assert "resuming after epoch 1" in outputs[0]
    assert "resuming" not in outputs[1]

    rows = figures(whole)
    assert figures(killed) == rows
    assert len(rows) == 3  # a run that forgot its early stopping goes on longer
    names = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == names
    for name in names:
        places = [folder / "checkpoints" / name for folder in (killed, whole)]
        shapes = refuse_other_tensors(*places)
        assert len([key for key in shapes if key.startswith("seeds/")]) == 1  # of Dropout
        assert len([key for key in shapes if key.startswith("optimizer/")]) > 2 * 30  # Adam's moments
        sums = sum(np.prod(each.shape, dtype=int) for each in EpochMetrics(2).sums)
        assert shapes["meters/.ATTRIBUTES/VARIABLE_VALUE"] == [1, sums]
        states = [json.loads((place / "state.json").read_text()) for place in places]
        for state in states:
            state["history"] = [{k: v for k, v in r.items() if k not in TIMES} for r in state["history"]]
        assert states[0] == states[1]
    models = [keras.models.load_model(folder / "model.keras", safe_mode=True) for folder in (killed, whole)]
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        assert np.array_equal(ours, theirs)
    name = "report/test/predictions.csv"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
