"""A Slurm of the module's own, and what a user types there."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

_ONE_MACHINE = Path(__file__).with_name("one_machine.py")
_PATIENCE = 240  # seconds, for what takes ten on a machine that has nothing else to do


@pytest.fixture(scope="module")
def slurm():
    """The variables that lead to a Slurm of this module's own."""
    one_machine = [sys.executable, str(_ONE_MACHINE)]
    with subprocess.Popen(
        one_machine, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        if not line:
            reason = process.stderr.read().strip()
            if "not installed" in reason or os.geteuid():
                pytest.skip(f"no Slurm can be started here: {reason.splitlines()[-1]}")
            pytest.fail(reason)
        yield dict([line.strip().split("=", 1)])
        process.stdin.close()  # it stops the cluster, and then itself


class Cluster:
    """What a user types, in one folder."""

    def __init__(self, run_python, folder, variables):
        self._run_python = run_python
        self.folder = folder
        self.variables = {"TF_ENABLE_ONEDNN_OPTS": "0", **variables}

    def launch(self, *words, code=0, **environment):
        done = self._run_python(
            "-m", "launch.slurm", *words, cwd=self.folder, **self.variables, **environment
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def submit(self, *flags, command, **environment):
        """Submits a command and returns the number of its job."""
        done = self.launch(*flags, "--", *command, **environment)
        job = int(done.stdout)
        assert f"-m launch.slurm status {job}" in done.stderr
        return job

    def ask(self, *command):
        return subprocess.run(
            command,
            env=os.environ | self.variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    def job(self, job):
        """What Slurm says of it."""
        words = self.ask("scontrol", "show", "job", "-o", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def text(self, job, name):
        path = self.folder / "launch" / str(job) / name
        return path.read_text() if path.exists() else ""

    def wait(self, what, why):
        """Waits until `what()` is true and returns it."""
        end = time.monotonic() + _PATIENCE
        while not (found := what()):
            assert time.monotonic() < end, why()
            time.sleep(0.2)
        return found

    def wait_for_end(self, job):
        """Waits for the script's last word, and spares a requeued job Slurm's two minutes."""

        def ended():
            if self.job(job).get("Reason") == "BeginTime":
                self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
            return self.text(job, "state").startswith(("ended", "cancelled"))

        self.wait(ended, lambda: self.everything(job))

    def everything(self, job):
        """All that is known of a job, for who looks at a failure."""
        folder = self.folder / "launch" / str(job)
        files = (
            [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".sh"]
            if folder.is_dir()
            else []
        )
        return "\n".join(
            [
                str(self.job(job)),
                *(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in files),
            ]
        )


@pytest.fixture(scope="module")
def cluster(slurm, run_python, tmp_path_factory):
    return Cluster(run_python, tmp_path_factory.mktemp("home"), slurm)
