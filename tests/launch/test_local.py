"""Processes on one machine: real ones, killed and stopped."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.local import free_ports

pytestmark = pytest.mark.slow

RANK = 'import json, os; rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]; '


@pytest.fixture
def launch(run_python, tmp_path):
    """Runs a script of Python in processes."""

    def run(script, *flags, processes=2, arguments=(), **environment):
        own = ["-m", "launch.local", f"--processes={processes}", f"--log_dir={tmp_path / 'logs'}", *flags]
        return run_python(*own, "--", sys.executable, "-c", RANK + script, *arguments, **environment)

    return run


def test_the_command_is_handed_on_untouched(launch, tmp_path):
    given = ["two words", "it's", '"', "--", "--processes=9", "", "*", "$HOME"]
    done = launch("import sys; print(json.dumps(sys.argv[1:]))", arguments=given)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"[{rank}] {json.dumps(given)}" for rank in (0, 1)]
    for rank in (0, 1):
        assert (tmp_path / "logs" / f"rank-{rank}.log").read_text() == json.dumps(given) + "\n"
    assert "\033" not in done.stdout  # colours are for a terminal


def test_each_gets_its_place_its_cores_and_its_devices(launch):
    script = (
        "print(json.dumps([json.loads(os.environ['TF_CONFIG']), sorted(os.sched_getaffinity(0)), "
        "os.environ.get('CUDA_VISIBLE_DEVICES')]))"
    )
    done = launch(script, "--devices_per_process=2", processes=2, CUDA_VISIBLE_DEVICES="4,5,6,7")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line.partition(" ")[2]) for line in sorted(done.stdout.splitlines())]
    clusters = [config["cluster"]["worker"] for config, *_ in found]
    assert clusters[0] == clusters[1]
    assert len(set(clusters[0])) == 2
    assert [config["task"] for config, *_ in found] == [{"type": "worker", "index": rank} for rank in (0, 1)]
    cores = [set(each) for _, each, _ in found]
    assert cores[0] | cores[1] == os.sched_getaffinity(0)
    assert len(os.sched_getaffinity(0)) == 1 or not cores[0] & cores[1]
    assert [devices for *_, devices in found] == ["4,5", "6,7"]


def test_ports_are_free_and_below_those_of_outgoing_connections():
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(10000 <= port < 32768 for port in ports)


def test_the_first_to_fail_is_the_cause_and_its_code_is_returned(launch):
    script = """
import sys, time
print("rank", rank, "works", flush=True)
time.sleep(600 * (rank != 1))
print("no luck", flush=True)
sys.exit(5)
"""
    done = launch(script, processes=3)
    assert done.returncode == 5
    assert re.search(r"rank 1 .*\b5\b.*:\n  rank 1 works\n  no luck", done.stderr), done.stderr


def test_who_does_not_leave_is_killed_after_the_grace(launch):
    script = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
if rank:
    time.sleep(1)
    sys.exit(7)
time.sleep(600)
"""
    done = launch(script, "--grace=0.5")
    assert done.returncode == 7
    assert re.search(r"rank 1 .*\b7\b", done.stderr), done.stderr


def test_a_frozen_process_is_woken_to_save_and_leave(launch):
    script = """
import signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
if rank:
    time.sleep(1)
    sys.exit(5)
os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(600)
"""
    done = launch(script, "--grace=30")
    assert done.returncode == 5
    assert done.stdout == "[0] saved\n"


@pytest.mark.parametrize(
    ("end", "code", "starts"),
    [
        ("sys.exit(76)", 76, 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, 3),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 139, 3),
        ("sys.exit(75)", 75, 1),
        ("sys.exit(77)", 77, 1),
        ("sys.exit(2)", 2, 1),
        ("sys.exit(1)", 1, 1),
        ("sys.exit(0)", 0, 1),
    ],
)
def test_what_is_started_again(launch, tmp_path, end, code, starts):
    script = f"import signal, sys; open('starts', 'a').write('x' * (rank == 0)); {end}"
    done = launch(f"import os; os.chdir({str(tmp_path)!r}); {script}", "--max_restarts=2", processes=1)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "starts").read_text() == "x" * starts
    assert done.stderr.count("restart ") == max(0, starts - 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_is_passed_on_and_the_ends_are_waited_for(start, tmp_path, number, code):
    script = f"""
import signal, sys, time
def stop(*_):
    time.sleep(0.5)
    print("saved", flush=True)
    sys.exit({code})
signal.signal({int(number)}, stop)
print("ready", flush=True)
time.sleep(600)
"""
    flags = ["-u", "-m", "launch.local", "--processes=2", f"--log_dir={tmp_path / 'logs'}"]
    process = start(*flags, "--", sys.executable, "-c", RANK + script)
    assert {process.stdout.readline() for _ in range(2)} == {"[0] ready\n", "[1] ready\n"}
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == code, err
    assert sorted(out.splitlines()) == ["[0] saved", "[1] saved"]
    assert "restart" not in err


def members(session):
    found = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True, check=False
    )
    return found.stdout.split()


def test_a_killed_launcher_leaves_no_orphan(start, tmp_path, wait_until):
    """Neither its processes, nor what they have started."""
    script = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
    flags = ["-u", "-m", "launch.local", "--processes=2", f"--log_dir={tmp_path / 'logs'}"]
    process = start(*flags, "--", sys.executable, "-c", RANK + script)
    pids = [int(word) for _ in range(2) for word in process.stdout.readline().split()[1:]]
    assert len(pids) == 4
    process.send_signal(signal.SIGKILL)
    process.wait()

    def gone(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    wait_until(lambda: all(map(gone, pids)), "all of them end")
    assert members(process.pid) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--processes=2"], "no command to run: write it after `--`"),
        (["--processes=2", "--"], "no command to run: write it after `--`"),
        (["--", "true"], "--processes"),
        (["--processes=0", "--", "true"], "--processes=0"),
        (["--processes=2", "true"], "unexpected argument 'true'"),
        (["--processes=2", "--", "no-such-program"], "no-such-program: "),
        (["--processes=2", "--log_dir=/proc/none", "--", "true"], "--log_dir=/proc/none: "),
    ],
)
def test_bad_input(run_command, arguments, said):
    done = run_command("launch.local", *arguments)
    assert done.returncode == 2
    assert re.match(r"(?s)(FATAL Flags parsing )?error: ", done.stderr), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["local", "worker", "slurm.__main__", "kubernetes.__main__"])
def test_no_other_package_and_no_tensorflow_is_imported(run_python, command):
    script = (
        f"import sys, launch.{command}; print([m for m in sys.modules if m.split('.')[0] in "
        "('tensorflow', 'numpy', 'keras', 'tfrecords', 'trainer', 'data_pipeline')])"
    )
    assert run_python("-c", script, cwd=Path(__file__).parents[2]).stdout == "[]\n"
