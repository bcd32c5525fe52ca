"""The command, and what it renders: run here as two pods would run it."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CHILD = ("env", "--default-signal", "setpriv", "--pdeathsig", "KILL")
# What a container of Kubernetes has and a process here has not: names of its own.
WITH_HOSTS = (
    "unshare",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    'mount --bind "$0" /etc/hosts && exec "$@"',
)
SHOW = (
    "import json, os, sys, time; print(json.dumps([os.getpid(), os.environ.get('TF_CONFIG'), "
    "os.environ.get('A'), sys.argv[1:]]), flush=True); time.sleep(600)"
)
WORDS = ["two words", "it's", '"', "--", "--nodes=9", "", "*", "$HOME", "$(LAUNCH_JOB)", "$$", "\n", "é"]

pytestmark = pytest.mark.slow


@pytest.fixture
def launch(run_command):
    def run(*flags, command=("python", "-m", "trainer.main"), **options):
        return run_command("launch.kubernetes", *flags, "--", *command, **options)

    return run


def test_a_dry_run_prints_the_manifest_alone(launch, read):
    flags = ["--image=a:1", "--nodes=2", "--volume=images:/data", "--env=A=1", "--env=B=x=y", "--dry_run"]
    done = launch(*flags)
    assert (done.returncode, done.stderr) == (0, "")
    service, job = read(done.stdout)
    assert service["metadata"]["name"] == job["metadata"]["name"] == "trainer-main"
    assert (
        shlex.join(["python", "-m", "launch.kubernetes", *flags, "--", "python", "-m", "trainer.main"])
        in done.stdout
    )
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "B", "value": "x=y"} in container["env"]


def test_the_example_of_the_docs_is_a_manifest(run_command, read):
    page = (ROOT / "docs" / "launching.md").read_text()
    block = page.split("## On Kubernetes\n")[1].split("```sh\n")[1].split("```")[0]
    command, *kubectl = block.replace("\\\n", " ").splitlines()
    python, m, module, *words = shlex.split(command)
    assert (python, m, module) == ("python", "-m", "launch.kubernetes")
    done = run_command(module, "--dry_run", *words)
    assert (done.returncode, done.stderr) == (0, "")
    service, job = read(done.stdout)
    labels = job["spec"]["template"]["metadata"]["labels"]
    for line in kubectl:  # what is asked for afterwards is what was made
        assert job["metadata"]["name"] in line
        assert "-l" not in line.split() or f"{next(iter(labels))}={service['metadata']['name']}" in line


@pytest.mark.parametrize(
    ("flags", "facts_of"),
    [
        ([], "--image= --image=registry.example.com/team/shardlight:0.1.0"),
        (["--image=a:1", "--memory=4GB"], "--memory=4GB --memory=4Gi"),
        (["--image=a:1", "--volume=data"], "--volume=data CLAIM:/path"),
        (["--image=a:1", "--env=A"], "--env=A NAME=VALUE"),
        (["--image=a:1", "--name=a_b"], "--name=a_b --name=chest-xray"),
        (["--image=a:1", "--name="], "--name= --name=chest-xray"),
        (["--image=a:1", "--nodes=0"], "nodes=0 --help"),
        (["--image=a:1", "--gpus=x"], "gpus=x --help"),
        (["--image=a:1", "--node=2"], "'node' --help"),
        (["--image=a:1", "trainer.main"], "'trainer.main' --help"),
    ],
)
def test_bad_flags(launch, flags, facts_of):
    done = launch(*flags, "--dry_run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    missing = [fact for fact in facts_of.split() if fact.strip("'") not in done.stderr]
    assert not missing, done.stderr


def test_a_command_is_needed(run_command):
    done = run_command("launch.kubernetes", "--image=a:1", "--dry_run")
    assert done.returncode == 2
    assert "after `--`" in done.stderr


def test_two_pods_are_two_workers_of_one_training(launch, container_of, tmp_path, command_environment):
    """What is rendered, as real processes: names resolve, TF_CONFIG is there, signals reach the command."""
    made = launch(
        *("--image=a:1", "--nodes=2", "--name=train", "--env=A=$(LAUNCH_JOB) $$", "--dry_run"),
        command=(sys.executable, "-c", SHOW, *WORDS),
    )
    assert made.returncode == 0, made.stderr
    container = container_of(made.stdout)
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.0.1 train-0.train\n127.0.0.1 train-1.train\n")
    trial = [*WITH_HOSTS, hosts, sys.executable, "-c", ""]
    if subprocess.run(trial, check=False, capture_output=True).returncode:
        pytest.skip("no names of its own can be given to a process here")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    for rank in range(2):
        process = subprocess.Popen(
            [*CHILD, *WITH_HOSTS, hosts, *container.command],
            env=command_environment
            | {"PATH": path, "JOB_COMPLETION_INDEX": str(rank), "TF_CONFIG": ""}
            | container.environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                pid, tf_config, a, words = json.loads(process.stdout.readline())
                process.send_signal(signal.SIGTERM)
                assert process.wait() == -signal.SIGTERM
            finally:
                process.kill()
        assert pid == process.pid  # the command took the place of all that started it
        assert json.loads(tf_config) == {
            "cluster": {"worker": ["train-0.train:12345", "train-1.train:12345"]},
            "task": {"type": "worker", "index": rank},
        }
        assert (a, words) == ("$(LAUNCH_JOB) $$", WORDS)


def test_names_that_never_come_end_the_pod_with_76(launch, container_of, run_python):
    flags = ["--image=a:1", "--nodes=2", "--name=no-such-job", "--dry_run"]
    made = launch(*flags, command=("true",))
    container = container_of(made.stdout)
    assert container.command[:4] == ["python", "-m", "launch.worker", "--"]
    done = run_python(
        *("-m", "launch.worker", "--join_minutes=0.01", "--", *container.command[4:]),
        **container.environment,
        JOB_COMPLETION_INDEX="0",
        TF_CONFIG="",
    )
    assert done.returncode == 76
    assert "no-such-job-1.no-such-job" in done.stderr
