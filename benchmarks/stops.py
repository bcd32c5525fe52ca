"""Proof: a run that is stopped, killed and frozen at random ends in the bits of one that was not.

    python benchmarks/stops.py --part=storm --harms=20    two workers of launch.local, harmed again and again
    python benchmarks/stops.py --part=ends --harms=30     SIGKILL while a run publishes what it has made
    python benchmarks/stops.py --part=start               what launch.local costs until the first step

In the storm a harm is drawn from the seed: SIGKILL or SIGSTOP of one worker, SIGTERM or Ctrl-C of the
launcher, which is then started again by the same command, or SIGKILL of the launcher. In the end weights,
checkpoints, history and predictions must be those of an undisturbed run, bit by bit. Exit code 2 if not.
"""

import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags
from kills import _drawn, differences

from tfrecords.command import run
from tfrecords.errors import InputError

_PART = flags.DEFINE_enum("part", "storm", ["storm", "ends", "start"], "What to do.")
_HARMS = flags.DEFINE_integer("harms", 20, "How often, in a row.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Of the start.", lower_bound=1)
_TRAIN = (
    *("--model=mlp", "--epochs=12", "--global_batch_size=4", "--precision=float32", "--deterministic"),
    *("--checkpoint_minutes=0", "--checkpoint_steps=20", "--threads_per_process=1", "--cache=memory"),
    *("--min_delta=0", "--patience=99"),
)
_ENVIRONMENT = dict(os.environ, TF_ENABLE_ONEDNN_OPTS="0", TF_CPP_MIN_LOG_LEVEL="3", PYTHONUNBUFFERED="1")
_HARM = ("SIGKILL worker", "SIGSTOP worker", "SIGTERM launcher", "SIGINT launcher", "SIGKILL launcher")


def main(_: list[str]) -> None:
    """Parses the flags and does one part."""
    with tempfile.TemporaryDirectory() as name:
        data = _drawn(Path(name))
        {"storm": storm, "ends": ends, "start": start}[_PART.value](Path(name), data)


def command(data: Path, folder: Path, *more: str, launched: bool = True) -> list[str]:
    """Returns a training's command; of two workers if launched."""
    train = [sys.executable, "-m", "trainer.main", f"--data={data}", f"--run_dir={folder}", *_TRAIN, *more]
    if not launched:
        return train
    launch = [sys.executable, "-m", "launch.local", "--processes=2", f"--log_dir={folder.parent / 'logs'}"]
    return [*launch, "--max_restarts=99", "--grace=20", "--", *train, "--strategy=multi_worker"]


def storm(folder: Path, data: Path) -> None:
    """Harms one run again and again."""
    chance = random.Random(flags.FLAGS.seed)
    whole, harmed = folder / "whole" / "run", folder / "harmed" / "run"
    began = time.monotonic()
    subprocess.run(command(data, whole), env=_ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    print(f"hardware: {os.cpu_count()} cores; undisturbed: {seconds:.1f} s", flush=True)
    process, done = _begin(data, harmed), 0
    while done < _HARMS.value:
        time.sleep(chance.uniform(2.0, 12.0))
        if process.poll() is not None:
            if process.returncode == 0:  # it has come to its end: harmed enough would be, from the beginning
                shutil.rmtree(harmed)
            process = _begin(data, harmed)
            continue
        harm = chance.choice(_HARM)
        name, target = harm.split()
        workers = _children(process.pid)
        pid = process.pid if target == "launcher" else (chance.choice(workers) if workers else None)
        if pid is None:
            continue
        os.kill(pid, signal.Signals[name])
        done += 1
        step = max([0, *(int(path.name[5:]) for path in harmed.glob("checkpoints/step-*"))])
        print(f"{done:4}  {harm:<18} at step {step}", flush=True)
        if target == "launcher":
            since = time.monotonic()
            code = process.wait()
            left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
            print(
                f"      code {code} after {time.monotonic() - since:.1f} s; workers left: {len(left)}",
                flush=True,
            )
            process = _begin(data, harmed)
    while process.wait() != 0:
        print(f"      code {process.returncode}, started again", flush=True)
        process = _begin(data, harmed)
    _report(differences(harmed, whole), f"{done} harms in a row")


def ends(folder: Path, data: Path) -> None:
    """Kills runs while they publish, and asks each time whether what is there belongs together."""
    chance, first, whole = random.Random(flags.FLAGS.seed), folder / "first" / "run", folder / "whole" / "run"
    quiet: dict[str, Any] = {"env": _ENVIRONMENT, "capture_output": True, "text": True}
    for at, epochs in ((first, 1), (whole, 2)):
        subprocess.run(command(data, at, f"--epochs={epochs}", launched=False), check=True, **quiet)
    found: dict[str, int] = {}
    for number in range(1, _HARMS.value + 1):
        run_dir = folder / str(number) / "run"
        shutil.copytree(first, run_dir)
        again = command(data, run_dir, "--epochs=2", launched=False)
        process = subprocess.Popen(again, env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("best epoch"):
                break
        time.sleep(chance.uniform(0.0, chance.choice((0.5, 3.0))))  # the publishing, and the report after it
        process.kill()
        process.wait()
        process.stdout.close()
        evaluated = subprocess.run(
            [sys.executable, "-m", "trainer.evaluate", f"--run_dir={run_dir}"], check=False, **quiet
        )
        state = "refused" if evaluated.returncode == 2 else _pairs(run_dir)
        found[state] = found.get(state, 0) + 1
        done = subprocess.run(again, check=False, **quiet)
        if done.returncode or (wrong := differences(run_dir, whole)):
            raise InputError(f"after kill {number}: {done.stderr or wrong}")
        print(f"{number:4}  {state}", flush=True)
        shutil.rmtree(run_dir)
    _report([], f"{_HARMS.value} kills; {found}")


def start(folder: Path, data: Path) -> None:
    """Times a launch until its first step, over the bare command's."""
    ratios = []
    for number in range(_REPEATS.value):
        seconds = []
        for name in ("bare", "launched"):
            at = folder / f"{name}{number}" / "run"
            bare = command(data, at, "--strategy=multi_worker", "--checkpoint_steps=1", launched=False)
            launch = [
                sys.executable,
                "-m",
                "launch.local",
                "--processes=1",
                f"--log_dir={folder / 'logs'}",
                "--",
            ]
            address = '{"cluster": {"worker": ["127.0.0.1:23456"]}, "task": {"type": "worker", "index": 0}}'
            began = time.monotonic()
            process = subprocess.Popen(
                bare if name == "bare" else [*launch, *bare],
                env=_ENVIRONMENT | ({"TF_CONFIG": address} if name == "bare" else {}),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while not list(at.glob("checkpoints/step-*")):
                time.sleep(0.005)
            seconds.append(time.monotonic() - began)
            process.terminate()
            process.wait()
        ratios.append(seconds[1] / seconds[0])
        print(f"bare {seconds[0]:.2f} s, launched {seconds[1]:.2f} s", flush=True)
    print(f"ratio: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def _begin(data: Path, folder: Path) -> subprocess.Popen[bytes]:
    folder.parent.mkdir(exist_ok=True)
    log = (folder.parent / "launch.log").open("ab")
    return subprocess.Popen(command(data, folder), env=_ENVIRONMENT, stdout=log, stderr=log)


def _children(pid: int) -> list[int]:
    """Returns the workers of a launcher, without its guardian, which has the launcher's name."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [
        int(line.split()[0])
        for line in listed.stdout.splitlines()
        if " -m trainer.main" in line and "launch.local" not in line
    ]


def _pairs(run_dir: Path) -> str:
    """Returns of which epochs model, result and report are, which must belong together."""
    result = json.loads((run_dir / "result.json").read_text())
    report = json.loads((run_dir / "report/test/report.json").read_text())
    if not report["facts"]["model file"].endswith(result["model_sha256"]):
        raise InputError(f"{run_dir}: the report is of another model than the result")
    if report["best_epoch"] != result["epoch"]:
        raise InputError(
            f"{run_dir}: the report says epoch {report['best_epoch']}, the result {result['epoch']}"
        )
    chosen = report["decisions"]["chosen"]["threshold"]
    if chosen != result["threshold"]:
        raise InputError(f"{run_dir}: the report's threshold is {chosen}, the result's {result['threshold']}")
    return f"whole, after {result['epochs']} epochs"


def _report(wrong: list[str], what: str) -> None:
    if wrong:
        raise InputError(f"{what}: differs in {', '.join(wrong[:5])}")
    print(f"{re.sub(r'[{}]', '', what)}: all as in the undisturbed run, bit by bit")


if __name__ == "__main__":
    run(main)
