"""Proof: a search is the same for any number of workers of uneven speed, and after any kill.

    python benchmarks/search.py --part=workers --oracle=hyperband     1, 2 and 3 workers
    python benchmarks/search.py --part=storm --harms=30               SIGKILL of parent, workers and trials

Some trials are stopped for a while (SIGSTOP, SIGCONT) as they run, so that no two workers are equally fast.
In the storm a process of the search is drawn and killed after a drawn time; when the parent was, the same
command is started again. In the end all trials, their values, seeds, epochs and scores, must be those of an
undisturbed search with one worker. Exit code 2 if not.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from absl import flags
from kills import _drawn

from tfrecords.command import run
from tfrecords.errors import InputError

_PART = flags.DEFINE_enum("part", "workers", ["workers", "storm"], "What to do.")
_ORACLE = flags.DEFINE_enum("oracle", "hyperband", ["random", "hyperband", "bayesian"], "Of the search.")
_HARMS = flags.DEFINE_integer("harms", 30, "Of the storm.", lower_bound=1)
_TRAIN = (
    *("--model=mlp", "--epochs=4", "--global_batch_size=4", "--precision=float32", "--threads_per_process=1"),
    *("--checkpoint_steps=10", "--patience=99", "--final=none"),
)
_SPACE = """
learning_rate: {type: float, min: 1e-4, max: 1e-2, log: true}
model_args: {units: {type: int, min: 8, max: 64, step: 8}}
"""
_ENVIRONMENT = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONUNBUFFERED="1")


def main(_: list[str]) -> None:
    """Parses the flags and does one part."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = _drawn(folder)
        (folder / "space.yaml").write_text(_SPACE)
        alone = searched(command(folder, data, "alone", 1), folder / "alone", harms=0)
        print(f"undisturbed, one worker: {len(alone)} trials", flush=True)
        if _PART.value == "storm":
            compare(searched(command(folder, data, "storm", 2), folder / "storm", harms=_HARMS.value), alone)
            return
        for workers in (2, 3):
            words = command(folder, data, f"of-{workers}", workers)
            compare(searched(words, folder / f"of-{workers}", harms=0), alone)


def command(folder: Path, data: Path, name: str, workers: int) -> list[str]:
    """Returns the command of a search."""
    trials = [] if _ORACLE.value == "hyperband" else ["--max_trials=10"]
    return [
        *(
            sys.executable,
            "-m",
            "trainer.tune",
            f"--data={data}",
            f"--space={folder / 'space.yaml'}",
            *_TRAIN,
        ),
        *(f"--oracle={_ORACLE.value}", f"--workers={workers}", f"--search_dir={folder / name}", *trials),
    ]


def searched(words: list[str], folder: Path, *, harms: int) -> list[dict[str, str]]:
    """Runs a search to its end, harmed so often, and returns its trials."""
    draw, done, began = random.Random(1), Counter[str](), time.monotonic()
    process = subprocess.Popen(words, env=_ENVIRONMENT, stdout=subprocess.DEVNULL)
    starts = 1
    while True:
        wait = time.monotonic() + draw.uniform(1, 12 if harms else 6)
        while time.monotonic() < wait and process.poll() is None:
            time.sleep(0.02)
        if process.poll() == 0:
            break
        if process.poll() is not None:
            process, starts = subprocess.Popen(words, env=_ENVIRONMENT, stdout=subprocess.DEVNULL), starts + 1
            continue
        there = processes(folder)
        trials = [pid for pid, kind in there if kind == "trial"]
        if there and done.total() < harms:
            kind = draw.choice(sorted({kind for _, kind in there}))
            pid = draw.choice([pid for pid, its in there if its == kind])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                done[kind] += 1
        elif trials and not harms:
            pid = draw.choice(trials)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(draw.uniform(0, 3))
                os.kill(pid, signal.SIGCONT)
    print(
        f"{folder.name}: {time.monotonic() - began:.0f} s, {starts} starts; killed: {dict(done) or 'none'}",
        flush=True,
    )
    with (folder / "trials.csv").open() as file:
        return [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]


def processes(folder: Path) -> list[tuple[int, str]]:
    """Returns the processes of a search, each with what it is."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(word in (str(folder), f"--search_dir={folder}") for word in words):
                text = " ".join(words)
                kind = "worker" if "--worker " in text else "trial" if "process import" in text else "parent"
                found.append((int(path.name), kind))
    return sorted(found)


def compare(there: list[dict[str, str]], alone: list[dict[str, str]]) -> None:
    """Raises InputError unless two searches are the same."""
    for row, other in zip(there, alone, strict=False):
        if row != other:
            raise InputError(f"not the same:\n{row}\n{other}")
    if len(there) != len(alone):
        raise InputError(f"{len(there)} trials, undisturbed {len(alone)}")
    print(f"the same {len(alone)} trials, to the bit", flush=True)


if __name__ == "__main__":
    run(main)
