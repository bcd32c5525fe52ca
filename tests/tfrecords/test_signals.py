"""How a command hears SIGTERM and Ctrl-C: real signals to real processes."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import ctypes, os, sys, time
from tfrecords import signals
from tfrecords.command import run

HOW = os.environ["HOW"]

def main(_):
    if HOW not in ("deferred", "slow"):
        print("ready", flush=True)
    if HOW == "python":
        time.sleep(600)
    if HOW == "stuck":  # in a library, which Python's handlers do not interrupt
        while True:
            ctypes.CDLL(None).sleep(600)
    if HOW == "swallowed":  # as in a destructor
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            time.sleep(600)
    with signals.deferred():
        print("ready", flush=True)
        while signals.heard() is None:
            time.sleep(0.01)
        print("heard", signals.heard().name, flush=True)
        if HOW == "slow":
            time.sleep(600)
        sys.stdin.readline()
    print("saved", flush=True)

run(main)
"""


@pytest.fixture
def begin(start, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)

    def begin(how, **options):
        pipe = subprocess.PIPE
        process = start("-u", "script.py", cwd=tmp_path, env={"HOW": how}, stdin=pipe, **options)
        assert process.stdout.readline() == "ready\n"
        return process

    return begin


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
@pytest.mark.parametrize("how", ["python", "stuck"])
def test_a_signal_ends_a_command_at_once(begin, how, number, code):
    process = begin(how)
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert err.endswith("the same command again goes on from here\n")
    assert ("SIGTERM" in err) == (number == signal.SIGTERM)
    assert "Traceback" not in err


def test_a_signal_in_a_deferred_block_is_noted_and_a_second_sigterm_changes_nothing(begin):
    process = begin("deferred")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "heard SIGTERM\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate("\n")
    assert (process.returncode, out) == (0, "saved\n")


def test_a_second_ctrl_c_after_a_second_leaves_at_once(begin, wait_until):
    process = begin("slow")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "heard SIGINT\n"
    process.send_signal(signal.SIGINT)  # the same key, held down
    assert process.poll() is None

    def left():
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    wait_until(left, "it leaves")
    assert process.returncode == 130
    assert "interrupted twice" in process.communicate()[1]


def test_a_job_in_the_background_ignores_ctrl_c_as_its_shell_says(start, tmp_path):
    """`nohup` and `&` in a script let a command ignore SIGINT; SIGTERM still stops it."""
    (tmp_path / "script.py").write_text(SCRIPT)
    ignoring = (
        "import os, signal, sys; signal.signal(2, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    process = start("-c", ignoring, sys.executable, "-u", "script.py", cwd=tmp_path, env={"HOW": "python"})
    assert process.stdout.readline() == "ready\n"
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    assert process.communicate()[1].startswith("stopped by SIGTERM")
    assert process.returncode == 75
