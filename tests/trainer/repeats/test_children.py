import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tfrecords.errors import EndedEarly, InputError
from trainer.config import TrainConfig
from trainer.repeats.children import PARENT_VARIABLE, check_seeds, seed_folder, train_seeds
from trainer.run import SEEDS_NAME

# A command that writes down its arguments, and ends with a code, or a signal, that seed 1 asks for.
CHILD = """
import json, os, pathlib, signal, sys
values = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
folder = pathlib.Path(values["run_dir"])
folder.mkdir(exist_ok=True)
(folder / "arguments.json").write_text(json.dumps([sys.argv[1:], os.environ[{variable!r}]]))
end = values.get("end", "0") if values["seed"] == "1" else "0"
if end.startswith("-"):
    os.kill(os.getpid(), int(end[1:]))
sys.exit(int(end))
"""


@pytest.fixture
def config(tmp_path):
    return TrainConfig(data="data", run_dir=str(tmp_path / "run"))


@pytest.fixture
def command(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(variable=PARENT_VARIABLE))
    return [sys.executable, str(script)]


def arguments(config, seed):
    return json.loads((seed_folder_of(config, seed) / "arguments.json").read_text())


def seed_folder_of(config, seed):
    return seed_folder(Path(config.run_dir), seed)


def test_each_seed_has_a_run_of_its_own(config, command):
    said = []
    train_seeds(config, (0, 2), ["--epochs=3", "--seeds=0,2"], command=command, log=said.append)
    for seed in (0, 2):
        given, parent = arguments(config, seed)
        own = [f"--seed={seed}", f"--run_dir={seed_folder_of(config, seed)}", "--seeds="]
        assert given == ["--epochs=3", "--seeds=0,2", *own]
        assert parent == str(os.getpid())
    assert [line.partition(":")[0] for line in said] == ["seed 0 (1 of 2)", "seed 2 (2 of 2)"]
    assert json.loads((seed_folder_of(config, 0).parent / SEEDS_NAME).read_text())["seeds"] == [0, 2]


@pytest.mark.parametrize(("end", "code"), [("75", 75), ("77", 77), ("2", 2), ("-9", 137)])
def test_the_exit_code_of_a_run_is_passed_on_and_no_other_is_started(end, code, config, command):
    with pytest.raises(EndedEarly, match="seed 1") as ended:
        train_seeds(config, (0, 1, 2), [f"--end={end}"], command=command, log=lambda _: None)
    assert ended.value.code == code
    assert not seed_folder_of(config, 2).exists()
    train_seeds(config, (0, 1, 2), [], command=command, log=lambda _: None)  # the same command goes on
    assert seed_folder_of(config, 2).exists()


def test_the_time_limit_is_that_of_all_runs(config, command):
    limited = config.changed(max_minutes=1e-9)
    with pytest.raises(EndedEarly, match="--max_minutes") as ended:
        train_seeds(limited, (0, 1), [], command=command, log=lambda _: None)
    assert ended.value.code == 75


def test_what_cannot_be_used_is_refused_before_anything_is_written(config, facts, tmp_path):
    def refused(seeds, message, **values):
        with pytest.raises(InputError, match=facts(message)):
            check_seeds(config.changed(**values), seeds)

    refused((0,), "--seeds=0: must be two or more different seeds, as 0,1,2")
    refused((1, 1), "--seeds=1,1: must be two or more different seeds, as 0,1,2")
    refused((0, 2**32), f"--seed={2**32}: must be from 0 to {2**32 - 1}")
    refused((0, 1), "--seeds=0,1 --strategy=multi_worker --seed=N --run_dir=", strategy="multi_worker")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    refused((0, 1), f"--run_dir={tmp_path / 'run'}: is not empty")


# It stops at SIGTERM with code 75, as a training does, and says when it is ready.
STOPPING = """
import pathlib, signal, sys, time
from trainer.repeats.children import end_with_parent
end_with_parent()
values = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
def stop(*_):
    pathlib.Path({stopped!r}).write_text("")
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
pathlib.Path({ready!r}).write_text("")
time.sleep(60)
"""
PARENT = """
import sys
from tfrecords.command import run
from trainer.config import TrainConfig
from trainer.repeats.children import train_seeds
config = TrainConfig(data="data", run_dir={folder!r})
run(lambda _: train_seeds(config, (0, 1), [], command=[sys.executable, {child!r}], log=lambda _: None))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_a_run_stops_with_its_parent(number, code, start, tmp_path, wait_until):
    ready, stopped = tmp_path / "ready", tmp_path / "stopped"
    child, parent = tmp_path / "child.py", tmp_path / "parent.py"
    child.write_text(STOPPING.format(ready=str(ready), stopped=str(stopped)))
    parent.write_text(PARENT.format(folder=str(tmp_path / "run"), child=str(child)))
    process = start(parent)
    wait_until(ready.exists, "the child")
    process.send_signal(number)
    assert process.wait() == code
    wait_until(stopped.exists, "the child's end")
