"""Trains one run for each seed, one after the other, each in a process of its own; imports no TensorFlow.

A process of its own frees its memory and its devices at its end, and each run is an ordinary one. If the
parent ends in whatever way, the child saves and stops.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tfrecords import signals
from tfrecords.command import BAD_INPUT, INTERRUPTED, STOPPED
from tfrecords.errors import EndedEarly, InputError
from tfrecords.files.atomic import write_atomically
from trainer.config import TrainConfig
from trainer.lock import LOCK_NAME
from trainer.run import SEEDS_NAME

PARENT_VARIABLE: Final = "SHARDLIGHT_SEEDS_PARENT"  # process id of the parent, for the child
_SET_PDEATHSIG: Final = 1
_CODES: Final = {signal.SIGTERM: STOPPED, signal.SIGINT: INTERRUPTED}


def seed_folder(folder: Path, seed: int) -> Path:
    """Returns the run directory of one seed."""
    return folder / f"seed-{seed}"


def check_seeds(config: TrainConfig, seeds: Sequence[int]) -> None:
    """Refuses seeds, or a run directory, that cannot be used.

    Raises:
        InputError: they are not two or more different seeds, several workers are to train, or the directory
            holds something else.
    """
    given = f"--seeds={','.join(map(str, seeds))}"
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(f"{given}: must be two or more different seeds, as 0,1,2")
    for seed in seeds:
        config.changed(seed=seed)
    if config.strategy == "multi_worker":
        raise InputError(
            f"{given}: trains on one machine, and --strategy=multi_worker needs all workers to start each "
            f"run together; start one command for each seed with --seed=N --run_dir=RUN_DIR/seed-N"
        )
    folder = Path(config.run_dir)
    if (folder / SEEDS_NAME).exists():
        return
    if folder.is_dir() and any(not path.name.startswith((".", LOCK_NAME)) for path in folder.iterdir()):
        raise InputError(
            f"--run_dir={folder}: is not empty and holds no runs of several seeds; choose a new or empty "
            f"folder"
        )


def train_seeds(
    config: TrainConfig,
    seeds: Sequence[int],
    arguments: Sequence[str],
    *,
    command: Sequence[str],
    log: Callable[[str], None] = print,
) -> None:
    """Trains or resumes the run of each seed, in `seed_folder`; a finished run is left as it is.

    Args:
        config: of all runs, but for the seed; its `run_dir` is the folder of all.
        seeds: see `check_seeds`.
        arguments: of the command line that gave `config`.
        command: how that command is started, without arguments.
        log: called with a line before each run.

    Raises:
        InputError: as `check_seeds`; or the folder cannot be written.
        EndedEarly: a run did not end well, or a signal came; with the exit code of that run.
    """
    check_seeds(config, seeds)
    folder, began = Path(config.run_dir), time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--run_dir={folder}: cannot be written: {error.strerror}") from None
    if not (folder / SEEDS_NAME).exists():
        write_atomically(folder / SEEDS_NAME, (json.dumps({"seeds": list(seeds)}) + "\n").encode())
    for number, seed in enumerate(seeds, 1):
        own = [f"--seed={seed}", f"--run_dir={seed_folder(folder, seed)}", "--seeds="]
        if config.max_minutes:
            left = config.max_minutes - (time.monotonic() - began) / 60
            if left <= 0:
                raise EndedEarly(
                    f"--max_minutes is over before seed {seed}: run the same command again", STOPPED
                )
            own.append(f"--max_minutes={left:.4f}")
        log(f"seed {seed} ({number} of {len(seeds)}): {seed_folder(folder, seed)}")
        _run([*command, *arguments, *own], f"seed {seed}")  # of two values of a flag the last one counts


def _run(command: Sequence[str], what: str) -> None:
    """Runs a command to its end; a signal to this process goes to it, once."""
    with signals.deferred():
        process = subprocess.Popen(
            command,
            env=dict(os.environ) | {PARENT_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # this parent forwards Ctrl-C, so that the child gets it once
        )
        told = False
        try:
            while process.poll() is None:
                if not told and (number := signals.heard()):
                    process.send_signal(number)
                    told = True
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    code = process.returncode
    if code < 0:
        raise EndedEarly(f"{what}: was ended by signal {-code}", 128 - code)
    if code == BAD_INPUT:  # its message is printed already
        raise EndedEarly(f"{what}: cannot be trained, see above", code)
    if code:
        raise EndedEarly(f"{what}: ended with exit code {code}", code)
    if number := signals.heard():  # it had ended before it heard
        raise EndedEarly(signals.sentence(number), _CODES[number])


def end_with_parent() -> None:
    """In a child of `train_seeds`: makes the kernel send SIGTERM to this process when its parent ends."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if not parent:
        return
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it has ended already
        sys.exit(STOPPED)
