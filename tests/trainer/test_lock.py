import json
import os
import signal
import subprocess
import threading
from dataclasses import asdict, replace

import pytest

from tfrecords.errors import EndedEarly, InputError
from trainer.lock import LOCK_NAME, Holder, RunLock

HOLD = """
import sys, time
from pathlib import Path
from trainer.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def write(folder, holder):
    folder.mkdir(exist_ok=True)
    (folder / LOCK_NAME).write_text(json.dumps(asdict(holder)))


def test_a_lock_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "runs" / "one"
    with RunLock(folder) as lock:
        assert [path.name for path in folder.iterdir()] == [LOCK_NAME]
        lock.check()
    assert list(tmp_path.iterdir()) == []  # not even the folders that were made for it


def test_a_folder_that_holds_a_run_by_then_stays(tmp_path):
    folder = tmp_path / "runs" / "one"
    with RunLock(folder):
        (folder / "config.json").touch()
    assert [path.name for path in folder.iterdir()] == ["config.json"]


@pytest.mark.slow
def test_who_lives_is_waited_for_and_then_named(tmp_path, facts):
    folder, said = tmp_path / "run", []
    with RunLock(folder), pytest.raises(InputError) as error:
        RunLock(folder, said.append, wait=1.5).__enter__()
    assert f"process {os.getpid()} on" in str(error.value)
    assert f"--run_dir={folder}" in str(error.value)
    assert len(said) == 1
    assert f"process {os.getpid()}" in said[0]


@pytest.mark.slow
def test_a_killed_holder_is_taken_over_at_once(start, tmp_path):
    folder = tmp_path / "run"
    process = start("-c", HOLD, folder)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError):
        RunLock(folder, wait=0.5).__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with RunLock(folder, wait=5, stale=1000) as lock:
        lock.check()


def test_another_process_with_the_same_number_is_not_the_holder(tmp_path):
    """A process id is given again; the time of its start tells."""
    folder = tmp_path / "run"
    write(folder, replace(Holder.here(), started=1))
    with RunLock(folder, wait=5, stale=1000) as lock:
        lock.check()


@pytest.mark.slow
def test_on_another_machine_only_a_lock_that_changes_is_alive(tmp_path):
    folder = tmp_path / "run"
    elsewhere = replace(Holder.here(), host="elsewhere", boot="another", pid=1, started=1)
    write(folder, elsewhere)
    with RunLock(folder, wait=60, stale=1) as lock:  # nobody rewrites it
        lock.check()
    write(folder, elsewhere)
    stop = threading.Event()

    def beat():
        count = 0
        while not stop.wait(0.1):
            count += 1
            temporary = folder / "beat"
            temporary.write_text(json.dumps(asdict(replace(elsewhere, beat=count))))
            temporary.replace(folder / LOCK_NAME)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(InputError, match="process 1 on elsewhere trains in it"):
            RunLock(folder, wait=4, stale=2).__enter__()
    finally:
        stop.set()
        thread.join()


def test_a_holder_that_was_taken_over_writes_no_more(tmp_path):
    folder = tmp_path / "run"
    with RunLock(folder) as lock:
        write(folder, replace(Holder.here(), host="other"))
        with pytest.raises(EndedEarly, match="took this run over") as error:
            lock.check()
        assert error.value.code == 75
    assert json.loads((folder / LOCK_NAME).read_text())["host"] == "other"  # not ours to remove


@pytest.mark.slow
def test_a_damaged_lock_is_no_lock(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK_NAME).write_text("{")
    with RunLock(folder, wait=30) as lock:
        lock.check()


@pytest.mark.slow
def test_many_take_a_dead_lock_over_and_one_gets_it(start, tmp_path):
    folder = tmp_path / "run"
    write(folder, replace(Holder.here(), started=1))
    script = """
import sys, time
from pathlib import Path
from tfrecords.errors import InputError
from trainer.lock import RunLock
folder = Path(sys.argv[1])
with RunLock(folder, wait=500):
    inside = folder / "inside"
    inside.touch(exist_ok=False)
    time.sleep(0.05)
    inside.unlink()
print("alone")
"""
    processes = [start("-c", script, folder, stderr=subprocess.STDOUT) for _ in range(6)]
    assert [process.communicate()[0] for process in processes] == ["alone\n"] * 6


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        RunLock(tmp_path / "file" / "run").__enter__()
