"""Prints the logs of a job from its folder, and follows them until the job has ended."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from launch.command import LaunchError
from launch.slurm.commands import ENDED_STATES, show_job
from launch.slurm.folder import BATCH_LOG, JobFolder

_READ_SECONDS: Final = 0.5  # between two looks at the logs
_ASK_SECONDS: Final = 30.0  # between two questions to Slurm


def show(folder: JobFolder, rank: int | None, *, follow: bool, out: Callable[[str], None]) -> None:
    """Prints the logs of all ranks, or of one rank; with several ranks each line starts with its rank.

    Args:
        folder: folder of the job.
        rank: the only rank to print; None: all ranks.
        follow: whether to print new lines until the job has ended.
        out: gets each line.

    Raises:
        LaunchError: the job has no such rank.
    """
    if rank is not None and not 0 <= rank < folder.processes:
        raise LaunchError(f"--rank={rank}: the job has the ranks 0 to {folder.processes - 1}")
    read: dict[Path, _Tail] = {}
    asked = time.monotonic()
    if follow and not _logs(folder, rank):
        print(f"job {folder.current} has printed nothing yet; Ctrl-C ends this, not the job", file=sys.stderr)
    while True:
        # Asked before the logs are read for the last time, so that no line is missed.
        over = follow and all(part.has_ended for part in folder.parts)
        if follow and not over and time.monotonic() - asked >= _ASK_SECONDS:
            asked = time.monotonic()
            over = _slurm_says_over(folder)
        for prefix, path in _logs(folder, rank):
            tail = read.setdefault(path, _Tail(path))
            for line in tail.lines():
                out(f"{prefix}{line}")
        if not follow or over:
            break
        time.sleep(_READ_SECONDS)
    for prefix, path in _logs(folder, rank):
        if path in read and (rest := read[path].rest):
            out(f"{prefix}{rest.decode(errors='replace')}")
    if not any(tail.at for tail in read.values()):
        print(
            f"nothing was printed; messages of Slurm and the script: {folder.parts[0].folder / BATCH_LOG}",
            file=sys.stderr,
        )


class _Tail:
    """Reads the lines that were added to a file since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.at = 0
        self.rest = b""

    def lines(self) -> Iterable[str]:
        try:
            with self._path.open("rb") as file:
                file.seek(self.at)
                data = file.read()
        except FileNotFoundError:
            return []
        self.at += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [line.decode(errors="replace").rstrip("\r") for line in lines]


def _logs(folder: JobFolder, rank: int | None) -> list[tuple[str, Path]]:
    """Returns the logs that exist, each as (prefix of its lines, file)."""
    found = []
    for part in folder.parts:
        for number, path in part.logs.items():
            if rank is None or number == rank:
                words = [f"task {part.index}"] if part.index is not None else []
                words += [str(number)] if folder.processes > 1 and rank is None else []
                found.append((f"[{' '.join(words)}] " if words else "", path))
    return found


def _slurm_says_over(folder: JobFolder) -> bool:
    """Returns whether the job ended and its script wrote no final state: it was killed, or never started."""
    try:
        shown = show_job(folder.current)
    except LaunchError:
        return False  # Slurm does not answer now
    return all(each.get("JobState") in ENDED_STATES for each in shown)
