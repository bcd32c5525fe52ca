"""Runs a command in several processes on this machine, as the workers of one training.

    python -m launch.local --processes=2 -- python -m trainer.main --strategy=multi_worker --data=DATA

Each process gets TF_CONFIG, its share of the GPUs and its share of the CPU cores. If a process fails, the
launcher stops the others and returns its exit code. If a process is lost (killed or frozen), the launcher
starts all of them again, and they continue from their last checkpoint. Everything after the first `--` is
the command; it is passed on unchanged.
"""

import os
import random
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from absl import flags

from launch.cluster import FIRST_PORT, LAST_PORT, Place, shares
from launch.command import LaunchError, define_path, run
from launch.devices import divided_gpus
from launch.exits import INTERRUPTED, STOPPED, describe_exit, exit_code, starts_again
from launch.processes import Child, Children, Output, collect_signals

_PROCESSES = flags.DEFINE_integer(
    "processes", None, "Number of processes that run the command.", lower_bound=1, required=True
)
_DEVICES = flags.DEFINE_integer(
    "devices_per_process",
    None,
    "Number of GPUs of each process. They are taken from CUDA_VISIBLE_DEVICES, or from all GPUs of this "
    "machine if it is not set. Default: all GPUs are divided evenly; if CUDA_VISIBLE_DEVICES is set, each "
    "process gets it unchanged.",
    lower_bound=0,
)
_MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts",
    3,
    "How many times all processes are started again after one was lost. A process is lost if a signal ended "
    "it, or if it reports by exit code 76 that another one was lost. Every other exit code ends the launch "
    "with that code.",
    lower_bound=0,
)
_LOG_DIR = define_path(
    "log_dir",
    None,
    "Folder for the logs. rank-N.log has all output of process N. Default: launch/local-TIME.",
    allow_override=True,  # absl's logging has a flag of this name that is not used here
)
_GRACE = flags.DEFINE_float(
    "grace",
    60.0,
    "Seconds that the other processes have to save and end after one has failed. After that they are killed.",
    lower_bound=0.0,
)
_SHOWN_LINES: Final = 8  # of the output of the process that failed first


@dataclass(frozen=True)
class Launch:
    """The options of one launch.

    Attributes:
        command: what each process runs.
        processes: number of processes.
        log_dir: folder of their logs.
        devices: CUDA_VISIBLE_DEVICES of each process; None leaves it unchanged.
        cores: CPU cores of each process.
        max_restarts: how many times all processes may be started again.
        grace: seconds between SIGTERM and SIGKILL.
    """

    command: tuple[str, ...]
    processes: int
    log_dir: Path
    devices: tuple[str | None, ...]
    cores: tuple[tuple[int, ...], ...]
    max_restarts: int
    grace: float


def main(command: list[str]) -> int:
    """Turns the flags into options and launches."""
    if not shutil.which(command[0]):
        raise LaunchError(f"{command[0]}: no such program; check the spelling, or give its path")
    count = _PROCESSES.value
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return launch(
        Launch(
            tuple(command),
            count,
            Path(_LOG_DIR.value or f"launch/local-{stamp}-{os.getpid()}"),
            divided_gpus(count, _DEVICES.value, os.environ),
            tuple(
                tuple(map(int, share))
                for share in shares(sorted(map(str, os.sched_getaffinity(0)), key=int), count)
            ),
            _MAX_RESTARTS.value,
            _GRACE.value,
        )
    )


def launch(options: Launch) -> int:
    """Runs the processes until all have ended, and returns the exit code of the launcher.

    Raises:
        LaunchError: the folder of the logs cannot be made.
    """
    try:
        options.log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"--log_dir={options.log_dir}: cannot be created: {error.strerror}") from None
    _log(f"{options.processes} processes, logs: {options.log_dir}/rank-N.log")
    restarts = 0
    with collect_signals() as (received, wakeup):
        while True:
            ended = _run_once(options, received, wakeup)
            if len(ended) < options.processes:  # a signal came before all were started
                return INTERRUPTED if received[0] == signal.SIGINT else STOPPED
            failed = [child for child in ended if child.code]
            if not failed:
                return 0
            cause = min(failed, key=lambda child: child.ended)
            code = cause.code or 0
            lines = "".join(f"\n  {line}" for line in list(cause.last)[-_SHOWN_LINES:])
            first = ", before the others" * (options.processes > 1)
            _log(f"rank {cause.rank} {describe_exit(code)}{first}{'; its last lines:' * bool(lines)}{lines}")
            if received or not starts_again(code):
                return exit_code(code)
            if restarts == options.max_restarts:
                _log(f"not started again after {restarts} restarts (--max_restarts={options.max_restarts})")
                return exit_code(code)
            restarts += 1
            _log(f"restart {restarts} of {options.max_restarts}")


def _run_once(options: Launch, received: list[signal.Signals], wakeup: int) -> list[Child]:
    """Starts all processes and waits until all have ended.

    Passes signals on. After the first failure it stops the other processes.
    """
    children = Children(Output())
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(options.processes))
    forwarded, stopping_since = 0, None
    try:
        for rank in range(options.processes):
            if received:
                break
            environment = {
                "PYTHONUNBUFFERED": "1",
                **os.environ,
                "TF_CONFIG": Place(addresses, rank).tf_config,
            }
            devices = options.devices[rank]
            if devices is not None:
                environment["CUDA_VISIBLE_DEVICES"] = devices
            children.start(
                rank,
                options.command,
                environment,
                log=options.log_dir / f"rank-{rank}.log",
                cores=options.cores[rank],
            )
        while children.running:
            for number in received[forwarded:]:
                children.signal(number)
            forwarded = len(received)
            children.wait(0.2 if stopping_since else 60.0, wakeup)
            failed = [child for child in children.all if child.code]
            if failed and children.running and not received:
                now = time.monotonic()
                if stopping_since is None:
                    stopping_since = now
                    children.signal(signal.SIGTERM)
                elif now - stopping_since >= options.grace:
                    children.signal(signal.SIGKILL)
    finally:
        children.close()
    return children.all


def free_ports(count: int) -> list[int]:
    """Returns ports that are free now, outside the range that Linux uses for outgoing connections.

    Raises:
        LaunchError: too few ports are free.
    """
    candidates = list(range(FIRST_PORT, LAST_PORT + 1))
    random.SystemRandom().shuffle(candidates)
    found: list[int] = []
    for port in candidates:
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    if len(found) < count:
        raise LaunchError(f"--processes={count}: only {len(found)} ports are free; start fewer processes")
    return found


def _log(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
