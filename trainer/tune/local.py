"""The workers of a search on this machine: a parent process starts and restarts them and shows the search."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tfrecords import signals
from tfrecords.command import BAD_INPUT, INTERRUPTED, STOPPED
from tfrecords.errors import EndedEarly, InputError
from trainer.tune.search import Search
from trainer.tune.show.overview import Overview
from trainer.tune.show.table import Live
from trainer.tune.state import Looker

PARENT_VARIABLE: Final = "SHARDLIGHT_TUNE_PARENT"  # process id; the worker stops when this process ends
_LOOK_SECONDS: Final = 1.0
_CODES: Final = {signal.SIGTERM: STOPPED, signal.SIGINT: INTERRUPTED}
_SOON_SECONDS: Final = 5.0  # a worker that is killed is restarted no sooner than that after its start


@dataclass
class _Local:
    """A worker on this machine."""

    number: int
    process: subprocess.Popen[bytes]
    log_file: Path
    read_from: int
    began: float

    @property
    def lost(self) -> bool:
        """Whether it was killed by a signal that it could not handle."""
        return (self.process.poll() or 0) < 0


def run_workers(search: Search, count: int, gpus: Sequence[str], max_minutes: float, live: Live) -> Overview:
    """Runs workers until the search is over and its final model is made; returns the search as it is then.

    Args:
        search: the search.
        count: number of workers.
        gpus: of this machine, as CUDA_VISIBLE_DEVICES names them. They are divided among the workers, or
            shared where there are fewer; so are the cores.
        max_minutes: minutes after which the workers save and stop; 0: never.
        live: shows the search meanwhile.

    Raises:
        EndedEarly: the workers were stopped, or the work after the last trial ended early.
        InputError: too many trials have failed.
    """
    looker = Looker(search)
    cores = sorted(os.sched_getaffinity(0))
    workers: list[_Local] = []

    def start(number: int) -> _Local:
        log_file = search.folder / "logs" / f"worker-{number}.log"
        log_file.parent.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ) | _devices(number, count, gpus)
        command = [sys.executable, "-m", "trainer.tune", "--worker", f"--search_dir={search.folder}"]
        if max_minutes:
            command.append(f"--max_minutes={max_minutes}")
        with log_file.open("ab") as file:
            os.sched_setaffinity(0, _share(cores, number, count))  # the child inherits it
            try:
                process = subprocess.Popen(
                    command,
                    env=environment | {PARENT_VARIABLE: str(os.getpid())},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # this parent forwards Ctrl-C, so that a worker gets it once
                )
            finally:
                os.sched_setaffinity(0, cores)
            return _Local(number, process, log_file, file.tell(), time.monotonic())

    with signals.deferred():
        try:
            workers += [start(number) for number in range(count)]
            told, looked = False, 0.0
            while any(worker.process.poll() is None or (worker.lost and not told) for worker in workers):
                if not told and (number := signals.heard()):
                    live.log("stopping: trials are saved")
                    for worker in workers:
                        worker.process.send_signal(number)  # a worker that has ended ignores it
                    told = True
                if time.monotonic() - looked >= _LOOK_SECONDS:
                    live.update(looker.look())
                    looked = time.monotonic()
                for place, worker in enumerate(workers):
                    if worker.lost and not told and time.monotonic() - worker.began >= _SOON_SECONDS:
                        code = worker.process.returncode
                        live.log(f"worker {worker.number}: ended by signal {-code}; it is restarted")
                        workers[place] = start(worker.number)
                time.sleep(0.1)
        finally:
            for worker in workers:
                if worker.process.poll() is None:
                    worker.process.kill()
                worker.process.wait()
    overview = looker.look()
    live.update(overview)
    _raise_for(workers)
    return overview


def _raise_for(workers: Sequence[_Local]) -> None:
    """Raises what the first worker that did not end well ended with."""
    if number := signals.heard():
        raise EndedEarly(signals.sentence(number), _CODES[number])
    for worker in workers:
        code = worker.process.returncode
        if not code:
            continue
        with worker.log_file.open("rb") as file:
            file.seek(worker.read_from)
            text = file.read().decode(errors="replace").strip()
        if code in (STOPPED, INTERRUPTED):
            raise EndedEarly(text.rpartition("\n")[2], code)
        if code == BAD_INPUT:
            raise InputError(text.rpartition("error: ")[2])
        raise EndedEarly(f"worker {worker.number}, {worker.log_file}:\n{text[-4000:]}", code)


def _share(cores: Sequence[int], number: int, count: int) -> set[int]:
    """Returns a worker's share of the cores; all cores if there are fewer cores than workers."""
    if len(cores) < count:
        return set(cores)
    return set(cores[len(cores) * number // count : len(cores) * (number + 1) // count])


def gpus_here() -> list[str]:
    """Returns the GPUs that may be used, as CUDA_VISIBLE_DEVICES names them.

    launch/devices.py counts them in the same way; `trainer` and `launch` import nothing of each other.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))]


def _devices(number: int, count: int, gpus: Sequence[str]) -> dict[str, str]:
    """Returns the environment variables that give a worker its share of the GPUs."""
    if not gpus:
        return {}
    mine = gpus[number::count] if count <= len(gpus) else [gpus[number % len(gpus)]]
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine)}
