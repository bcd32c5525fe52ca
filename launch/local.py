"""Starts a command in several processes on this machine, as the workers of one training.

    python -m launch.local --processes=2 -- python -m trainer.main --strategy=multi_worker --data=DATA

Each process gets TF_CONFIG, its share of the GPUs and of the CPU cores. If one fails, all others are stopped
and its exit code is returned; if one is lost (killed, frozen), all are started again and go on where they
were saved. Everything after the first `--` is the command, untouched.
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
from launch.exits import INTERRUPTED, STOPPED, exit_code, in_words, starts_again
from launch.processes import Child, Children, Output, signals_noted

_PROCESSES = flags.DEFINE_integer(
    "processes", None, "How many processes run the command.", lower_bound=1, required=True
)
_DEVICES = flags.DEFINE_integer(
    "devices_per_process",
    None,
    "GPUs of each process, from those in CUDA_VISIBLE_DEVICES, or from all of this machine. Default: all are "
    "divided evenly, unless CUDA_VISIBLE_DEVICES is set: then each process gets it as it is.",
    lower_bound=0,
)
_MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts",
    3,
    "How often all processes are started again after one was lost: it was ended by a signal, or says by exit "
    "code 76 that another one was lost. Every other code ends the launch with that code.",
    lower_bound=0,
)
_LOG_DIR = define_path(
    "log_dir",
    None,
    "Folder that gets rank-N.log, all that process N prints. Default: launch/local-TIME.",
    allow_override=True,  # absl's logging has a flag of this name that is not used here
)
_GRACE = flags.DEFINE_float(
    "grace",
    60.0,
    "Seconds that the other processes have to save and leave after one has failed; then they are killed.",
    lower_bound=0.0,
)
_QUIET_LINES: Final = 8  # of the process that failed first, shown at the end


@dataclass(frozen=True)
class Launch:
    """What is to be started, how often.

    Attributes:
        command: what each process runs.
        processes: how many.
        log_dir: folder of their logs.
        devices: of each process the value of CUDA_VISIBLE_DEVICES; None leaves it as it is.
        cores: of each process.
        max_restarts: of all processes together.
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
    """Parses the flags and launches."""
    if not shutil.which(command[0]):
        raise LaunchError(f"{command[0]}: there is no such program; check the spelling, or give its path")
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
    """Runs the processes until all are done, and returns the exit code of this command."""
    try:
        options.log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"--log_dir={options.log_dir}: cannot be made: {error.strerror}") from None
    _log(f"{options.processes} processes, logs: {options.log_dir}/rank-N.log")
    restarts = 0
    with signals_noted() as (noted, wakeup):
        while True:
            ended = _run_once(options, noted, wakeup)
            if len(ended) < options.processes:  # a signal came before all were started
                return INTERRUPTED if noted[0] == signal.SIGINT else STOPPED
            failed = [child for child in ended if child.code]
            if not failed:
                return 0
            cause = min(failed, key=lambda child: child.ended)
            code = cause.code or 0
            lines = "".join(f"\n  {line}" for line in list(cause.last)[-_QUIET_LINES:])
            _log(f"rank {cause.rank} {in_words(code)}{', as the first' * (options.processes > 1)}:{lines}")
            if noted or not starts_again(code):
                return exit_code(code)
            if restarts == options.max_restarts:
                _log(f"not started again: {restarts} restarts were allowed (--max_restarts)")
                return exit_code(code)
            restarts += 1
            _log(f"restart {restarts} of {options.max_restarts}")


def _run_once(options: Launch, noted: list[signal.Signals], wakeup: int) -> list[Child]:
    """Starts all processes and waits for their ends; of those that follow a signal or a failure too."""
    children = Children(Output())
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(options.processes))
    passed, stopping_since = 0, None
    try:
        for rank in range(options.processes):
            if noted:
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
            for number in noted[passed:]:
                children.signal(number)
            passed = len(noted)
            children.wait(0.2 if stopping_since else 60.0, wakeup)
            failed = [child for child in children.all if child.code]
            if failed and children.running and not noted:
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
    """Returns ports that are free now, outside those that Linux gives to outgoing connections.

    Raises:
        LaunchError: there are not so many.
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
        raise LaunchError(f"--processes={count}: only {len(found)} ports are free")
    return found


def _log(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
