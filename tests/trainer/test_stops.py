"""A training that is stopped anywhere and started again ends as one that was not; real signals."""

import json
import re
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from tfrecords.manifest import Manifest

pytestmark = [pytest.mark.slow, pytest.mark.stops]

_HARMED = Path(__file__).with_name("harmed.py")
FLAGS = (
    "--model=mlp",
    "--epochs=3",
    "--global_batch_size=4",
    "--precision=float32",
    "--learning_rate=0.003",
    "--deterministic",
    "--checkpoint_minutes=0",
    "--threads_per_process=2",
    "--cache=memory",
    "--log_steps=3",
)
STRATEGIES = {
    "one_device": ("--strategy=one_device",),
    "mirrored": ("--strategy=mirrored", "--logical_cpus=2"),
    "multi_worker": ("--strategy=multi_worker",),
}
_STORM, _STORM_TOO = (pytest.param(name, marks=pytest.mark.storm) for name in ("one_device", "mirrored"))


@pytest.fixture
def train(converted, run_python, tmp_path):
    """Trains in a folder with one harm; multi_worker in two processes of launch.local."""

    def run(folder, strategy, harm="none", *flags, data=converted, restarts=0, **environment):
        command = [_HARMED, harm, "--", f"--data={data}", f"--run_dir={folder}", *FLAGS]
        command += [*STRATEGIES[strategy], *flags]
        environment = {"TF_ENABLE_ONEDNN_OPTS": "0", **environment}  # see --help of --deterministic
        if strategy == "multi_worker":
            launch = [
                "-m",
                "launch.local",
                "--processes=2",
                f"--max_restarts={restarts}",
                f"--log_dir={tmp_path / 'logs'}",
            ]
            return run_python(*launch, "--", sys.executable, *command, **environment)
        return run_python(*command, **environment)

    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Strategy -> the folder of a run that nothing stopped; made when it is first asked for."""
    folders = {}

    def folder(train, strategy):
        if strategy not in folders:
            folders[strategy] = tmp_path_factory.mktemp("whole") / strategy
            done = train(folders[strategy], strategy)
            assert done.returncode == 0, done.stdout + done.stderr
        return folders[strategy]

    return folder


def weights(folder):
    return keras.models.load_model(folder / "model.keras", compile=False).get_weights()


def refuse_other(folder, other):
    """The weights, the history, the predictions and what TensorBoard shows are the same, to the bit."""
    for mine, its in zip(weights(folder), weights(other), strict=True):
        assert np.array_equal(mine, its)
    mine, its = (json.loads((each / "history.json").read_text()) for each in (folder, other))
    for row in (*mine, *its):
        for name in ("images_per_second", "input_wait"):
            del row[name]
    assert mine == its
    predictions = [(each / "report/test/predictions.csv").read_bytes() for each in (folder, other)]
    assert predictions[0] == predictions[1]
    assert scalars(folder) == scalars(other)


def scalars(folder):
    """(run, tag, step, value) of all points by epoch and by step, in order; no value that the clock gave."""
    found = []
    for run in ("train", "validation"):
        options = {"size_guidance": {TENSORS: 0}, "purge_orphaned_data": False}
        events = EventAccumulator(str(folder / "tensorboard" / run), **options).Reload()
        for tag in events.Tags()["tensors"]:
            timed = tag.endswith(("images_per_second", "input_wait"))
            for event in events.Tensors(tag):
                value = make_ndarray(event.tensor_proto).item()
                found.append((run, tag, event.step, "by the clock" if timed else value))
    return sorted(found)


def steps(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("strategy", [_STORM, _STORM_TOO, "multi_worker"])
def test_stopped_again_and_again(train, whole, converted, tmp_path, strategy):
    """While data load, in training, in validation, before the report: the code, the steps, the last line."""
    folder = tmp_path / "run"
    epoch = -(-Manifest.load(converted).split("train").records // 4)
    both = "" if strategy != "multi_worker" else "#1"  # a signal on one worker counts for all
    within = range(epoch + 1, 2 * epoch)
    for harm, code, saved, words in (
        ("SIGTERM@load", 75, None, ["SIGTERM", "the same command again goes on from here"]),
        (f"SIGTERM@train{both}", 75, within, ["SIGTERM", "of epoch 2; the same command goes on from there"]),
        (f"SIGINT@val{both}", 130, [2 * epoch], ["interrupted", "epoch 2's training, before its validation"]),
        ("SIGTERM@threshold", 75, [3 * epoch], ["SIGTERM", "training is done and saved"]),
        ("SIGINT@report", 130, [3 * epoch], ["interrupted", "training is done and saved"]),
    ):
        done = train(folder, strategy, harm)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said
        assert all(word in said for word in words), said
        if saved:
            assert steps(folder)[-1] in saved
            if saved is within:
                assert f"saved after step {steps(folder)[-1] - epoch} of {epoch} of epoch 2" in said
        assert not (folder / "lock.json").exists()
        assert not list(folder.glob(".*"))
    done = train(folder, strategy)
    assert done.returncode == 0, done.stdout + done.stderr
    refuse_other(folder, whole(train, strategy))
    # Now there is nothing left to do, and no worker waits for another to see that.
    done = train(folder, strategy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished after epoch 3 of at most 3" in done.stdout
    assert "\nepoch" not in done.stdout


@pytest.mark.storm
def test_a_run_killed_within_an_epoch_has_the_points_of_one_that_was_not(train, whole, tmp_path):
    """It has written points after its last checkpoint, of which none may be there twice."""
    folder = tmp_path / "run"
    epoch = steps(whole(train, "one_device"))[-1] // 3
    killed = train(folder, "one_device", f"SIGKILL@{epoch + 6}", "--checkpoint_steps=5")
    assert killed.returncode == -signal.SIGKILL
    last = steps(folder)[-1]
    assert epoch < last < epoch + 6
    before = {step for run, tag, step, _ in scalars(folder) if tag == "steps/loss"}
    assert max(before) == epoch + 6 > last
    done = train(folder, "one_device", "none", "--checkpoint_steps=5")
    assert done.returncode == 0, done.stderr
    assert f"resuming after epoch 1 and {last - epoch} of" in done.stdout
    refuse_other(folder, whole(train, "one_device"))
    lines = [line for line in done.stdout.splitlines() if " step " in line and line.startswith("epoch ")]
    assert lines[0].startswith(f"epoch   2/3  step 3 of {epoch}, ")
    expected = {epoch * number + step for number in range(3) for step in (*range(3, epoch, 3), epoch)}
    assert {
        step for run, tag, step, _ in scalars(folder) if (run, tag) == ("train", "steps/loss")
    } == expected
    # What the run is stands there once.
    names = [path.name.rpartition(".")[2] for path in (folder / "tensorboard").glob("events*")]
    assert sorted(names) == ["hparams_end", "hparams_experiment", "hparams_start"]


@pytest.mark.storm
def test_a_run_goes_on_with_fewer_and_with_more_workers(train, whole, tmp_path):
    """The global batch stays, so it is the same training but for rounding; the threads are kept."""
    folder = tmp_path / "run"
    assert train(folder, "multi_worker", "SIGTERM@train#0").returncode == 75
    done = train(folder, "one_device", "SIGTERM@val")
    assert done.returncode == 75, done.stderr
    assert "resuming after epoch 1 and" in done.stdout
    done = train(folder, "multi_worker")
    assert done.returncode == 0, done.stderr
    for mine, its in zip(weights(folder), weights(whole(train, "one_device")), strict=True):
        assert np.allclose(mine, its, atol=1e-3)


@pytest.mark.storm
def test_a_run_keeps_its_threads(train, tmp_path):
    folder = tmp_path / "run"
    assert train(folder, "one_device", "SIGTERM@train", "--threads_per_process=3").returncode == 75
    refused = train(folder, "one_device")
    assert refused.returncode == 2
    assert "--threads_per_process=3 there, --threads_per_process=2 now" in refused.stderr
    done = train(folder, "one_device", "none", "--threads_per_process=0")
    assert done.returncode == 0, done.stderr
    assert "threads    3 per process" in done.stdout


@pytest.mark.storm
def test_a_limit_of_the_runs_own(train, whole, tmp_path):
    folder = tmp_path / "run"
    done = train(folder, "one_device", "none", "--max_minutes=1e-6")
    assert done.returncode == 75
    assert "stopped by --max_minutes=1e-06: saved after step 1 of" in done.stderr
    done = train(folder, "one_device")
    assert done.returncode == 0, done.stderr
    refuse_other(folder, whole(train, "one_device"))


@pytest.mark.parametrize("strategy", [_STORM, _STORM_TOO, "multi_worker"])
def test_a_loss_that_is_not_finite(train, converted, tmp_path, strategy):
    """The best epoch's model and report are there, and a lower rate goes on from it."""
    folder = tmp_path / "run"
    epoch = -(-Manifest.load(converted).split("train").records // 4)
    harm = f"diverge@{epoch + 5}"
    done = train(folder, strategy, harm)
    said = done.stdout + done.stderr
    assert done.returncode == 77, said
    assert "best epoch 1" in said
    assert "a --learning_rate lower than 0.003 goes on from the best epoch" in said
    assert json.loads((folder / "result.json").read_text())["epoch"] == 1
    assert all(np.isfinite(each).all() for each in weights(folder))
    assert (folder / "report/test/report.html").exists()
    assert steps(folder)[0] == epoch
    again = train(folder, strategy, harm)  # would go the same way
    assert again.returncode == 77, again.stderr
    assert "val loss" not in again.stdout
    lower = train(folder, strategy, harm, "--learning_rate=0.001")
    assert lower.returncode == 0, lower.stdout + lower.stderr
    assert "resuming after epoch 1 of at most 3" in lower.stdout
    rows = json.loads((folder / "history.json").read_text())
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [round(row["learning_rate"], 4) for row in rows][1:] == [0.001, 0.001]


@pytest.mark.storm
def test_a_run_killed_after_its_loss_was_not_finite_still_leaves_its_best_epoch(train, tmp_path):
    folder = tmp_path / "run"
    killed = train(folder, "one_device", "diverge@25,SIGKILL@threshold")
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "model.keras").exists()
    done = train(folder, "one_device", "diverge@25")
    assert done.returncode == 77, done.stderr
    assert json.loads((folder / "result.json").read_text())["epoch"] == 1
    assert (folder / "report/test/report.html").exists()


@pytest.mark.storm
def test_a_kill_between_the_files_of_a_result(train, whole, run_command, image_folder, tmp_path, facts):
    """The model is new, the result is that of before: nobody takes them for a pair."""
    folder = tmp_path / "run"
    image = next(image_folder.rglob("*.jpeg"))
    assert train(folder, "one_device", "none", "--epochs=1").returncode == 0
    before = (folder / "result.json").read_bytes()
    killed = train(folder, "one_device", "SIGKILL@publish")
    assert killed.returncode == -signal.SIGKILL
    assert (folder / "result.json").read_bytes() == before
    for module, *arguments in (("trainer.evaluate",), ("trainer.predict", image)):
        refused = run_command(module, f"--run_dir={folder}", *arguments)
        assert refused.returncode == 2, refused.stdout
        assert "is not the model that result.json was written for" in refused.stderr
    done = train(folder, "one_device")
    assert done.returncode == 0, done.stderr
    refuse_other(folder, whole(train, "one_device"))
    assert run_command("trainer.predict", f"--run_dir={folder}", image).returncode == 0


@pytest.mark.storm
def test_a_report_is_that_of_the_model_that_is_there(train, run_command, tmp_path):
    """A finished run that goes on and is killed still has the model of before: so has its report."""
    folder = tmp_path / "run"
    assert train(folder, "one_device", "none", "--epochs=1").returncode == 0
    assert train(folder, "one_device", "SIGKILL@val").returncode == -signal.SIGKILL
    assert train(folder, "one_device", "SIGKILL@threshold").returncode == -signal.SIGKILL
    assert len(json.loads((folder / "history.json").read_text())) == 3
    done = run_command("trainer.evaluate", f"--run_dir={folder}")
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "report/test/report.json").read_text())
    result = json.loads((folder / "result.json").read_text())
    assert (report["best_epoch"], result["epoch"], result["epochs"]) == (1, 1, 1)
    assert report["facts"]["model file"].endswith(result["model_sha256"])
    watched = EventAccumulator(str(folder / "tensorboard" / "report"), size_guidance={TENSORS: 0}).Reload()
    # Twice the report of one epoch: the rows of the three that are being gone on with are not its.
    assert [event.step for event in watched.Tensors("test/report/auroc")] == [1, 1]


@pytest.mark.parametrize(
    "harm",
    [
        *(pytest.param(f"SIGKILL@{where}", marks=pytest.mark.storm) for where in ("train#0", "val#1")),
        "SIGSTOP@train#1",
    ],
)
def test_a_lost_worker_is_named_and_the_run_ends_as_if_it_had_not_been(train, whole, tmp_path, harm):
    """Killed, or frozen, which the others see after some seconds; the launcher starts both again."""
    folder, rank = tmp_path / "run", int(harm[-1])
    done = train(folder, "multi_worker", harm, restarts=1, HARM_ONCE=str(tmp_path / "once"))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "restart 1 of 1" in done.stderr
    if "KILL" in harm:
        assert re.search(rf"rank {rank} .*SIGKILL", done.stderr)
    else:
        assert re.search(r"rank 0 .*\b76\b", done.stderr)
    assert f"worker {rank} (127.0.0.1:" in said
    assert "was lost" in said
    assert "Traceback" not in said
    refuse_other(folder, whole(train, "multi_worker"))
