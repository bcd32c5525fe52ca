"""One worker of many: what it makes of its environment, and how its command ends."""

import json
import signal
import sys

import pytest

pytestmark = pytest.mark.slow

SHOW = "import os; print(os.environ['TF_CONFIG'])"
SLURM = {
    "SLURM_JOB_ID": "12",
    "SLURM_JOB_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_TASKS_PER_NODE": "2",
}
POD = {
    "JOB_COMPLETION_INDEX": "0",
    "LAUNCH_PROCESSES": "1",
    "LAUNCH_JOB": "localhost",
    "LAUNCH_SERVICE": "localdomain",
}


@pytest.fixture
def work(run_python):
    def run(*flags, script=SHOW, **environment):
        cleared = {"TF_CONFIG": ""} | environment
        return run_python("-m", "launch.worker", *flags, "--", sys.executable, "-c", script, **cleared)

    return run


def test_a_tf_config_that_is_there_wins(work):
    mine = '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'
    done = work(TF_CONFIG=mine, **SLURM)
    assert (done.returncode, done.stdout) == (0, mine + "\n"), done.stderr


def test_in_slurm(work):
    done = work(**SLURM)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["task"] == {"type": "worker", "index": 1}
    assert [address.split(":")[0] for address in found["cluster"]["worker"]] == ["localhost", "localhost"]


@pytest.mark.parametrize("environment", [{}, {"OMPI_COMM_WORLD_RANK": "1"}, {"PMI_RANK": "1"}])
def test_in_a_list_of_hosts(work, tmp_path, environment):
    (tmp_path / "hosts").write_text("localhost:7001\nlocalhost:7002\n")
    flags = [f"--hosts={tmp_path / 'hosts'}", *([] if environment else ["--rank=1"])]
    done = work(*flags, **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "cluster": {"worker": ["localhost:7001", "localhost:7002"]},
        "task": {"type": "worker", "index": 1},
    }


def test_how_it_ended_is_kept(work, tmp_path):
    script = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(5)"
    done = work(f"--log_dir={tmp_path / 'logs'}", script=script, **SLURM)
    assert (done.returncode, done.stdout) == (5, "")  # of several, rank 0 alone prints too
    assert (tmp_path / "logs" / "rank-1.log").read_text() == "one\ntwo\n"
    end = json.loads((tmp_path / "logs" / "rank-1.json").read_text())
    assert (end["rank"], end["code"], end["last_lines"]) == (1, 5, ["one", "two"])
    assert end["began"] <= end["ended"]


@pytest.mark.parametrize(
    ("script", "flags", "code", "how"),
    [
        ("", ["--devices_per_process=1"], 2, "was refused"),
        (None, [], 2, "was refused"),
    ],
)
def test_how_it_was_refused_is_kept_too(run_python, tmp_path, script, flags, code, how):
    command = [sys.executable, "-c", script] if script is not None else ["/no/such/program"]
    flags = [f"--log_dir={tmp_path}", *flags]
    done = run_python("-m", "launch.worker", *flags, "--", *command, **SLURM, TF_CONFIG="")
    end = json.loads((tmp_path / "rank-1.json").read_text())
    assert (done.returncode, end["code"], end["how"]) == (code, code, how), done.stderr
    assert end["last_lines"][0] in done.stderr


def test_rank_0_prints_too(work, tmp_path):
    done = work(f"--log_dir={tmp_path}", script="print('here')", **SLURM | {"SLURM_PROCID": "0"})
    assert done.stdout == "here\n", done.stderr


def test_gpus_are_divided_by_the_place_on_the_machine(work):
    script = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    given = SLURM | {"SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    done = work("--devices_per_process=2", script=script, **given)
    assert done.stdout == "2,3\n", done.stderr


def test_slurm_says_the_address_of_a_name_that_does_not_resolve(work, tmp_path):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        "#!/bin/sh\necho 'NodeName=no-such-1 Arch=x NodeAddr=127.0.0.1 NodeHostName=x'\n"
        "echo 'NodeName=no-such-2 NodeAddr=127.0.0.2 x'\n"
    )
    scontrol.chmod(0o755)
    given = SLURM | {"SLURM_JOB_NODELIST": "no-such-[1-2]", "SLURM_TASKS_PER_NODE": "1(x2)"}
    done = work("--join_minutes=0.1", PATH=f"{tmp_path}:/usr/bin:/bin", **given)
    addresses = json.loads(done.stdout)["cluster"]["worker"]
    assert [address.partition(":")[0] for address in addresses] == ["127.0.0.1", "127.0.0.2"], done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signals_are_passed_on(start, tmp_path, number, code):
    script = f"""
import signal, sys, time
signal.signal({int(number)}, lambda *_: sys.exit({code}))
print("ready", flush=True)
time.sleep(600)
"""
    flags = ["-u", "-m", "launch.worker", f"--log_dir={tmp_path}", "--", sys.executable, "-c", script]
    process = start(*flags, env=SLURM | {"TF_CONFIG": "", "SLURM_PROCID": "0"})
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code
    assert json.loads((tmp_path / "rank-0.json").read_text())["code"] == code


def test_the_end_by_a_signal_has_the_code_of_shells(work, tmp_path):
    done = work(f"--log_dir={tmp_path}", script="import os; os.kill(os.getpid(), 9)", **SLURM)
    assert done.returncode == 137
    assert json.loads((tmp_path / "rank-1.json").read_text())["how"] == "was ended by SIGKILL"


def test_in_kubernetes_the_command_takes_its_place(start):
    environment = POD | {"TF_CONFIG": "{}"}
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    process = start("-u", "-m", "launch.worker", "--", sys.executable, "-c", script, env=environment)
    inner = int(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    assert inner == process.pid


def test_names_that_do_not_resolve_are_named(work):
    done = work("--join_minutes=0.01", **POD | {"LAUNCH_SERVICE": "no.such.name.invalid"})
    assert done.returncode == 76
    assert "localhost-0.no.such.name.invalid" in done.stderr


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        ([], {}, "--hosts=FILE and --rank=N"),
        (["--hosts=/no/such/file", "--rank=0"], {}, "--hosts=/no/such/file: cannot be read"),
        ([], SLURM | {"SLURM_NTASKS": "7"}, "SLURM_NTASKS=7"),
        ([], POD | {"LAUNCH_PROCESSES": "none"}, "LAUNCH_PROCESSES=none"),
    ],
)
def test_bad_input(work, flags, environment, said):
    done = work(*flags, **environment)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_a_rank_is_needed(work, tmp_path):
    (tmp_path / "hosts").write_text("a\n")
    done = work(f"--hosts={tmp_path / 'hosts'}")
    assert done.returncode == 2
    assert "needs --rank=N" in done.stderr
