"""The options of a batch job, checked before Slurm sees them."""

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
# Options of sbatch that this command sets itself: {option: flag to use instead}.
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
        command: what each task runs, unchanged.
        folder: working directory of the job, an absolute path.
        python: interpreter of `launch.worker`, an absolute path.
        nodes: number of machines.
        tasks_per_node: number of processes on each machine.
        gpus_per_node: GPUs of each machine; its tasks share them.
        cpus_per_task: CPU cores of each task; None leaves it to Slurm.
        mem: memory of each machine in Slurm's notation, `64G`.
        time: time limit in Slurm's notation, minutes or `1-12:00:00`.
        partition: partition of the job.
        account: account that is charged.
        qos: quality of service.
        constraint: features that each machine must have.
        array: indices of an array, `0-7` or `0-99%10`.
        after: numbers of jobs that must succeed before this one starts.
        grace: seconds before the time limit at which the tasks are told to save.
        max_restarts: starts in a row that may follow a start that saved nothing new.
        resubmit: whether the job is submitted anew instead of requeued.
        environment: NAME, VALUE pairs for the command.
        setup: lines of shell that run before the command.
        log_dir: folder of the job, an absolute path; None: launch/JOBID in `folder`.
        sbatch_args: further options of sbatch, each a line of the script.
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
                f"--nodes={self.nodes} --tasks_per_node={self.tasks_per_node}: {self.processes} processes "
                f"need a port each, and there are {LAST_PORT - FIRST_PORT + 1}; give fewer"
            )
        if self.gpus_per_node % self.tasks_per_node:
            raise LaunchError(
                f"--gpus_per_node={self.gpus_per_node}: must be a multiple of --tasks_per_node="
                f"{self.tasks_per_node}, so that all tasks get the same number of GPUs"
            )
        if self.array is not None and not _ARRAY.fullmatch(self.array):
            raise LaunchError(f"--array={self.array}: must be as 0-7, 0-99%10 or 1,3,5")
        if self.array is not None and self.resubmit:
            raise LaunchError(
                "--resubmit: does not work with --array, because a task that is submitted alone does not "
                "know the number of tasks; leave one of the two flags out"
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
        """Number of all processes of the job."""
        return self.nodes * self.tasks_per_node

    @property
    def name(self) -> str:
        """A short name: MODULE if the command is `python -m MODULE`, else the name of the program."""
        words = list(self.command)
        if "-m" in words[:-1]:
            return words[words.index("-m") + 1]
        return Path(words[0]).name


def seconds(time: str) -> int:
    """Returns a time limit in seconds.

    Raises:
        LaunchError: the text has none of Slurm's forms, or the time is 0.
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
        raise LaunchError(
            f"--sbatch_args={line!r}: cannot be split into words: {error}; check the quotes"
        ) from None
    if "\n" in line or not words or not words[0].startswith("-"):
        raise LaunchError(
            f"--sbatch_args={line!r}: must be options of sbatch, as --sbatch_args='--exclusive'"
        )
    for word in words:
        option = word.partition("=")[0]
        if option in _OURS:
            raise LaunchError(f"--sbatch_args={line!r}: {option} is set by this command; use {_OURS[option]}")
