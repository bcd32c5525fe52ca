"""Searches that are stopped and killed at any moment end as one that was not."""

import csv
import os
import random
import signal
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.stops]

SPACE = """
learning_rate: {type: float, min: 1e-4, max: 1e-2, log: true}
model_args:
  units: {type: int, min: 4, max: 16, step: 4}
"""
TRAIN = (
    *("--model=mlp", "--epochs=3", "--precision=float32", "--threads_per_process=1"),
    *("--global_batch_size=2", "--checkpoint_steps=5", "--patience=99", "--final=none"),
)
# Of the command: it was killed, it was stopped, or its start, a process of its own, was killed.
ENDS = (-signal.SIGKILL, 75, 128 + signal.SIGKILL)
HYPERBAND = ("--oracle=hyperband", "--parallel=3")


@pytest.fixture(scope="module")
def flags(converted, tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(SPACE)
    return (f"--data={converted}", f"--space={path}", *TRAIN, *HYPERBAND)


@pytest.fixture(scope="module")
def undisturbed(flags, run_command, tmp_path_factory):
    """The search by one worker that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed") / "search"
    done = run_command("trainer.tune", *flags, f"--search_dir={folder}", "--workers=1")
    assert done.returncode == 0, done.stderr
    return told(folder)


def told(folder):
    """What the search tried and what came of it, times aside."""
    with (folder / "trials.csv").open() as file:
        return [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]


def processes_of(folder):
    """The processes that have the folder's name in their command line, without the tests' own."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(folder).encode() in word for word in words) and int(path.name) != os.getpid():
            found.append(int(path.name))
    return sorted(found)


@pytest.mark.storm
def test_three_workers_killed_again_and_again(flags, undisturbed, start, tmp_path, wait_until):
    """Parent, workers or trials: the search is that of one worker that nothing disturbs."""
    draw, folder = random.Random(0), tmp_path / "search"
    command = ("-m", "trainer.tune", *flags, f"--search_dir={folder}", "--workers=3")
    log = (tmp_path / "log").open("w")
    search = start(*command, stdout=log, stderr=log)
    kills = 0
    while kills < 5:
        end = time.monotonic() + draw.uniform(2.0, 9.0)
        while time.monotonic() < end and search.poll() is None:
            time.sleep(0.05)
        if search.poll() is not None:
            if search.returncode == 0:
                break
            assert search.returncode in ENDS, (tmp_path / "log").read_text()
            search = start(*command, stdout=log, stderr=log)
            continue
        targets = processes_of(folder)
        if targets:
            os.kill(draw.choice(targets), draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            kills += 1
    while search.wait() != 0:
        assert search.returncode in ENDS, (tmp_path / "log").read_text()
        wait_until(lambda: not processes_of(folder), "the end of what the parent has left")
        search = start(*command, stdout=log, stderr=log)
    log.close()
    assert told(folder) == undisturbed
    wait_until(lambda: not processes_of(folder), "the end of all processes")


@pytest.mark.storm
def test_ctrl_c_saves_and_the_same_command_goes_on(flags, undisturbed, start, tmp_path, wait_until):
    folder = tmp_path / "search"
    command = ("-m", "trainer.tune", *flags, f"--search_dir={folder}", "--workers=2", "--max_trials=2")
    search = start(*command)
    checkpoints = folder / "trials" / "0000" / "execution-0" / "checkpoints"
    wait_until(lambda: search.poll() is not None or list(checkpoints.glob("step-*")), "a checkpoint")
    search.send_signal(signal.SIGINT)
    _, said = search.communicate()
    assert search.returncode == 130
    assert "Traceback" not in said
    assert "goes on" in said
    assert not processes_of(folder)
    again = start(*command, stderr=None)
    again.communicate()
    assert again.returncode == 0
    assert told(folder) == undisturbed[:2]


def test_a_trial_that_is_killed_again_and_again_fails_alone(flags, undisturbed, start, tmp_path, wait_until):
    """As the system does with what takes all memory: three times without a checkpoint are enough."""
    folder = tmp_path / "search"
    search = start("-m", "trainer.tune", *flags, f"--search_dir={folder}", "--workers=1", "--max_trials=2")

    def first_trial():
        for pid in processes_of(folder):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[4:6] == [str(folder).encode(), b"0"]:
                return pid
        return None

    killed = set()
    while len(killed) < 3:
        wait_until(lambda: first_trial() not in {None, *killed}, "the process of the first trial")
        pid = first_trial()
        if pid:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    _, said = search.communicate()
    assert search.returncode == 0, said
    first, second = told(folder)
    assert (first["state"], first["score"]) == ("failed", "")
    assert "SIGKILL" in first["message"]
    assert second == undisturbed[1]
