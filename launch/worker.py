"""Runs a command as one worker of a training whose other workers run elsewhere: where ranks become TF_CONFIG.

    srun python -m launch.worker -- python -m trainer.main --strategy=multi_worker     (in a Slurm job)
    python -m launch.worker --hosts=hosts.txt --rank=0 -- python -m trainer.main --strategy=multi_worker

Who the workers are is read from TF_CONFIG if it is there, else from --hosts with --rank, else from Slurm's
environment, else from that of a Kubernetes Indexed Job (JOB_COMPLETION_INDEX with LAUNCH_PROCESSES,
LAUNCH_JOB and LAUNCH_SERVICE). All names must resolve before the command starts. In Kubernetes the command
takes this process's place; elsewhere it is a child: signals are passed on to it, and with --log_dir the
rank's log and how it ended are kept.
"""

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from absl import flags

from launch.cluster import DEFAULT_PORT, Place
from launch.command import LaunchError, run
from launch.exits import INTERRUPTED, PEER_LOST, STOPPED, exit_code, in_words
from launch.processes import Child, Children, signals_noted

_HOSTS = flags.DEFINE_string(
    "hosts",
    None,
    "File with one host a line, in the order of ranks: HOST, HOST:PORT or HOST slots=N. For schedulers other "
    "than Slurm and Kubernetes, and for MPI's host files.",
)
_RANK = flags.DEFINE_integer(
    "rank",
    None,
    "This process's place in --hosts, from 0. Default: what MPI says (OMPI_COMM_WORLD_RANK, PMI_RANK).",
    lower_bound=0,
)
_PORT = flags.DEFINE_integer(
    "port", DEFAULT_PORT, "Port of the hosts that name none, and in Kubernetes.", 1, 65535
)
_JOIN_MINUTES = flags.DEFINE_float(
    "join_minutes", 10.0, "How long the names of the other workers may take to resolve.", lower_bound=0.0
)
_LOG_DIR = flags.DEFINE_string(
    "log_dir",
    None,
    "Folder that gets rank-N.log, all that the command prints, and rank-N.json, how it ended. Default: none.",
    allow_override=True,  # absl's logging has a flag of this name that is not used here
)
_MPI_RANKS: Final = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_SAY_SECONDS: Final = 15.0


def main(command: list[str]) -> int:
    """Parses the flags and runs the command."""
    if not shutil.which(command[0]):
        raise LaunchError(f"{command[0]}: there is no such program; check the spelling, or give its path")
    place = place_of(os.environ)
    environment = dict(os.environ)
    rank = _given_rank(os.environ)
    if place is not None:
        environment["TF_CONFIG"], rank = place.tf_config, place.rank
        if missing := wait_for_names(place.hosts, 60 * _JOIN_MINUTES.value):
            _say(f"{', '.join(missing)}: did not resolve within {_JOIN_MINUTES.value:g} minutes")
            return PEER_LOST
    if "JOB_COMPLETION_INDEX" in os.environ:
        os.execvpe(command[0], command, environment)
    return run_child(
        command, environment, rank, Path(_LOG_DIR.value).expanduser() if _LOG_DIR.value else None
    )


def place_of(environment: Mapping[str, str]) -> Place | None:
    """Returns this process's place among all, None if TF_CONFIG says it already.

    Raises:
        LaunchError: nothing says it, or what says it is not understood.
    """
    if environment.get("TF_CONFIG"):
        return None
    if _HOSTS.value:
        try:
            lines = Path(_HOSTS.value).expanduser().read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LaunchError(f"--hosts={_HOSTS.value}: cannot be read: {error}") from None
        return Place.in_hosts(lines, _mpi_rank(environment), _PORT.value)
    if "SLURM_PROCID" in environment:
        return Place.in_slurm(environment)
    if "JOB_COMPLETION_INDEX" in environment:
        return Place.in_kubernetes(environment, _PORT.value)
    raise LaunchError(
        "nothing says who the workers are: neither TF_CONFIG, nor Slurm (start this with srun), nor "
        "Kubernetes (an Indexed Job); give --hosts=FILE and --rank=N"
    )


def wait_for_names(hosts: Sequence[str], seconds: float) -> list[str]:
    """Waits until all host names resolve; returns those that do not in time.

    A name server lags behind the machines that a cluster starts.
    """
    end, said = time.monotonic() + seconds, 0.0
    missing = [host for host in hosts if not _resolves(host)]
    while missing and time.monotonic() < end:
        if time.monotonic() - said >= _SAY_SECONDS:
            said = time.monotonic()
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            _say(f"waiting for the names of {', '.join(missing[:3])}{more} to resolve")
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        missing = [host for host in missing if not _resolves(host)]
    return missing


def run_child(command: Sequence[str], environment: Mapping[str, str], rank: int, log_dir: Path | None) -> int:
    """Runs the command in a session of its own, passes signals on, and returns the exit code of this one.

    Raises:
        LaunchError: the folder of logs cannot be written.
    """
    try:
        if log_dir:
            log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"--log_dir={log_dir}: cannot be made: {error.strerror}") from None
    log = log_dir / f"rank-{rank}.log" if log_dir else None
    with signals_noted() as (noted, wakeup):
        children = Children(lambda _, line: print(line, flush=True))
        began = time.time()
        try:
            if noted:
                return INTERRUPTED if noted[0] == signal.SIGINT else STOPPED
            child = children.start(rank, command, {"PYTHONUNBUFFERED": "1", **environment}, log=log)
            passed = 0
            while children.running:
                for number in noted[passed:]:
                    children.signal(number)
                passed = len(noted)
                children.wait(60.0, wakeup)
        finally:
            children.close()
    code = exit_code(child.code or 0)
    if log_dir:
        _write_end(log_dir / f"rank-{rank}.json", child, code, began)
    if child.code:
        _say(f"rank {rank} {in_words(child.code)}")
    return code


def _write_end(path: Path, child: Child, code: int, began: float) -> None:
    """Writes how a rank ended: `srun --kill-on-bad-exit` changes the codes that Slurm itself reports."""
    values = {
        "rank": child.rank,
        "code": code,
        "how": in_words(child.code or 0),
        "host": socket.gethostname(),
        "began": began,
        "ended": child.ended,
        "last_lines": list(child.last),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n")
    temporary.replace(path)


def _mpi_rank(environment: Mapping[str, str]) -> int:
    if _RANK.value is not None:
        return int(_RANK.value)
    for name in _MPI_RANKS:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    raise LaunchError(f"--hosts={_HOSTS.value}: needs --rank=N, this process's place in it, from 0")


def _given_rank(environment: Mapping[str, str]) -> int:
    """Returns the rank in a TF_CONFIG that was there before, for the names of files; 0 if it has none."""
    try:
        value = json.loads(environment.get("TF_CONFIG", ""))
        before = len(value["cluster"].get("chief", ())) if value["task"]["type"] == "worker" else 0
        return before + int(value["task"]["index"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return 0


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _say(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
