"""What the tasks of a job print, from its folder; followed until it has ended."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from launch.command import LaunchError
from launch.slurm.asking import OVER, remembered
from launch.slurm.folder import BATCH_LOG, JobFolder

_LOOK_SECONDS: Final = 0.5
_ASK_SECONDS: Final = 30.0


def show(folder: JobFolder, rank: int | None, *, follow: bool, out: Callable[[str], None]) -> None:
    """Prints the logs of all ranks, or of one; where there are several, each line has its rank in front.

    Args:
        folder: of the job.
        rank: only this one.
        follow: goes on until the job has ended.
        out: gets each line.

    Raises:
        LaunchError: there is no such rank.
    """
    if rank is not None and not 0 <= rank < folder.processes:
        raise LaunchError(f"--rank={rank}: the job has the ranks 0 to {folder.processes - 1}")
    read: dict[Path, _Tail] = {}
    asked = time.monotonic()
    if follow and not _logs(folder, rank):
        print(f"job {folder.current} has printed nothing yet; Ctrl-C ends this, not the job", file=sys.stderr)
    while True:
        # Before the last look, so that nothing printed is missed.
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
        time.sleep(_LOOK_SECONDS)
    for prefix, path in _logs(folder, rank):
        if path in read and (rest := read[path].rest):
            out(f"{prefix}{rest.decode(errors='replace')}")
    if not any(tail.at for tail in read.values()):
        print(
            f"nothing was printed; what Slurm and the script say: {folder.parts[0].folder / BATCH_LOG}",
            file=sys.stderr,
        )


class _Tail:
    """The lines that a file has gained since the last look."""

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
    """Returns the logs that are there, each with what stands before its lines."""
    found = []
    for part in folder.parts:
        for number, path in part.logs.items():
            if rank is None or number == rank:
                words = [f"task {part.index}"] if part.index is not None else []
                words += [str(number)] if folder.processes > 1 and rank is None else []
                found.append((f"[{' '.join(words)}] " if words else "", path))
    return found


def _slurm_says_over(folder: JobFolder) -> bool:
    """The job has ended without a last word of its script: it was killed, or never started."""
    try:
        shown = remembered(folder.current)
    except LaunchError:
        return False  # Slurm does not answer now
    return all(each.get("JobState") in OVER for each in shown)
