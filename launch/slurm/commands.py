"""Runs Slurm's own commands and reads their output."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from launch.command import LaunchError

# The states of a job that does not run and will not run again.
ENDED_STATES: Final = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "REVOKED", "TIMEOUT"}
)
_FIELD: Final = re.compile(r"(?:^| )([A-Z][\w:/]*)=")


def run_slurm(command: Sequence[str], *, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command of Slurm to its end.

    If this process is part of a job, that job's variables are left out: sbatch reads options from them.

    Args:
        command: program and arguments.
        text: its standard input.

    Raises:
        LaunchError: the program is not installed.
    """
    if not shutil.which(command[0]):
        raise LaunchError(
            f"{command[0]}: no such program here; run this where Slurm is installed, on a login node "
            f"(--dry_run prints the script without Slurm)"
        )
    return subprocess.run(
        list(command),
        input=text,
        env=without_job_variables(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


def slurm_output(command: Sequence[str], why: str, *, text: str | None = None) -> str:
    """Returns the output of a command of Slurm.

    Raises:
        LaunchError: the command fails; the message is `why` and what the command printed.
    """
    done = run_slurm(command, text=text)
    if done.returncode:
        raise LaunchError(f"{why}: {command[0]} says: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def without_job_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without the variables of a running job."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("SLURM_") or name in {"SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT"}
    }


def parse_fields(line: str) -> dict[str, str]:
    """Returns a line of `scontrol show ... -o` as a dictionary; values may have blanks and equals signs."""
    matches = list(_FIELD.finditer(line))
    ends = [match.start() for match in matches[1:]] + [len(line)]
    return {match[1]: line[match.end() : end].strip() for match, end in zip(matches, ends, strict=True)}


def show_job(job: int) -> list[dict[str, str]]:
    """Returns what Slurm knows of a job, of each task of an array; nothing some minutes after its end.

    Raises:
        LaunchError: Slurm does not answer.
    """
    shown = run_slurm(["scontrol", "show", "job", "-o", str(job)])
    if shown.returncode:
        if "Invalid job id" in shown.stderr + shown.stdout:
            return []
        raise LaunchError(f"job {job}: scontrol says: {(shown.stderr or shown.stdout).strip()}")
    return [parse_fields(line) for line in shown.stdout.splitlines() if line.startswith("JobId=")]


def accounting_state(job: int) -> str | None:
    """Returns the state of a job in Slurm's accounting; None if there is no accounting."""
    if not shutil.which("sacct"):
        return None
    shown = run_slurm(
        ["sacct", "-j", str(job), "--allocations", "--parsable2", "--noheader", "--format=State,ExitCode"]
    )
    if shown.returncode or not shown.stdout.strip():
        return None
    states = sorted({line.partition("|")[0] for line in shown.stdout.split("\n") if line})
    return ", ".join(states)
