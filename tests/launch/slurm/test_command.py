"""The command line of `python -m launch.slurm`, without a Slurm."""

import json
import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no command to run"),
        (["--nodes=2"], "no command to run"),
        (["--nodes=0", "--", "x"], "--nodes=0"),
        (["--nodes=two", "--", "x"], "--nodes=two"),
        (["--time=soon", "--", "x"], "--time=soon"),
        (["--after=x", "--", "x"], "--after x"),
        (["--env=x", "--", "x"], "--env=x"),
        (["hold", "7"], "scontrol hold 7"),
        (["requeue", "7"], "scontrol requeue 7"),
        (["stop", "7"], "status JOB, logs JOB or cancel JOB"),
        (["status"], "status JOB, logs JOB or cancel JOB"),
        (["status", "x"], "status x: must be the number of a job"),
        (["status", "7"], "launch/7"),
        (["true"], "flags, then `--`, then the command"),
        (["more", "--", "x"], "unexpected argument 'more'"),
    ],
)
def test_what_is_refused(run_command, words, said):
    done = run_command("launch.slurm", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: "), done.stderr
    assert said in done.stderr


def test_without_slurm_the_script_is_printed_and_nothing_else_works(run_command, tmp_path):
    flags = ("--nodes=2", "--", "python", "-m", "trainer.main")
    done = run_command("launch.slurm", "--dry_run", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("#!/bin/bash\n")
    assert not list(tmp_path.iterdir())
    done = run_command("launch.slurm", *flags, cwd=tmp_path, prefix=["env", "PATH=/nowhere"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "sbatch: no such program here" in done.stderr


@pytest.fixture
def running(tmp_path):
    """The folder of a job that goes on."""
    folder = tmp_path / "launch" / "7"
    folder.mkdir(parents=True)
    values = {"job": 7, "name": "x", "made_by": "x", "processes": 1, "tasks": []}
    (folder / "job.json").write_text(json.dumps(values))
    (folder / "state").write_text("running, start 1\n")
    (folder / "rank-0.log").write_text("a line\n" * 100_000)
    return tmp_path


def test_who_follows_leaves_with_ctrl_c(start, running):
    process = start("-u", "-m", "launch.slurm", "logs", "7", "--follow", cwd=running)
    for _ in range(100_000):
        assert process.stdout.readline() == "a line\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "")
    assert process.returncode == 130


def test_a_reader_that_has_seen_enough_is_no_error(start, running):
    process = start("-m", "launch.slurm", "logs", "7", cwd=running)
    assert process.stdout.readline() == "a line\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_the_folder_of_jobs_does_not_hide_the_package(tmp_path):
    """An installed package is found beside a folder of its name, in which jobs have their logs."""
    (tmp_path / "launch" / "7").mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (["launch.slurm", "--dry_run", "--", "x"], ["launch.local", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
