"""The folder of a job: what was submitted, its state, and the logs and ends of its tasks.

    job.sh       the batch script                      job.json     the options of the job
    batch.log    messages of the script and of Slurm   state        the last state that the script wrote
    starts       number of starts, and of those in a row that saved nothing new
    progress     how far the command has saved         jobs         numbers under which it was submitted anew
    rank-N.log   all output of task N                  rank-N.json  how task N ended

In an array job.sh and job.json are in this folder; all other files are in the folder task-I of each task.
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from launch.command import LaunchError
from launch.slurm.commands import show_job

SCRIPT_NAME: Final = "job.sh"
JOB_NAME: Final = "job.json"
BATCH_LOG: Final = "batch.log"
_FINAL_STATES: Final = (
    "ended ",
    "cancelled",
)  # the starts of those states after which the script does nothing
_RANK: Final = re.compile(r"rank-(\d+)\.(log|json)")


@dataclass(frozen=True)
class Part:
    """A job, or one task of an array.

    Attributes:
        index: index of the task in its array; None: the job is no array.
        folder: folder of its state and logs.
    """

    index: int | None
    folder: Path

    def text(self, name: str) -> str:
        """Returns the text of a file of one line; empty if the file does not exist yet."""
        try:
            return (self.folder / name).read_text().strip()
        except FileNotFoundError:
            return ""

    @property
    def has_ended(self) -> bool:
        """Whether the script has written a final state."""
        return self.text("state").startswith(_FINAL_STATES)

    @property
    def starts(self) -> int:
        """Number of starts of the command."""
        words = self.text("starts").split()
        return int(words[0]) if words else 0

    @property
    def logs(self) -> dict[int, Path]:
        """The logs of all ranks, {rank: file}, in the order of ranks."""
        return self._of_ranks("log")

    @property
    def ends(self) -> list[dict[str, Any]]:
        """The contents of rank-N.json of all tasks that have ended, in the order of their ends."""
        ends = []
        for path in self._of_ranks("json").values():
            with suppress(FileNotFoundError):  # the next start has just removed the file
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
    """What its folder says about a job, without Slurm.

    Attributes:
        job: number of the job.
        path: its folder.
        processes: number of processes of the job, or of each task of an array.
        name: short name.
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
        """The number under which the job runs now; with --resubmit it differs from the first one."""
        words = self.parts[0].text("jobs").split()
        return int(words[-1]) if words else self.job


def find(job: int, log_dir: Path | None) -> JobFolder:
    """Returns the folder of a job: --log_dir, else launch/JOB here, else where Slurm writes its output.

    Raises:
        LaunchError: no folder is found, or it belongs to another job.
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
        f"job {job}: no folder {candidates[0]} exists; run this in the folder where the job was submitted, "
        f"or give its --log_dir"
    )


def _from_slurm(job: int) -> list[Path]:
    """Returns the folders in which Slurm writes the output of a job, if it still knows the job."""
    try:
        outputs = [Path(shown["StdOut"]) for shown in show_job(job) if shown.get("StdOut")]
    except LaunchError:
        return []  # Slurm is not installed, or does not answer: the caller's message says what is missing
    return [folder for output in outputs for folder in (output.parent, output.parent.parent)]
