"""Runs a command as one worker of a training whose other workers run elsewhere, and sets its TF_CONFIG.

    srun python -m launch.worker -- python -m trainer.main --strategy=multi_worker     (in a Slurm job)
    python -m launch.worker --hosts=hosts.txt --rank=0 -- python -m trainer.main --strategy=multi_worker

The list of workers comes from TF_CONFIG if it is set, else from --hosts with --rank, else from Slurm's
environment, else from the environment of a Kubernetes Indexed Job (JOB_COMPLETION_INDEX with
LAUNCH_PROCESSES, LAUNCH_JOB and LAUNCH_SERVICE). The command starts after all host names resolve. On
Kubernetes it replaces this process. Elsewhere it is a child process: signals are passed on to it, and with
--log_dir its output and its end are written to files.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from absl import flags

from launch.cluster import DEFAULT_PORT, Place
from launch.command import LaunchError, define_path, run
from launch.devices import divided_gpus
from launch.exits import BAD_INPUT, INTERRUPTED, PEER_LOST, STOPPED, describe_exit, exit_code
from launch.processes import Children, collect_signals

_HOSTS = define_path(
    "hosts",
    None,
    "File that lists the hosts of all workers, one a line, in the order of ranks. HOST is one worker on "
    "--port; HOST:PORT is one worker on its own port; HOST slots=N, as in MPI's host files, is N workers on "
    "that host. Use it with schedulers other than Slurm and Kubernetes.",
)
_RANK = flags.DEFINE_integer(
    "rank",
    None,
    "Rank of this process: its position in --hosts, from 0. Default: the rank that MPI sets "
    "(OMPI_COMM_WORLD_RANK, PMI_RANK or PMIX_RANK).",
    lower_bound=0,
)
_PORT = flags.DEFINE_integer(
    "port", DEFAULT_PORT, "TCP port of the hosts in --hosts without a port, and of all pods.", 1, 65535
)
_JOIN_MINUTES = flags.DEFINE_float(
    "join_minutes",
    10.0,
    "Minutes to wait until the host names of all workers resolve. After that this worker ends with exit code "
    "76.",
    lower_bound=0.0,
)
_LOG_DIR = define_path(
    "log_dir",
    None,
    "Folder for two files of this rank: rank-N.log has all output of the command, rank-N.json has its exit "
    "code, time and last lines. Only rank 0 prints its output too. Default: no files, and each rank prints "
    "its output.",
    allow_override=True,  # absl's logging has a flag of this name that is not used here
)
_DEVICES = flags.DEFINE_integer(
    "devices_per_process",
    None,
    "Number of GPUs of each process on this machine. They are taken in the order of CUDA_VISIBLE_DEVICES, or "
    "from all GPUs if it is not set. Default: CUDA_VISIBLE_DEVICES stays unchanged.",
    lower_bound=0,
)
_MPI_RANKS: Final = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_LOCAL_RANKS: Final = ("SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
_LOG_SECONDS: Final = 15.0


def main(command: list[str]) -> int:
    """Finds this process's place among the workers and runs the command."""
    log_dir = Path(_LOG_DIR.value) if _LOG_DIR.value else None
    began = time.time()
    try:
        if not shutil.which(command[0]):
            raise LaunchError(
                f"{command[0]}: no such program on {socket.gethostname()}; check the spelling, or give its "
                f"path"
            )
        place = place_of(os.environ)
        rank = place.rank if place else _rank_in_tf_config(os.environ)
        missing: list[str] = []
        if place is not None:
            place, missing = reachable(place, 60 * _JOIN_MINUTES.value)
        environment = os.environ | ({"TF_CONFIG": place.tf_config} if place else {})
        if _DEVICES.value is not None:
            local = _local_rank(os.environ)
            mine = divided_gpus(local + 1, _DEVICES.value, os.environ)[local]
            environment["CUDA_VISIBLE_DEVICES"] = mine or ""
    except LaunchError as error:
        _write_end(log_dir, _rank_in(os.environ), BAD_INPUT, "was refused", began, str(error).splitlines())
        raise
    if missing:
        why = (
            f"{', '.join(missing)}: did not resolve within {_JOIN_MINUTES.value:g} minutes; start the "
            f"missing workers, or give a higher --join_minutes"
        )
        _log(why)
        _write_end(log_dir, rank, PEER_LOST, "found others missing", began, [why])
        return PEER_LOST
    if "JOB_COMPLETION_INDEX" in os.environ:
        os.execvpe(command[0], command, environment)
    return run_child(command, environment, rank, log_dir)


def place_of(environment: Mapping[str, str]) -> Place | None:
    """Returns this process's place among the workers; None if TF_CONFIG is set already.

    Raises:
        LaunchError: nothing lists the workers, or the list is invalid.
    """
    if environment.get("TF_CONFIG"):
        return None
    if _HOSTS.value:
        try:
            lines = Path(_HOSTS.value).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LaunchError(f"--hosts={_HOSTS.value}: cannot be read: {error}") from None
        return Place.in_hosts(lines, _mpi_rank(environment), _PORT.value)
    if "SLURM_PROCID" in environment:
        return Place.in_slurm(environment)
    if "JOB_COMPLETION_INDEX" in environment:
        return Place.in_kubernetes(environment, _PORT.value)
    raise LaunchError(
        "nothing lists the workers: TF_CONFIG is not set, and this is neither a Slurm job step (start it "
        "with srun) nor a pod of a Kubernetes Indexed Job; give --hosts=FILE and --rank=N"
    )


def reachable(place: Place, seconds: float) -> tuple[Place, list[str]]:
    """Waits until all host names resolve; returns the place and the names that do not resolve in time.

    A node name of Slurm need not be a host name: if one does not resolve, Slurm is asked for the addresses.
    """
    if "SLURM_PROCID" in os.environ and not all(_resolves(host) for host in place.hosts):
        place = place.renamed(slurm_addresses(place.hosts))
    return place, wait_for_names(place.hosts, seconds)


def slurm_addresses(nodes: Sequence[str]) -> dict[str, str]:
    """Returns the addresses of Slurm's nodes, {name: address}, without the nodes that Slurm does not know."""
    try:
        command = ["scontrol", "show", "node", "-o", ",".join(nodes)]
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return {}
    return dict(re.findall(r"^NodeName=(\S+) .*?\bNodeAddr=(\S+)", shown, re.MULTILINE))


def wait_for_names(hosts: Sequence[str], seconds: float) -> list[str]:
    """Waits until all host names resolve; returns the names that do not resolve in time.

    A name server learns of new machines some time after a cluster has started them.
    """
    end, logged = time.monotonic() + seconds, 0.0
    missing = [host for host in hosts if not _resolves(host)]
    while missing and time.monotonic() < end:
        if time.monotonic() - logged >= _LOG_SECONDS:
            logged = time.monotonic()
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            _log(f"waiting for the names of {', '.join(missing[:3])}{more} to resolve")
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        missing = [host for host in missing if not _resolves(host)]
    return missing


def run_child(command: Sequence[str], environment: Mapping[str, str], rank: int, log_dir: Path | None) -> int:
    """Runs the command in its own session, passes signals on, and returns the exit code of this process.

    Raises:
        LaunchError: the folder of the logs cannot be created.
    """
    _make(log_dir)
    log = log_dir / f"rank-{rank}.log" if log_dir else None
    with collect_signals() as (received, wakeup):
        children = Children(print_line if rank == 0 or not log else lambda *_: None)
        began = time.time()
        try:
            if received:
                code = INTERRUPTED if received[0] == signal.SIGINT else STOPPED
                _write_end(log_dir, rank, code, "was stopped before it started", began, [])
                return code
            child = children.start(rank, command, {"PYTHONUNBUFFERED": "1", **environment}, log=log)
            forwarded = 0
            while children.running:
                for number in received[forwarded:]:
                    children.signal(number)
                forwarded = len(received)
                children.wait(60.0, wakeup)
        finally:
            children.close()
    code = exit_code(child.code or 0)
    how = describe_exit(child.code or 0)
    _write_end(log_dir, rank, code, how, began, list(child.last), child.ended)
    if child.code:
        _log(f"rank {rank} {how}")
    return code


def print_line(_: int, line: str) -> None:
    """Prints a line of the command, which does not end because the reader of its output has left."""
    with suppress(OSError, ValueError):
        print(line, flush=True)


def _make(log_dir: Path | None) -> None:
    try:
        if log_dir:
            log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"--log_dir={log_dir}: cannot be created: {error.strerror}") from None


def _write_end(
    log_dir: Path | None,
    rank: int,
    code: int,
    how: str,
    began: float,
    last_lines: Sequence[str],
    ended: float | None = None,
) -> None:
    """Writes rank-N.json: how a rank ended. Slurm cannot tell: `srun --kill-on-bad-exit` changes the codes.

    The batch script of `launch.slurm` reads the file with sed, so it is one line, with time and code first.
    """
    if not log_dir:
        return
    _make(log_dir)
    values = {
        "ended": ended or time.time(),
        "code": code,
        "rank": rank,
        "how": how,
        "host": socket.gethostname(),
        "began": began,
        "last_lines": list(last_lines),
    }
    path = log_dir / f"rank-{rank}.json"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values) + "\n")
    temporary.replace(path)


def _mpi_rank(environment: Mapping[str, str]) -> int:
    if _RANK.value is not None:
        return int(_RANK.value)
    for name in _MPI_RANKS:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    raise LaunchError(f"--hosts={_HOSTS.value}: needs --rank=N, the position of this process in it, from 0")


def _rank_in_tf_config(environment: Mapping[str, str]) -> int:
    """Returns the rank in a TF_CONFIG that is set already, for file names; 0 if it has none."""
    try:
        value = json.loads(environment.get("TF_CONFIG", ""))
        before = len(value["cluster"].get("chief", ())) if value["task"]["type"] == "worker" else 0
        return before + int(value["task"]["index"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return 0


def _rank_in(environment: Mapping[str, str]) -> int:
    """Returns the rank that a scheduler sets, even if its other variables are invalid; 0 if it sets none."""
    names = ("SLURM_PROCID", "JOB_COMPLETION_INDEX", *_MPI_RANKS)
    return next((int(environment[name]) for name in names if environment.get(name, "").isdecimal()), 0)


def _local_rank(environment: Mapping[str, str]) -> int:
    for name in _LOCAL_RANKS:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    raise LaunchError(
        f"--devices_per_process={_DEVICES.value}: needs the local rank of this process, and none of "
        f"{', '.join(_LOCAL_RANKS)} is set; leave the flag out and set CUDA_VISIBLE_DEVICES instead"
    )


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _log(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
