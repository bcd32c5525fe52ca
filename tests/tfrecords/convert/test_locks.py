import os
import signal
import socket
import subprocess

import pytest

from tfrecords.convert.locks import LOCK_NAME, conversion_lock
from tfrecords.errors import InputError

HOLD = """
import sys
from pathlib import Path
from tfrecords.convert.locks import conversion_lock
with conversion_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, start):
    """A process of its own that holds the lock of `tmp_path / "out"`."""
    process = start("-c", HOLD, tmp_path / "out", stdin=subprocess.PIPE)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_conversion_is_kept_out_and_told_who_works(holder, tmp_path, facts):
    out = tmp_path / "out"
    expected = (
        f"--out={out}: another conversion runs there (host {socket.gethostname()}, process "
        f"{holder.pid}); wait for it, or choose another --out"
    )
    for _ in range(2):  # being refused leaves the lock as it is
        with pytest.raises(InputError, match=facts(expected)), conversion_lock(out):
            pass
    holder.stdin.close()
    assert holder.wait() == 0
    with conversion_lock(out):
        pass
    assert list(out.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    path = tmp_path / "out" / LOCK_NAME
    assert str(holder.pid) in path.read_text()
    with conversion_lock(tmp_path / "out"):
        assert path.read_text() == f"host {socket.gethostname()}, process {os.getpid()}\n"


def test_the_lock_of_another_host_is_never_taken(tmp_path, facts):
    path = tmp_path / LOCK_NAME
    path.write_text("host elsewhere, process 7\n")
    expected = (
        f"{path}: left by a conversion on another host (host elsewhere, process 7); if that one does not run "
        f"any more, remove this file and run the same command again"
    )
    with pytest.raises(InputError, match=facts(expected)), conversion_lock(tmp_path):
        pass
    assert path.read_text() == "host elsewhere, process 7\n"


def test_the_lock_goes_when_a_conversion_fails(tmp_path):
    with pytest.raises(RuntimeError), conversion_lock(tmp_path):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_second_converter_leaves_the_first_ones_work_alone(holder, image_folder, tmp_path, run_command):
    (tmp_path / "out" / "chest_xray-train.tfrecord-00000-of-00001").write_bytes(b"at work")
    done = run_command(
        "tfrecords.convert", f"--images={image_folder}", f"--out={tmp_path / 'out'}", "--overwrite"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"process {holder.pid}" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "chest_xray-train.tfrecord-00000-of-00001",
        LOCK_NAME,
    ]
