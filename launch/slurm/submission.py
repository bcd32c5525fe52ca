"""Submits a batch script, or asks Slurm when it would start."""

import json
import os
import shlex
import shutil
import time
from dataclasses import asdict
from pathlib import Path

from launch.command import LaunchError
from launch.slurm.commands import run_slurm, slurm_output
from launch.slurm.folder import BATCH_LOG, JOB_NAME, SCRIPT_NAME
from launch.slurm.options import Job
from launch.slurm.script import render


def submit(job: Job, made_by: str) -> int:
    """Submits a job and returns its number.

    The job is held until its folder and script are written, so a running job always has both.

    Raises:
        LaunchError: Slurm refuses the job, or its folder cannot be written.
    """
    script = render(job, made_by)
    base = job.log_dir or job.folder / "launch"
    inner = ("" if job.log_dir else "%A/" if job.array else "%j/") + ("task-%a/" if job.array else "")
    log = str(base).replace("%", "%%") + f"/{inner}{BATCH_LOG}"  # Slurm reads %% as %
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"{base}: the folder of the job cannot be created: {error.strerror}") from None
    if job.log_dir and (job.log_dir / JOB_NAME).exists():
        raise LaunchError(
            f"--log_dir={job.log_dir}: is the folder of another job; give each job its own folder"
        )
    printed = slurm_output(
        ["sbatch", "--parsable", "--hold", f"--output={log}"], "the job was refused", text=script
    )
    number = int(printed.strip().splitlines()[-1].partition(";")[0])
    try:
        _write_state(job.log_dir or base / str(number), job, number, script, made_by)
        slurm_output(["scontrol", "release", str(number)], "the job was refused")
    except (OSError, LaunchError) as error:
        run_slurm(["scancel", str(number)])
        if isinstance(error, LaunchError):
            raise
        raise LaunchError(
            f"{error.filename or base}: cannot be written: {error.strerror}; job {number} was cancelled"
        ) from None
    return number


def try_out(job: Job, made_by: str) -> str:
    """Returns Slurm's own message on when and where a job would start; submits nothing.

    Raises:
        LaunchError: Slurm would refuse the job.
    """
    done = run_slurm(["sbatch", "--test-only"], text=render(job, made_by))
    if done.returncode:
        raise LaunchError(f"the job would be refused: sbatch says: {(done.stderr or done.stdout).strip()}")
    return (done.stderr or done.stdout).strip().removeprefix("sbatch: ")


def explain(job: Job, number: int) -> str:
    """Returns what was submitted, where its logs are, and which commands to run next."""
    folder = job.log_dir or job.folder / "launch" / str(number)
    where = f" --log_dir={shlex.quote(str(job.log_dir))}" if job.log_dir else ""
    launcher = f"{shlex.quote(_short(job.python))} -m launch.slurm"
    tasks = f"{job.tasks_per_node} task{'s' * (job.tasks_per_node > 1)} on each"
    size = f"{job.nodes} node{'s' * (job.nodes > 1)}, {tasks}"
    limit = f", time limit {job.time}" if job.time else ""
    lines = [
        f"job {number} ({job.name}): {f'array {job.array}, ' if job.array else ''}{size}{limit}",
        f"logs: {folder}{'/task-N' if job.array else ''} (rank-N.log, {BATCH_LOG})",
        "next:",
        f"  {launcher} status {number}{where}",
        f"  {launcher} logs {number} --follow{where}",
        f"  {launcher} cancel {number}{where}",
    ]
    return "\n".join(lines)


def _write_state(folder: Path, job: Job, number: int, script: str, made_by: str) -> None:
    indices = task_indices(job.array) if job.array else []
    for each in [folder, *(folder / f"task-{index}" for index in indices)]:
        each.mkdir(parents=True, exist_ok=True)
    (folder / SCRIPT_NAME).write_text(script)
    (folder / SCRIPT_NAME).chmod(0o755)
    values = {
        "job": number,
        "name": job.name,
        "made_by": made_by,
        "submitted": time.time(),
        "processes": job.processes,
        "tasks": indices,
        "options": asdict(job),
    }
    temporary = folder / f".{JOB_NAME}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(values, indent=1, default=str) + "\n")
    temporary.replace(folder / JOB_NAME)


def task_indices(array: str) -> list[int]:
    """Returns the indices of an array: `0-6:2,9%3` is 0, 2, 4, 6, 9."""
    found: set[int] = set()
    for part in array.partition("%")[0].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return sorted(found)


def _short(python: str) -> str:
    """Returns the shortest name of the interpreter that works in the current folder."""
    name = Path(python).name
    if shutil.which(name) == python:
        return name
    near = os.path.relpath(python)
    return python if near.startswith("..") else near
