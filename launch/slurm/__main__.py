r"""Submits a command as a batch job of Slurm, on one machine or many; it goes on by itself after each stop.

    python -m launch.slurm --nodes=2 --time=60 -- \
        python -m trainer.main --strategy=multi_worker --data=DATA --run_dir=RUN
    python -m launch.slurm --array=0-7 -- python -m tfrecords.convert --images=IMAGES --out=DATA \
        '--task=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT'
    python -m launch.slurm status JOB        what became of it
    python -m launch.slurm logs JOB          what its tasks print; --follow, --rank=N
    python -m launch.slurm cancel JOB        ends it: it saves, and does not go on

A batch script is made, submitted, and kept in launch/JOB with the logs of all tasks; --dry_run prints it.
The job's number alone stands on the output, so that JOB=$(python -m launch.slurm ...) works. The time limit
and preemption tell the tasks to save; a job whose tasks leave with code 75 is requeued and goes on. If a task
is lost (76, or ended by a signal), all are started again at once. Everything after the first `--` is the
command, untouched, but for $SLURM_ARRAY_TASK_ID and its like, which are filled in.
"""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from absl import flags

from launch.command import LaunchError, define_path, parse_environment, run
from launch.slurm import cancelling, logs, status, submission
from launch.slurm.folder import find
from launch.slurm.options import Job
from launch.slurm.script import render

_NODES = flags.DEFINE_integer("nodes", 1, "How many machines.", lower_bound=1)
_TASKS = flags.DEFINE_integer(
    "tasks_per_node", 1, "How many processes run the command on each machine.", lower_bound=1
)
_GPUS = flags.DEFINE_integer(
    "gpus_per_node", 0, "GPUs of each machine, divided evenly among its tasks.", lower_bound=0
)
_CPUS = flags.DEFINE_integer(
    "cpus_per_task", None, "CPU cores of each task. Default: what Slurm gives.", lower_bound=1
)
_MEM = flags.DEFINE_string("mem", None, "Memory of each machine, as Slurm writes it: 64G.")
_TIME = flags.DEFINE_string(
    "time",
    None,
    "Time limit of one start, as Slurm writes it: minutes, HH:MM:SS or DAYS-HH. What is not done by then "
    "saves, is requeued and goes on. Default: the partition's.",
)
_PARTITION = flags.DEFINE_string("partition", None, "Partition. Default: the site's.")
_ACCOUNT = flags.DEFINE_string("account", None, "Account that pays. Default: yours.")
_QOS = flags.DEFINE_string("qos", None, "Quality of service. Default: yours.")
_CONSTRAINT = flags.DEFINE_string("constraint", None, "Features that the machines must have: 'h100&ib'.")
_ARRAY = flags.DEFINE_string(
    "array", None, "Runs the job once for each index: 0-7, or 0-99%10 for ten at a time."
)
_AFTER = flags.DEFINE_list(
    "after",
    [],
    "Numbers of jobs that must have succeeded before this one starts; if one fails, this one is cancelled.",
)
_GRACE = flags.DEFINE_integer(
    "grace",
    120,
    "Seconds before the time limit at which the tasks are told to save. Slurm may tell them a minute early. "
    "0: they are not told.",
    lower_bound=0,
    upper_bound=65535,
)
_MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts",
    3,
    "How many starts in a row may follow one that saved nothing new. A start after a later checkpoint does "
    "not count.",
    lower_bound=0,
)
_RESUBMIT = flags.DEFINE_bool(
    "resubmit",
    False,
    "A job that goes on is submitted anew instead of requeued: for sites that do not allow a requeue.",
)
_ENV = flags.DEFINE_multi_string(
    "env",
    [],
    "NAME=VALUE for the command's environment; repeat it for more. What your shell exports is there.",
)
_SETUP = flags.DEFINE_multi_string(
    "setup", [], "Shell lines before the command: --setup='module load cuda'; repeat it for more."
)
_LOG_DIR = define_path(
    "log_dir",
    None,
    "Folder of the job's state: its script, rank-N.log and rank-N.json. It must be on a disk that all nodes "
    "see. Default: launch/JOB.",
    allow_override=True,  # absl's logging has a flag of this name that is not used here
)
_SBATCH_ARGS = flags.DEFINE_multi_string(
    "sbatch_args",
    [],
    "Further options of sbatch, as --sbatch_args='--exclusive --mail-type=END'; repeatable.",
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Prints the batch script and submits nothing.")
_TEST_ONLY = flags.DEFINE_bool(
    "test_only", False, "Asks Slurm whether, when and where the job would start, and submits nothing."
)
_FOLLOW = flags.DEFINE_bool("follow", False, "Of logs: goes on until the job has ended.")
_RANK = flags.DEFINE_integer("rank", None, "Of logs: prints those of one task only.", lower_bound=0)

# Words of Slurm's own command for jobs, which does more than this one.
_OF_SCONTROL: Final = ("hold", "release", "requeue", "requeuehold", "suspend", "resume", "top", "update")


def main(command: list[str]) -> int:
    """Parses the flags, makes a job of them and submits it."""
    job = Job(
        command=tuple(command),
        folder=Path.cwd(),
        python=sys.executable,
        nodes=_NODES.value,
        tasks_per_node=_TASKS.value,
        gpus_per_node=_GPUS.value,
        cpus_per_task=_CPUS.value,
        mem=_MEM.value,
        time=_TIME.value,
        partition=_PARTITION.value,
        account=_ACCOUNT.value,
        qos=_QOS.value,
        constraint=_CONSTRAINT.value,
        array=_ARRAY.value,
        after=tuple(_number(text, "--after") for text in _AFTER.value),
        grace=_GRACE.value,
        max_restarts=_MAX_RESTARTS.value,
        resubmit=_RESUBMIT.value,
        environment=parse_environment(_ENV.value),
        setup=tuple(_SETUP.value),
        log_dir=_log_dir(),
        sbatch_args=tuple(_SBATCH_ARGS.value),
    )
    made_by = shlex.join(["python", "-m", "launch.slurm", *sys.argv[1:]])
    if _DRY_RUN.value:
        print(render(job, made_by), end="")
    elif _TEST_ONLY.value:
        print(submission.try_out(job, made_by))
    else:
        number = submission.submit(job, made_by)
        print(number, flush=True)
        print(submission.explain(job, number), file=sys.stderr)
    return 0


def of_a_job(words: list[str]) -> int:
    """Does what is asked of a job that is there: status, logs or cancel."""
    verb, *rest = words
    if verb in _OF_SCONTROL:
        raise LaunchError(f"{verb}: Slurm does this; type\n  scontrol {verb} {' '.join(rest) or 'JOB'}")
    if verb not in _VERBS or len(rest) != 1:
        raise LaunchError(
            f"{shlex.join(words)}: is not understood; it must be status JOB, logs JOB or cancel JOB, or "
            f"flags, then `--`, then the command to run"
        )
    return _VERBS[verb](_number(rest[0], verb))


def _status(number: int) -> int:
    print(status.describe(find(number, _log_dir())))
    return 0


def _logs(number: int) -> int:
    logs.show(
        find(number, _log_dir()), _RANK.value, follow=_FOLLOW.value, out=lambda line: print(line, flush=True)
    )
    return 0


def _cancel(number: int) -> int:
    print(cancelling.cancel(find(number, _log_dir())))
    return 0


_VERBS: Final[dict[str, Callable[[int], int]]] = {"status": _status, "logs": _logs, "cancel": _cancel}


def _number(text: str, of: str) -> int:
    if not text.isdecimal():
        raise LaunchError(f"{of} {text}: must be the number of a job")
    return int(text)


def _log_dir() -> Path | None:
    return Path(_LOG_DIR.value).absolute() if _LOG_DIR.value else None


if __name__ == "__main__":
    run(main, without_command=of_a_job)
