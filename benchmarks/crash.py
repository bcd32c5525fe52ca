"""Proof: a conversion that is killed at any moment ends, resumed, in the bytes of one that was not.

    python benchmarks/crash.py --images=IMAGE_FOLDER --kills=50

Each trial starts the real command, `python -m tfrecords.convert`, as a process group of its own and
kills the group with SIGKILL at a moment drawn from the seed; the same command again goes on, and is
killed again with probability `--again`, and so on until one is let through. Moments are even over the
time that the work should still take; one in four aims at the end instead: it waits until every
shard has its name and kills within the next milliseconds, among the last files and the clean-up. A
command that ends before its moment is no kill. At the end of a trial every output byte must be that of the
uninterrupted conversion, nothing else may be there, and every shard that was whole at a kill must be
the same file still. Exit code 2 if not.

A drawn moment is a delay, so which shards it meets depends on the machine; the promise does not.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from tfrecords.command import run
from tfrecords.errors import InputError
from tfrecords.manifest import MANIFEST_NAME, is_shard

_IMAGES = flags.DEFINE_string("images", None, "Class folders of images.", required=True)
_KILLS = flags.DEFINE_integer("kills", 50, "SIGKILLs, over all trials.", lower_bound=1)
_AGAIN = flags.DEFINE_float("again", 0.5, "Probability that what goes on is killed too.", 0, 0.95)
_SIZE = flags.DEFINE_string("size", "180", "Of the conversion.")
_SHARD_SIZE = flags.DEFINE_string("shard_size", "8MB", "Of the conversion; small, for many shards.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Of the conversion.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")

_AT_THE_END = 0.25  # share of the moments that aim behind the last shard
_POLL_SECONDS = 0.001


@dataclass(frozen=True)
class Kill:
    """One SIGKILL: seconds after the start, and what it met.

    Attributes:
        trial: number of the trial.
        seconds: since the command's start.
        whole: shards that had their final name.
        open: shards that were being written.
        sealed: whether the manifest was there.
    """

    trial: int
    seconds: float
    whole: int
    open: int
    sealed: bool


def main(_: list[str]) -> None:
    """Runs the trials and prints what they met."""
    chance = random.Random(_SEED.value)
    kills: list[Kill] = []
    kept = 0
    with tempfile.TemporaryDirectory() as folder:
        reference, out = Path(folder) / "uninterrupted", Path(folder) / "killed"
        started = time.monotonic()
        _finish(_start(reference))
        seconds = time.monotonic() - started
        expected = _content(reference)
        shards = sum(map(is_shard, expected))
        size = sum(path.stat().st_size for path in reference.iterdir())
        print(
            f"hardware: {os.cpu_count()} cores; uninterrupted: {shards} shards, {size / 1e6:,.1f} MB, "
            f"{seconds:.1f} s\n"
            f"{'trial':>5}{'kill':>6}{'after s':>9}{'whole':>7}{'open':>6}  manifest",
            flush=True,
        )
        trial = 0
        while len(kills) < _KILLS.value:
            trial += 1
            whole: dict[str, tuple[int, int]] = {}
            going_on = True
            while going_on and len(kills) < _KILLS.value:
                kill = _killed(out, trial, chance, seconds, shards)
                if kill is None:
                    break
                kills.append(kill)
                print(
                    f"{trial:5}{len(kills):6}{kill.seconds:9.2f}{kill.whole:7}{kill.open:6}  "
                    f"{'there' if kill.sealed else '-'}",
                    flush=True,
                )
                _refuse_redone(whole, out, f"trial {trial}")
                whole = _stamps(out)
                going_on = chance.random() < _AGAIN.value
            _finish(_start(out))
            _refuse_redone(whole, out, f"trial {trial}")
            _refuse_difference(expected, _content(out), f"trial {trial}")
            kept += len(whole)
            shutil.rmtree(out)
    moments, lost = [kill.seconds for kill in kills], sum(kill.open for kill in kills)
    behind = sum(kill.sealed for kill in kills)
    between = sum(kill.whole == shards and not kill.sealed for kill in kills)
    print(
        f"{len(kills)} kills in {trial} trials (seed {_SEED.value}), from {min(moments):.2f} to "
        f"{max(moments):.2f} s after the start: {sum(kill.whole == 0 for kill in kills)} before the first "
        f"shard, {between} between the last shard and the manifest, {behind} behind the manifest\n"
        f"shards: {kept} whole ones found and kept, 0 of them written again; {lost} open ones lost "
        f"({lost / len(kills):.1f} a kill)\n"
        f"all {trial} outputs are byte-identical to the uninterrupted one"
    )


def _start(out: Path) -> subprocess.Popen[bytes]:
    """Starts the conversion in a session, and so a process group, of its own."""
    command = [
        *(sys.executable, "-m", "tfrecords.convert", f"--images={_IMAGES.value}", f"--out={out}"),
        *(f"--size={_SIZE.value}", f"--shard_size={_SHARD_SIZE.value}", f"--workers={_WORKERS.value}"),
        "--name=killed",
    ]
    with (out.parent / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _finish(process: subprocess.Popen[bytes]) -> None:
    if code := process.wait():
        _kill(process)
        raise InputError(f"the conversion ended with {code}: see what it says when run by hand")


def _killed(out: Path, trial: int, chance: random.Random, seconds: float, shards: int) -> Kill | None:
    """Starts the conversion and kills it, or returns None if it ended before its moment."""
    at_the_end, share, tail = chance.random() < _AT_THE_END, chance.random(), chance.random() * 0.05
    left = 1 - len(_stamps(out)) / shards  # of the work; starting up takes its time in any case
    at_the_end = at_the_end and left > 0
    process = _start(out)
    started = time.monotonic()
    if at_the_end:
        _wait(process, lambda: len(_stamps(out)) == shards)
        time.sleep(tail)
    else:
        moment = started + share * (0.1 + 0.9 * left) * seconds
        _wait(process, lambda: time.monotonic() >= moment)
    if process.poll() is not None:
        _finish(process)
        return None
    after = time.monotonic() - started
    _kill(process)
    names = [path.name for path in out.iterdir()] if out.exists() else []
    return Kill(
        trial,
        after,
        whole=sum(map(is_shard, names)),
        open=sum(name.startswith(".") and ".tfrecord-" in name and ".result." not in name for name in names),
        sealed=MANIFEST_NAME in names,
    )


def _wait(process: subprocess.Popen[bytes], moment: Callable[[], bool]) -> None:
    while process.poll() is None and not moment():
        time.sleep(_POLL_SECONDS)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the command and its workers, all at once, and waits until none is left."""
    while True:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # its own group: `_start` made it
        except ProcessLookupError:
            break
        process.poll()  # a zombie still counts as a member
        time.sleep(_POLL_SECONDS)
    process.wait()


def _content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def _stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Returns (inode, modification time) of the shards with their final name."""
    if not out.exists():
        return {}
    found = {path.name: path.stat() for path in out.iterdir() if is_shard(path.name)}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def _refuse_redone(before: dict[str, tuple[int, int]], out: Path, where: str) -> None:
    now = _stamps(out)
    if redone := [name for name, stamp in before.items() if now.get(name) != stamp]:
        raise InputError(f"{where}: {len(redone)} whole shards were written again, first {redone[0]}")


def _refuse_difference(expected: dict[str, bytes], found: dict[str, bytes], where: str) -> None:
    differ = [
        name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)
    ]
    if differ:
        raise InputError(
            f"{where}: {len(differ)} files are not those of the uninterrupted run: {', '.join(differ)}"
        )


if __name__ == "__main__":
    run(main)
