"""Finds the run directories below a folder, and names the folders that hold no run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError
from trainer.lock import LOCK_NAME
from trainer.run import CONFIG_NAME, SEEDS_NAME

# Files of a search, which docs/architecture.md lists.
_SEARCH_NAME: Final = "search.json"
_JOURNAL_NAME: Final = "journal"
_TRIALS_NAME: Final = "trials"
_EXECUTION: Final = re.compile(r"execution-\d+")


@dataclass(frozen=True)
class Found:
    """What there is below a folder.

    Attributes:
        runs: the run directories, sorted by path.
        hidden_trials: how many trials of searches were found and not asked for.
        problems: a sentence for each folder that cannot be read or holds no run.
    """

    runs: tuple[Path, ...]
    hidden_trials: int = 0
    problems: tuple[str, ...] = ()


@dataclass
class _Walk:
    """One walk through the folders; a folder that two links lead to is entered once."""

    runs: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _entered: set[tuple[int, int]] = field(default_factory=set)

    def enter(self, folder: Path) -> int:
        """Collects the runs in a folder and below it; returns how many runs and problems it has added."""
        before = len(self.runs) + len(self.problems)
        if self._is_new(folder):
            if _is_run(folder):
                self.runs.append(folder)
            if not _is_run(folder) or (folder / SEEDS_NAME).is_file():
                for child in self.children(folder):
                    self.enter(child)
        return len(self.runs) + len(self.problems) - before

    def _is_new(self, folder: Path) -> bool:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        is_new = identity not in self._entered
        self._entered.add(identity)
        return is_new

    def children(self, folder: Path) -> list[Path]:
        """Returns the folders in a folder that may hold runs, sorted: of a search trials and final run."""
        try:
            children = sorted(_visible_folders(folder))
        except OSError as error:
            self.problems.append(f"{folder}: cannot be read: {error.strerror}")
            return []
        if _is_search(folder):
            return [child for child in children if child.name in (_TRIALS_NAME, "final")]
        return children


def find_runs(folder: Path, *, trials: bool = False) -> Found:
    """Returns the runs in a folder and in all folders below it; hidden folders are left out.

    Args:
        folder: where to look; it may be a run itself.
        trials: whether the trials of searches are wanted too.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(
            f"--runs={folder}: is no folder; name the one that holds the run directories, which "
            f"`python -m trainer.main --run_dir={folder}/NAME` makes"
        )
    walk = _Walk()
    if _is_run(folder) or _is_search(folder):
        walk.enter(folder)
    else:
        for child in walk.children(folder):
            if not walk.enter(child):
                walk.problems.append(f"{child}: holds no run: no folder in it has a {CONFIG_NAME}")
    of_searches = {run for run in walk.runs if _is_trial(run)}
    shown = [run for run in walk.runs if trials or run not in of_searches]
    return Found(tuple(shown), len(walk.runs) - len(shown), tuple(walk.problems))


def _visible_folders(folder: Path) -> Iterator[Path]:
    for child in folder.iterdir():
        if child.is_dir() and not child.name.startswith("."):
            yield child


def _is_run(folder: Path) -> bool:
    """Returns whether a folder is a run directory; a run that just starts has its lock alone."""
    return (folder / CONFIG_NAME).is_file() or (folder / LOCK_NAME).is_file()


def _is_search(folder: Path) -> bool:
    return (folder / _SEARCH_NAME).is_file() and (folder / _JOURNAL_NAME).is_dir()


def _is_trial(run: Path) -> bool:
    return run.parent.parent.name == _TRIALS_NAME and bool(_EXECUTION.fullmatch(run.name))
