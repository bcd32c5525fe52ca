"""The folder of a job's state: what was submitted, how far it is, what its tasks printed and how they ended.

    job.sh       the script            job.json     what was asked for
    batch.log    the script's words, and Slurm's
    state        the script's last word on the job     starts       how often it started, and in vain
    progress     how far the command has saved         jobs         the numbers of those submitted after it
    rank-N.log   all that task N printed               rank-N.json  how it ended

Each task of an array has these, but for the first two, in a folder task-I of its own.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from launch.command import LaunchError
from launch.slurm.asking import remembered

SCRIPT_NAME: Final = "job.sh"
JOB_NAME: Final = "job.json"
BATCH_LOG: Final = "batch.log"
_LAST_WORDS: Final = ("ended ", "cancelled")  # of those that the script writes into `state`
_RANK: Final = re.compile(r"rank-(\d+)\.(log|json)")


@dataclass(frozen=True)
class Part:
    """A job, or one task of an array.

    Attributes:
        index: of the task in its array; None: the job is no array.
        folder: of its state.
    """

    index: int | None
    folder: Path

    def text(self, name: str) -> str:
        """Returns what a file of one line says; empty if it is not there yet."""
        try:
            return (self.folder / name).read_text().strip()
        except FileNotFoundError:
            return ""

    @property
    def has_ended(self) -> bool:
        """The script has said its last word on it."""
        return self.text("state").startswith(_LAST_WORDS)

    @property
    def starts(self) -> int:
        """How often the command was started."""
        words = self.text("starts").split()
        return int(words[0]) if words else 0

    @property
    def logs(self) -> dict[int, Path]:
        """The logs of all ranks, in order."""
        return self._of_ranks("log")

    @property
    def ends(self) -> list[dict[str, Any]]:
        """How the tasks ended that have ended, in the order of their ends."""
        ends = []
        for path in self._of_ranks("json").values():
            with suppress(FileNotFoundError):  # the next start has just removed it
                ends.append(json.loads(path.read_text()))
        return sorted(ends, key=lambda end: end["ended"])

    def _of_ranks(self, kind: str) -> dict[int, Path]:
        matches = (
            [_RANK.fullmatch(path.name) for path in self.folder.iterdir()] if self.folder.is_dir() else []
        )
        return {
            rank: self.folder / f"rank-{rank}.{kind}"
            for rank in sorted(int(match[1]) for match in matches if match and match[2] == kind)
        }


@dataclass(frozen=True)
class JobFolder:
    """What is known of a job without asking Slurm.

    Attributes:
        job: its number.
        path: its folder.
        processes: tasks of the job, or of each task of an array.
        name: short.
        made_by: the command line that submitted it.
        parts: the job itself, or all tasks of an array.
    """

    job: int
    path: Path
    processes: int
    name: str
    made_by: str
    parts: tuple[Part, ...]

    @property
    def current(self) -> int:
        """The number under which it goes on: with --resubmit another than the first."""
        words = self.parts[0].text("jobs").split()
        return int(words[-1]) if words else self.job


def find(job: int, log_dir: Path | None) -> JobFolder:
    """Returns the folder of a job: --log_dir, else launch/JOB here, else where Slurm writes its output.

    Raises:
        LaunchError: it is nowhere.
    """
    candidates = [log_dir] if log_dir else [Path.cwd() / "launch" / str(job), *_from_slurm(job)]
    for path in candidates:
        try:
            values = json.loads((path / JOB_NAME).read_text())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise LaunchError(f"{path / JOB_NAME}: cannot be read: {error}") from None
        parts = [Part(index, path / f"task-{index}") for index in values["tasks"]] or [Part(None, path)]
        found = JobFolder(
            values["job"], path, values["processes"], values["name"], values["made_by"], tuple(parts)
        )
        if job not in {found.job, found.current, *map(int, found.parts[0].text("jobs").split())}:
            raise LaunchError(f"{path}: is the folder of job {found.job}, not of {job}")
        return found
    raise LaunchError(
        f"job {job}: has no folder here ({candidates[0]}); run this in the folder in which it was submitted, "
        f"or give its --log_dir"
    )


def _from_slurm(job: int) -> list[Path]:
    """Returns where Slurm writes the output of a job, if it remembers it."""
    try:
        outputs = [Path(shown["StdOut"]) for shown in remembered(job) if shown.get("StdOut")]
    except LaunchError:
        return []  # Slurm is not here, or does not answer: the caller says what is missing
    return [folder for output in outputs for folder in (output.parent, output.parent.parent)]
