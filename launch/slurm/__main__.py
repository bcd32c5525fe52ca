r"""Submits a command as a batch job of Slurm; the job continues by itself after a stop.

    python -m launch.slurm --nodes=2 --time=60 -- \
        python -m trainer.main --strategy=multi_worker --data=DATA --run_dir=RUN
    python -m launch.slurm --array=0-7 -- python -m tfrecords.convert --images=IMAGES --out=DATA \
        '--task=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT'
    python -m launch.slurm status JOB        shows the state of a job
    python -m launch.slurm logs JOB          prints the output of its tasks; --follow, --rank=N
    python -m launch.slurm cancel JOB        ends a job: its tasks save, and it does not continue

The command writes a batch script, submits it, and keeps it in launch/JOB with the logs of all tasks;
--dry_run prints it. Standard output has the job's number alone, so that JOB=$(python -m launch.slurm ...)
works. Before the time limit and at a preemption the tasks are told to save. A job whose tasks end with code
75 is requeued and continues. If a task is lost (code 76, or a signal), all tasks are started again at once.
Everything after the first `--` is the command; it is passed on unchanged, except that $SLURM_ARRAY_TASK_ID
and the like are replaced.
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

_NODES = flags.DEFINE_integer("nodes", 1, "Number of machines.", lower_bound=1)
_TASKS = flags.DEFINE_integer(
    "tasks_per_node", 1, "Number of processes that run the command on each machine.", lower_bound=1
)
_GPUS = flags.DEFINE_integer(
    "gpus_per_node", 0, "Number of GPUs of each machine. Its tasks share them evenly.", lower_bound=0
)
_CPUS = flags.DEFINE_integer(
    "cpus_per_task", None, "Number of CPU cores of each task. Default: what Slurm assigns.", lower_bound=1
)
_MEM = flags.DEFINE_string("mem", None, "Memory of each machine, in Slurm's notation: 64G is 64 GB.")
_TIME = flags.DEFINE_string(
    "time",
    None,
    "Time limit of one start, in Slurm's notation: 90 is 90 minutes, 4:00:00 is four hours, 1-12 is one day "
    "and 12 hours. A job that is not done by then saves, is requeued and continues. Default: the limit of "
    "the partition.",
)
_PARTITION = flags.DEFINE_string(
    "partition", None, "Partition of the job. Default: the one that the site chooses."
)
_ACCOUNT = flags.DEFINE_string("account", None, "Account that is charged. Default: your default account.")
_QOS = flags.DEFINE_string("qos", None, "Quality of service (QOS). Default: your default QOS.")
_CONSTRAINT = flags.DEFINE_string(
    "constraint", None, "Features that each machine must have, in Slurm's notation: 'h100&ib' is both."
)
_ARRAY = flags.DEFINE_string(
    "array",
    None,
    "Runs the job once for each of these indices: 0-7 is eight jobs, 0-99%10 is a hundred jobs, ten at a "
    "time.",
)
_AFTER = flags.DEFINE_list(
    "after",
    [],
    "Numbers of jobs, with commas between them, that must succeed before this job starts. If one of them "
    "fails, this job is cancelled.",
)
_GRACE = flags.DEFINE_integer(
    "grace",
    120,
    "Seconds before the time limit at which the tasks are told to save (SIGTERM). Slurm may do it a minute "
    "earlier. With 0 they are not told.",
    lower_bound=0,
    upper_bound=65535,
)
_MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts",
    3,
    "How many times in a row the job may start again without a new checkpoint in between. A start after a "
    "new checkpoint does not count.",
    lower_bound=0,
)
_RESUBMIT = flags.DEFINE_bool(
    "resubmit",
    False,
    "Submits the job anew instead of requeueing it, for sites that do not allow a requeue. It continues "
    "under a new number.",
)
_ENV = flags.DEFINE_multi_string(
    "env",
    [],
    "NAME=VALUE: sets a variable in the environment of the command. The variables that your shell exports "
    "are there anyway",
)
_SETUP = flags.DEFINE_multi_string(
    "setup",
    [],
    "A line of shell that runs before the command, as --setup='module load cuda'",
)
_LOG_DIR = define_path(
    "log_dir",
    None,
    "Folder of the job: its script, and rank-N.log and rank-N.json of each task. It must be on a disk that "
    "all nodes see. Default: launch/JOB.",
    allow_override=True,  # absl's logging has a flag of this name that is not used here
)
_SBATCH_ARGS = flags.DEFINE_multi_string(
    "sbatch_args",
    [],
    "Further options of sbatch, as --sbatch_args='--exclusive --mail-type=END'",
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Prints the batch script and submits nothing.")
_TEST_ONLY = flags.DEFINE_bool(
    "test_only", False, "Asks Slurm if, when and where the job would start, and submits nothing."
)
_FOLLOW = flags.DEFINE_bool("follow", False, "For logs: prints new lines until the job has ended.")
_RANK = flags.DEFINE_integer("rank", None, "For logs: prints the log of this rank only.", lower_bound=0)

# Subcommands of Slurm's scontrol, which a user may look for here.
_OF_SCONTROL: Final = ("hold", "release", "requeue", "requeuehold", "suspend", "resume", "top", "update")


def main(command: list[str]) -> int:
    """Turns the flags into a job and submits it."""
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


def manage_job(words: list[str]) -> int:
    """Runs `status JOB`, `logs JOB` or `cancel JOB` on a job that exists."""
    verb, *rest = words
    if verb in _OF_SCONTROL:
        raise LaunchError(f"{verb}: is a command of Slurm; run\n  scontrol {verb} {' '.join(rest) or 'JOB'}")
    if verb not in _VERBS or len(rest) != 1:
        raise LaunchError(
            f"{shlex.join(words)}: is no command; it must be status JOB, logs JOB or cancel JOB, or flags, "
            f"then `--`, then the command to run"
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
    run(main, without_command=manage_job)
