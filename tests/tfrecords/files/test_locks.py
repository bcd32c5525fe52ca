import subprocess

import pytest

from tfrecords.files.locks import file_lock, share_until_exit, try_lock

HOLD = """
import sys
from pathlib import Path
from tfrecords.files.locks import file_lock, share_until_exit
if sys.argv[2] == "shared":
    share_until_exit(Path(sys.argv[1]))
    print("held", flush=True)
    sys.stdin.read()
else:
    with file_lock(Path(sys.argv[1]), on_wait=lambda: print("waits", flush=True)):
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path, start):
    """Starts a process that holds the lock of a file until its input is closed."""

    def begin(kind):
        return start("-c", HOLD, tmp_path / "lock", kind, stdin=subprocess.PIPE)

    return begin


def test_a_lock_is_free_when_its_holder_is_killed(hold, tmp_path):
    holder = hold("alone")
    assert holder.stdout.readline() == "held\n"
    with (tmp_path / "lock").open() as file:
        assert not try_lock(file)
        assert not try_lock(file, shared=True)
        holder.kill()
        holder.wait()
        assert try_lock(file)


def test_a_shared_lock_lets_others_share_until_its_holder_ends(hold, tmp_path):
    holder = hold("shared")
    assert holder.stdout.readline() == "held\n"
    share_until_exit(tmp_path / "other")  # this process may hold several
    with (tmp_path / "lock").open() as file:
        assert try_lock(file, shared=True)
        assert not try_lock(file)
        holder.stdin.close()
        assert holder.wait() == 0
        assert try_lock(file)


def test_who_waits_says_so_once_and_then_has_the_lock(hold, tmp_path, wait_until, waits_for_lock):
    with file_lock(tmp_path / "lock", on_wait=lambda: pytest.fail("nobody has it")):
        waiting = hold("alone")
        assert waiting.stdout.readline() == "waits\n"
        wait_until(lambda: waits_for_lock(waiting), "the process waits for the lock")
    assert waiting.stdout.readline() == "held\n"


def test_descriptors_of_folders_can_be_locked(tmp_path):
    with file_lock(tmp_path / "file"), (tmp_path / "file").open() as file:
        assert not try_lock(file.fileno())
