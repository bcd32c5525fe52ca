"""The trials of a search on disk: each execution of a trial is an ordinary run in a folder of its own."""

import hashlib
import json
import math
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from data_pipeline.options import LARGEST_SEED
from tfrecords.files.atomic import publish_folder, replace_atomically
from trainer.config import TrainConfig
from trainer.lock import LOCK_NAME
from trainer.run import MODEL_NAME, RESULT_NAME, Run
from trainer.tune.order import End, Order, Trial
from trainer.tune.search import Search
from trainer.tune.show.overview import DONE, FAILED
from trainer.tune.space import with_values

_STARTS_NAME: Final = "starts.json"


def run_dir(search: Search, number: int, execution: int) -> Path:
    """Returns the run directory of an execution of a trial."""
    return search.trial(number) / f"execution-{execution}"


def seed_of(search: Search, trial: Trial, execution: int) -> int:
    """Returns the seed of an execution: the SHA-256 of the search's seed, the trial and the execution.

    A trial that continues another one has the seeds of that one.
    """
    digest = hashlib.sha256(f"{search.options.seed} {trial.root} {execution}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (LARGEST_SEED + 1)


def config_of(search: Search, trial: Trial, execution: int) -> TrainConfig:
    """Returns the training configuration of an execution of a trial."""
    mine = search.config.changed(
        run_dir=str(run_dir(search, trial.number, execution)),
        seed=seed_of(search, trial, execution),
        epochs=trial.epochs,
    )
    return with_values(mine, trial.values)


def take_over(search: Search, trial: Trial, execution: int) -> None:
    """Copies the run that a promoted trial continues, whole or not at all, unless the copy exists."""
    if trial.goes_on_with is None:
        return
    source, target = (run_dir(search, number, execution) for number in (trial.goes_on_with, trial.number))
    # Result, model and report belong to the parent's epochs.
    copy_run(source, target, RESULT_NAME, MODEL_NAME, "report")


def copy_run(source: Path, target: Path, *left_out: str) -> None:
    """Copies a run directory, whole or not at all, unless the copy exists; without lock and HParams."""
    if target.exists():
        return
    temporary = target.with_name(f".{target.name}.copy")
    shutil.rmtree(temporary, ignore_errors=True)
    ignored = shutil.ignore_patterns(f"*{LOCK_NAME}*", "*.hparams*", *left_out)
    shutil.copytree(source, temporary, ignore=ignored)
    publish_folder(temporary, target)


def end_of(search: Search, trial: Trial, execution: int, seconds: float) -> End:
    """Returns the end of an execution whose run is finished.

    The score is the objective in the run's best epoch by --monitor, because the run keeps the model of that
    epoch.
    """
    folder = run_dir(search, trial.number, execution)
    result = Run.load(folder).result()
    rows = json.loads((folder / "history.json").read_text())
    score = rows[result.epoch - 1][search.options.objective]
    if not math.isfinite(score):
        why = f"{search.options.objective} is {score} in epoch {result.epoch}, so there is nothing to compare"
        return End(FAILED, None, result.epochs, seconds, why)
    return End(DONE, score, result.epochs, seconds)


def best_of(search: Search, order: Order) -> Trial | None:
    """Returns the finished trial with the best score, the first of equals; None if no trial is finished."""
    sign = 1 if search.options.direction == "min" else -1
    done = [
        (sign * trial.score, trial.number)
        for trial in order.trials
        if trial.score is not None and trial.state(search.options.executions_per_trial) == DONE
    ]
    return order.trials[min(done)[1]] if done else None


def best_execution(search: Search, trial: Trial) -> int:
    """Returns the execution with the best score of a finished trial."""
    sign = 1 if search.options.direction == "min" else -1
    return min((sign * (end.score or 0.0), number) for number, (end, _) in trial.ends.items())[1]


def epochs_done(search: Search, number: int, executions: Collection[int]) -> int:
    """Returns the most epochs that the history of a trial's runs has."""
    most = 0
    for execution in executions:
        with suppress(OSError, ValueError):
            rows = json.loads((run_dir(search, number, execution) / "history.json").read_text())
            most = max(most, len(rows))
    return most


def newest_checkpoint(folder: Path) -> str:
    """Returns the name of a run's newest checkpoint; "" if it has none."""
    with suppress(OSError):
        names = [path.name for path in (folder / "checkpoints").glob("step-*")]
        return max(names, key=lambda name: (len(name), name), default="")
    return ""


def prune(search: Search, order: Order, needed: Collection[int]) -> None:
    """Removes model and checkpoints of trials that need not keep them; curves and histories stay.

    Args:
        search: the search.
        order: its state.
        needed: trials that others may still continue.
    """
    if search.options.keep_trials == "all":
        return
    best = best_of(search, order)
    kept = set(order.open) | set(needed)
    if best and (search.options.keep_trials == "best" or search.options.final == "reload"):
        kept.add(best.number)
    for trial in order.trials:
        if trial.number in kept or not trial.state(search.options.executions_per_trial):
            continue
        for execution in range(search.options.executions_per_trial):
            folder = run_dir(search, trial.number, execution)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            (folder / MODEL_NAME).unlink(missing_ok=True)


class Starts:
    """How often an execution was started and killed; the holder of its claim writes it.

    Args:
        claim: folder of the claim.
        run: the run directory of the execution.
    """

    def __init__(self, claim: Path, run: Path) -> None:
        self._path, self._run = claim / _STARTS_NAME, run
        self.saved, self.starts, self.killed, self.seconds, self.began = "", 0, 0, 0.0, 0.0
        with suppress(OSError, ValueError, TypeError):
            self.__dict__.update(json.loads(self._path.read_bytes()))

    def begin(self, now: float) -> None:
        """Records a start; a newer checkpoint than at the last start sets the counts back to 0.

        Args:
            now: seconds since the epoch.
        """
        saved = newest_checkpoint(self._run)
        if saved != self.saved:
            self.saved, self.starts, self.killed = saved, 0, 0
        self.starts += 1
        self.began = now
        self._save()

    def end(self, seconds: float, *, killed: bool) -> None:
        """Records that an execution ended before it was finished."""
        self.seconds += seconds
        self.began = 0.0
        saved = newest_checkpoint(self._run)
        if saved != self.saved:
            self.saved, self.starts, self.killed = saved, 0, 0
        self.killed += killed
        self._save()

    def _save(self) -> None:
        values = {name: getattr(self, name) for name in ("saved", "starts", "killed", "seconds", "began")}
        replace_atomically(self._path, json.dumps(values).encode())
