"""Proof: a training that is killed at any moment ends, resumed, in the bits of one that was not.

    python benchmarks/kills.py --runs=20                 (drawn data; --data=DIR for other)

Each run is the real command, `python -m trainer.main --deterministic` on the CPU, as a process group of
its own, killed with SIGKILL at a moment drawn from the seed and started again by the same command; with
probability `--again` it is killed once more, and so on until one is let through. Half of the moments
aim at the writing of a checkpoint: the folder is watched for the name that an unfinished one has. Of the
others, one in eight falls into the start of the process, the rest anywhere between its first checkpoint
and its end. A process that ends before its moment is no kill: its run is made anew.

The model has BatchNormalization and Dropout, the learning rate follows a cosine after a warm-up, early
stopping ends the run before its last epoch, and checkpoints are written within the epochs. In the end every
tensor of every checkpoint that is kept (weights, moving statistics, optimizer slots, seeds, meters), their
state.json, history.csv but for its times, the weights of model.keras and the predictions must be those of
the uninterrupted run, bit by bit. Exit code 2 if not.

A drawn moment is a delay, so which step it meets depends on the machine; the promise does not.
"""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from tfrecords.command import run
from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.demo.dataset import write_images
from tfrecords.errors import InputError

_DATA = flags.DEFINE_string("data", None, "Converted data with train, val and test. Default: drawn.")
_RUNS = flags.DEFINE_integer("runs", 20, "Runs that are killed.", lower_bound=1)
_AGAIN = flags.DEFINE_float("again", 0.25, "Probability that what goes on is killed too.", 0, 0.9)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_FLAGS = flags.DEFINE_multi_string("train_flag", [], "One more flag of the training, as --cache=stream.")

_TRAIN = (
    "--model=resnet",
    "--schedule=cosine",
    "--warmup_epochs=1",
    "--epochs=8",
    "--patience=3",
    "--min_delta=9",  # more than the loss can fall: only epoch 1 counts as better, so 4 is the last
    "--global_batch_size=8",
    "--precision=float32",
    "--deterministic",
    "--keep=3",
    "--checkpoint_steps=5",
    "--checkpoint_minutes=0",
)
_AT_A_WRITE, _AT_THE_START = 0.5, 0.125  # shares of the moments; the second is of the rest
_WRITES = 12  # the first so many of a process are aimed at
_WRITE_SECONDS = 0.1  # a moment falls so long or less behind the appearance of an unfinished checkpoint
_POLL_SECONDS = 0.001
_TIMES = ("images_per_second", "input_wait")  # what differs between two runs that are the same


@dataclass(frozen=True)
class Kill:
    """One SIGKILL and what it met.

    Attributes:
        aim: "write", "start" or "anywhere".
        seconds: since the process's start.
        step: of the last whole checkpoint; 0: none.
        unfinished: whether one was being written or removed.
    """

    aim: str
    seconds: float
    step: int
    unfinished: bool


def main(_: list[str]) -> None:
    """Trains, kills, resumes and compares."""
    chance, kills = random.Random(_SEED.value), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = Path(_DATA.value).absolute() if _DATA.value else _drawn(folder)
        reference = folder / "uninterrupted" / "run"
        started = time.monotonic()
        process = _start(data, reference)
        _wait(process, lambda: bool(_names(reference)))
        to_first = time.monotonic() - started
        _finish(process, reference)
        seconds = time.monotonic() - started
        steps = _last_step(reference)
        print(
            f"hardware: {os.cpu_count()} cores; uninterrupted: {steps} steps, "
            f"{len(_rows(reference))} epochs, {seconds:.1f} s, "
            f"{to_first:.1f} s of it before the first checkpoint\n"
            f"{'run':>4}{'kill':>6}  {'aim':<9}{'after s':>8}{'of step':>9}  unfinished checkpoint",
            flush=True,
        )
        number = 0
        while number < _RUNS.value:
            out = folder / "killed" / "run"
            met = _killed_run(data, out, chance, to_first, seconds - to_first)
            if met:
                number += 1
                for kill in met:
                    kills.append(kill)
                    print(
                        f"{number:4}{len(kills):6}  {kill.aim:<9}{kill.seconds:8.2f}{kill.step:9}  "
                        f"{'there' if kill.unfinished else '-'}",
                        flush=True,
                    )
                if differing := differences(reference, out):
                    raise InputError(f"run {number} differs from the uninterrupted one: {differing}")
            shutil.rmtree(out.parent)
    print(
        f"{number} runs, {len(kills)} kills (seed {_SEED.value}): "
        f"{sum(kill.step == 0 for kill in kills)} before the first checkpoint, "
        f"{sum(kill.unfinished for kill in kills)} while one was written or removed\n"
        f"all {number} ended in the bits of the uninterrupted run"
    )


def _drawn(folder: Path) -> Path:
    images, data = folder / "images", folder / "data"
    write_images(images, patients=40)
    convert_images(
        ConvertOptions(images, data, size=(24, 24), val_fraction=0.2, test_fraction=0.2, workers=1)
    )
    return data


def _killed_run(data: Path, out: Path, chance: random.Random, to_first: float, rest: float) -> list[Kill]:
    """Trains in `out`, killed on the way, to the end; returns the kills, none if it ended before."""
    kills: list[Kill] = []
    going_on = True
    while going_on:
        aim = "write" if chance.random() < _AT_A_WRITE else "anywhere"
        if aim == "anywhere" and chance.random() < _AT_THE_START:
            aim = "start"
        share, writes = chance.random(), chance.randint(1, _WRITES)
        before = _last_step(out)
        process, started = _start(data, out), time.monotonic()
        if aim == "start":
            _sleep(process, share * to_first)
        elif aim == "anywhere":
            _wait(process, lambda before=before: _last_step(out) > before)
            _sleep(process, share * rest)
        else:
            for _ in range(writes):
                _wait(process, lambda: not _unfinished(out))
                _wait(process, lambda: _unfinished(out))
            _sleep(process, share * _WRITE_SECONDS)
        if process.poll() is not None:  # it was faster
            _finish(process, out)
            return kills
        seconds = time.monotonic() - started
        _kill(process)
        kills.append(Kill(aim, seconds, _last_step(out), _unfinished(out)))
        going_on = chance.random() < _AGAIN.value
    _finish(_start(data, out), out)
    return kills


def _start(data: Path, out: Path) -> subprocess.Popen[bytes]:
    """Starts the training in a session, and so a process group, of its own."""
    out.parent.mkdir(exist_ok=True)
    root = str(Path(__file__).resolve().parent.parent)
    command = [sys.executable, "-m", "trainer.main", f"--data={data}", f"--run_dir={out}", *_TRAIN]
    with _log(out).open("wb") as log:
        return subprocess.Popen(
            [*command, *_FLAGS.value],
            cwd=root,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _finish(process: subprocess.Popen[bytes], out: Path) -> None:
    if code := process.wait():
        raise InputError(f"the training ended with {code}: {_log(out).read_text()[-2000:]}")


def _log(out: Path) -> Path:
    return out.with_name("log")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the command and all that it has started, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its own group: `_start` made it
    process.wait()


def _wait(process: subprocess.Popen[bytes], moment: Callable[[], bool]) -> None:
    while process.poll() is None and not moment():
        time.sleep(_POLL_SECONDS)


def _sleep(process: subprocess.Popen[bytes], seconds: float) -> None:
    until = time.monotonic() + seconds
    _wait(process, lambda: time.monotonic() >= until)


def _names(out: Path) -> list[str]:
    folder = out / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _unfinished(out: Path) -> bool:
    return any(name.startswith(".step-") for name in _names(out))


def _last_step(out: Path) -> int:
    whole = [name for name in _names(out) if not name.startswith(".")]
    return int(whole[-1].removeprefix("step-")) if whole else 0


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in _TIMES} for row in csv.DictReader(file)]


def differences(ours: Path, theirs: Path) -> list[str]:
    """Returns what differs between two finished runs, but for what is measured by the clock."""
    if _names(ours) != _names(theirs):
        return [f"checkpoints {', '.join(_names(ours))} and {', '.join(_names(theirs))}"]
    found = [] if _rows(ours) == _rows(theirs) else ["history.csv"]
    for name in _names(ours):
        one, other = ours / "checkpoints" / name, theirs / "checkpoints" / name
        found += [f"{name}/{key}" for key in _different_keys(_tensors(one), _tensors(other))]
        if _state(one) != _state(other):
            found.append(f"{name}/state.json")
    found += [
        f"model.keras/{key}"
        for key in _different_keys(_weights(ours / "model.keras"), _weights(theirs / "model.keras"))
    ]
    predictions = Path("report") / "test" / "predictions.csv"
    if (ours / predictions).read_bytes() != (theirs / predictions).read_bytes():
        found.append(str(predictions))
    return found


def _different_keys(ours: dict[str, bytes], theirs: dict[str, bytes]) -> list[str]:
    return [key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]


def _tensors(checkpoint: Path) -> dict[str, bytes]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(checkpoint / "variables"))
    names = reader.get_variable_to_shape_map().keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name).tobytes() for name in names}


def _weights(model: Path) -> dict[str, bytes]:
    import keras

    loaded = keras.models.load_model(model, compile=False, safe_mode=True)
    return {weight.path: weight.numpy().tobytes() for weight in loaded.weights}


def _state(checkpoint: Path) -> Any:
    state = json.loads((checkpoint / "state.json").read_text())
    for row in state["history"]:
        for name in _TIMES:
            row.pop(name)
    return state


if __name__ == "__main__":
    run(main)
