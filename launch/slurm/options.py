"""What a batch job asks for, checked before Slurm sees it."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launch.cluster import FIRST_PORT, LAST_PORT
from launch.command import LaunchError

_TIMES: Final = (
    (re.compile(r"(\d+)"), (60,)),
    (re.compile(r"(\d+):(\d+)"), (60, 1)),
    (re.compile(r"(\d+):(\d+):(\d+)"), (3600, 60, 1)),
    (re.compile(r"(\d+)-(\d+)"), (86400, 3600)),
    (re.compile(r"(\d+)-(\d+):(\d+)"), (86400, 3600, 60)),
    (re.compile(r"(\d+)-(\d+):(\d+):(\d+)"), (86400, 3600, 60, 1)),
)
_ARRAY: Final = re.compile(r"\d+(-\d+(:\d+)?)?(,\d+(-\d+(:\d+)?)?)*(%\d+)?")
# Options of sbatch that this command sets itself, and the flag to use instead.
_OURS: Final = {
    "--array": "--array",
    "-a": "--array",
    "--output": "--log_dir",
    "-o": "--log_dir",
    "--error": "--log_dir",
    "-e": "--log_dir",
    "--dependency": "--after",
    "-d": "--after",
    "--signal": "--grace",
    "--nodes": "--nodes",
    "-N": "--nodes",
    "--ntasks": "--nodes and --tasks_per_node",
    "-n": "--nodes and --tasks_per_node",
    "--ntasks-per-node": "--tasks_per_node",
    "--export": "--env",
    "--no-requeue": "--max_restarts=0",
}


@dataclass(frozen=True)
class Job:
    """A batch job of Slurm.

    Attributes:
        command: what each task runs, untouched.
        folder: where the job runs, absolute.
        python: the interpreter of `launch.worker`, absolute.
        nodes: machines.
        tasks_per_node: processes of the command on each.
        gpus_per_node: of each machine, divided among its tasks.
        cpus_per_task: cores; None leaves it to Slurm.
        mem: memory of each machine, as Slurm writes it, `64G`.
        time: limit, as Slurm writes it, minutes or `1-12:00:00`.
        partition: likewise, with account, qos and constraint.
        array: indices of an array, `0-7` or `0-99%10`.
        after: jobs that must have succeeded before.
        grace: seconds before the time limit at which the tasks are told to save.
        max_restarts: starts in a row that may follow one that saved nothing new.
        resubmit: a job that goes on is submitted anew instead of requeued.
        environment: NAME=VALUE pairs for the command.
        setup: lines of shell before it.
        log_dir: folder of the job's state, absolute; None: launch/JOBID in `folder`.
        sbatch_args: further options of sbatch, a line of the script each.
    """

    command: tuple[str, ...]
    folder: Path
    python: str
    nodes: int = 1
    tasks_per_node: int = 1
    gpus_per_node: int = 0
    cpus_per_task: int | None = None
    mem: str | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    array: str | None = None
    after: tuple[int, ...] = ()
    grace: int = 120
    max_restarts: int = 3
    resubmit: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    setup: tuple[str, ...] = ()
    log_dir: Path | None = None
    sbatch_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.processes > LAST_PORT - FIRST_PORT + 1:
            raise LaunchError(
                f"--nodes={self.nodes} --tasks_per_node={self.tasks_per_node}: {self.processes} processes; "
                f"at most {LAST_PORT - FIRST_PORT + 1} have a port of their own"
            )
        if self.gpus_per_node % self.tasks_per_node:
            raise LaunchError(
                f"--gpus_per_node={self.gpus_per_node}: must be a multiple of --tasks_per_node="
                f"{self.tasks_per_node}, so that each task gets as many GPUs"
            )
        if self.array is not None and not _ARRAY.fullmatch(self.array):
            raise LaunchError(f"--array={self.array}: must be as 0-7, 0-99%10 or 1,3,5")
        if self.array is not None and self.resubmit:
            raise LaunchError(
                "--resubmit: cannot be had with --array, for a task that is submitted alone does not know "
                "how many tasks there are; leave one of them out"
            )
        if self.time is not None and self.grace >= seconds(self.time):
            raise LaunchError(
                f"--grace={self.grace}: must be less than --time={self.time}, which is {seconds(self.time)} s"
            )
        for flag in ("mem", "partition", "account", "qos", "constraint"):
            value = getattr(self, flag)
            if value is not None and (not value or re.search(r"\s", value)):
                raise LaunchError(f"--{flag}={value!r}: must be one word")
        for line in self.sbatch_args:
            _check_sbatch_args(line)

    @property
    def processes(self) -> int:
        """All tasks of the job."""
        return self.nodes * self.tasks_per_node

    @property
    def name(self) -> str:
        """A short name: the module of `python -m MODULE`, else the program."""
        words = list(self.command)
        if "-m" in words[:-1]:
            return words[words.index("-m") + 1]
        return Path(words[0]).name


def seconds(time: str) -> int:
    """Returns a time limit in seconds.

    Raises:
        LaunchError: it is not one of Slurm's forms, or no time at all.
    """
    for form, units in _TIMES:
        if match := form.fullmatch(time):
            total = sum(int(part) * unit for part, unit in zip(match.groups(), units, strict=True))
            if total:
                return total
    raise LaunchError(
        f"--time={time}: must be minutes, MM:SS, HH:MM:SS, DAYS-HH, DAYS-HH:MM or DAYS-HH:MM:SS, more than 0"
    )


def _check_sbatch_args(line: str) -> None:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise LaunchError(f"--sbatch_args={line!r}: is not understood: {error}") from None
    if "\n" in line or not words or not words[0].startswith("-"):
        raise LaunchError(
            f"--sbatch_args={line!r}: must be options of sbatch, as --sbatch_args='--exclusive'"
        )
    for word in words:
        option = word.partition("=")[0]
        if option in _OURS:
            raise LaunchError(f"--sbatch_args={line!r}: {option} is set by this command: use {_OURS[option]}")
