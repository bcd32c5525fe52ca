"""Proof: a batch job that is harmed at random ends in the bits of one that was not; on a real Slurm, as root.

    python tests/launch/slurm/one_machine.py python benchmarks/slurm.py --harms=20

A training on two nodes is harmed so often in a row, drawn from the seed: SIGKILL of a task or of its
launcher, SIGTERM of all tasks (what a time limit does), a requeue by an administrator, a preemption by a job
of a higher partition (with grace, without, or where the site cancels). Slurm's two minutes before a requeued
job starts are skipped. In the end weights, checkpoints, history and predictions must be
those of an undisturbed run, bit by bit. Exit code 2 if not.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from absl import flags
from kills import _drawn, differences

from tfrecords.command import run
from tfrecords.errors import InputError

_HARMS = flags.DEFINE_integer("harms", 20, "How often, in a row.", lower_bound=1)
_TRAIN = (
    *(
        "--strategy=multi_worker",
        "--model=mlp",
        "--epochs=40",
        "--global_batch_size=4",
        "--precision=float32",
    ),
    *("--deterministic", "--checkpoint_minutes=0", "--checkpoint_steps=20", "--threads_per_process=1"),
    *("--cache=memory", "--min_delta=0", "--patience=99"),
)
_ENVIRONMENT = dict(os.environ, TF_ENABLE_ONEDNN_OPTS="0", TF_CPP_MIN_LOG_LEVEL="3")
_HARM = ("SIGKILL task", "SIGKILL launcher", "SIGTERM job", "requeue", "preempt")
_PARTITIONS = ("low", "grace", "cancel")


def main(_: list[str]) -> None:
    """Harms one job again and again."""
    with tempfile.TemporaryDirectory() as name:
        storm(Path(name), random.Random(flags.FLAGS.seed))


def storm(folder: Path, chance: random.Random) -> None:
    """Trains once undisturbed and once harmed, and compares."""
    data = _drawn(folder)
    began = time.monotonic()
    _wait(folder, _submit(folder, data, "whole", "low"))
    print(f"hardware: {os.cpu_count()} cores; undisturbed: {time.monotonic() - began:.1f} s", flush=True)
    done, counts = 0, dict.fromkeys(_HARM, 0)
    job = 0
    while done < _HARMS.value:
        if not job or _state(folder, job).startswith("ended"):
            if job:  # it came to its end: from the beginning
                _compare(folder, job, done)
            shutil.rmtree(folder / "harmed", ignore_errors=True)
            job = _submit(folder, data, "harmed", chance.choice(_PARTITIONS))
        _sleep(job, chance.uniform(2.0, 14.0))
        harm = chance.choice(_HARM)
        if _harm(harm, job, chance):
            done += 1
            counts[harm] += 1
            step = max([0, *(int(path.name[5:]) for path in folder.glob("harmed/checkpoints/step-*"))])
            print(f"{done:4}  {harm:<18} job {job}, at step {step}", flush=True)
    _compare(folder, job, done)
    print(f"{done} harms in a row {counts}: the same, bit by bit")


def _compare(folder: Path, job: int, done: int) -> None:
    _wait(folder, job)
    if wrong := differences(folder / "harmed", folder / "whole"):
        raise InputError(f"after {done} harms: not the same: {', '.join(wrong[:5])}")
    print(
        f"      job {job} has ended after {(folder / f'launch/{job}/starts').read_text().split()[0]} starts"
    )


def _harm(harm: str, job: int, chance: random.Random) -> bool:
    """Does it; returns whether there was something to harm."""
    if _field(job, "JobState") != "RUNNING":
        return False
    if harm == "SIGTERM job":
        return not _call("scancel", "--signal=TERM", str(job))
    if harm == "requeue":
        return not _call("scontrol", "requeue", str(job))
    if harm == "preempt":
        script = ["--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null"]
        number = _ask("sbatch", *script, "--wrap=sleep 1").strip()
        while _field(int(number), "JobState") in {"PENDING", "RUNNING", "CONFIGURING"}:
            time.sleep(0.3)
        return True
    launchers = {
        int(pid): words
        for pid in _ask("pgrep", "-f", "run_dir=harmed").split()
        if (words := _words(int(pid))) and words[0] != b"srun"
    }
    wanted = [
        pid for pid, words in launchers.items() if (b"launch.worker" in words) == (harm == "SIGKILL launcher")
    ]
    with suppress(IndexError, ProcessLookupError):  # it has just ended
        os.kill(chance.choice(wanted), signal.SIGKILL)
        return True
    return False


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _submit(folder: Path, data: Path, run_dir: str, partition: str) -> int:
    launch = [sys.executable, "-m", "launch.slurm", "--nodes=2", "--time=50", f"--partition={partition}"]
    launch += ["--sbatch_args=--exclusive", "--max_restarts=99", "--"]
    train = [sys.executable, "-m", "trainer.main", f"--data={data}", f"--run_dir={run_dir}", *_TRAIN]
    done = subprocess.run(
        [*launch, *train],
        cwd=folder,
        env=_ENVIRONMENT,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return int(done.stdout)


def _wait(folder: Path, job: int) -> None:
    while not _state(folder, job).startswith("ended"):
        _sleep(job, 0.5)
    if _state(folder, job) != "ended with code 0":
        raise InputError(
            f"job {job}: {_state(folder, job)}; {_ask('cat', folder / f'launch/{job}/batch.log')}"
        )


def _sleep(job: int, seconds: float) -> None:
    """Waits, and lets a requeued job start at once."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if _field(job, "Reason") == "BeginTime":
            _call("scontrol", "update", f"JobId={job}", "StartTime=now")
        time.sleep(min(0.5, max(0.0, end - time.monotonic())))


def _state(folder: Path, job: int) -> str:
    path = folder / "launch" / str(job) / "state"
    return path.read_text().strip() if path.exists() else ""


def _field(job: int, name: str) -> str:
    words = _ask("scontrol", "show", "job", "-o", str(job)).split()
    return dict(word.split("=", 1) for word in words if "=" in word).get(name, "")


def _ask(*command: object) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False).stdout


def _call(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


if __name__ == "__main__":
    run(main)
