"""What a run directory says of its run, read while the run may be training: no lock, no TensorFlow."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tfrecords.errors import InputError
from tfrecords.progress import duration
from trainer.config import BASELINES
from trainer.evaluation.folder import MODEL_FACT
from trainer.evaluation.metric_table import best_epoch
from trainer.lock import LOCK_NAME, Holder, LockWatch
from trainer.result import Result
from trainer.run import CONFIG_NAME, RESULT_NAME, Run
from trainer.runs.reported import CONTRADICTING, Reported

TRAINING: Final = "training"  # a process holds its lock
STOPPED: Final = "stopped"  # its command goes on with it
DONE: Final = "done"
DIVERGED: Final = "diverged"  # its loss was not finite
STATES: Final = (DONE, TRAINING, STOPPED, DIVERGED)
_HISTORY_NAME: Final = "history.json"
# A holder on another machine renews the lock every 10 s; clocks of two machines may differ by minutes.
_SILENT_SECONDS: Final = 600.0


@dataclass(frozen=True)
class RunRow:
    """A run as the table shows it.

    Attributes:
        name: its path below the folder that was searched.
        folder: its run directory.
        data: name of its data set.
        plan: fingerprint of its data set.
        model: name of its model.
        state: one of `STATES`.
        holder: the process that trains it; "" if none does.
        epochs: done.
        most_epochs: that it may train; 0: a baseline, which has none.
        best_epoch: the one that its --monitor keeps; None: no epoch is done, or it has none.
        val_loss: of the best epoch; None: not known yet.
        reported: the figures of its report; None: there is none of its model.
        changed: when its configuration, history or result changed last, seconds since the epoch.
        notes: sentences on what the figures are not, and on who holds the run.
        problems: sentences on files that are damaged.
    """

    name: str
    folder: Path
    data: str
    plan: str
    model: str
    state: str
    holder: str
    epochs: int
    most_epochs: int
    best_epoch: int | None
    val_loss: float | None
    reported: Reported | None
    changed: float
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def estimates(self) -> Mapping[str, Mapping[str, Any]]:
        """The metrics of its report, by name, with `CONTRADICTING` if it has that; empty without a report."""
        if not self.reported:
            return {}
        against = self.reported.contradicting
        return {**self.reported.estimates, **({CONTRADICTING: against} if against else {})}

    @property
    def threshold(self) -> float | None:
        """The threshold of its report; None without one."""
        return self.reported.threshold if self.reported else None


def read_run(folder: Path, name: str, *, split: str = "test", now: float | None = None) -> RunRow:
    """Reads a run directory.

    Args:
        folder: the run directory.
        name: what the table calls it.
        split: name of the report whose figures are wanted, a folder in `report/`.
        now: seconds since the epoch; None: by the clock.

    Raises:
        InputError: its configuration is missing or damaged.
    """
    notes: list[str] = []
    problems: list[str] = []
    holder = _holder(folder, time.time() if now is None else now, notes)
    run = _load(folder, holder)
    result: Result | None = None
    rows: Sequence[Mapping[str, float]] = ()
    try:
        result = run.stored_result()
    except InputError as error:
        problems.append(str(error))
    try:
        rows = _history(folder)
    except InputError as error:
        problems.append(str(error))
    goes_on = result is not None and len(rows) > result.epochs
    if result is not None and goes_on:
        notes.append(
            f"it goes on after {result.epochs} epochs: threshold and figures are those of the model of then"
        )
    reported = None
    try:
        reported = _reported(run, result, split, notes)
    except InputError as error:
        problems.append(str(error))
    is_baseline = run.config.model in BASELINES
    kept, val_loss = _best(run.config.monitor, rows)
    if result is not None and not goes_on:
        kept, val_loss = result.epoch or None, result.val_loss
    return RunRow(
        name=name,
        folder=folder,
        data=run.data.name,
        plan=run.data.plan,
        model=run.config.model,
        state=_state(run, result, holder, goes_on=goes_on),
        holder=str(holder) if holder else "",
        epochs=len(rows),
        most_epochs=0 if is_baseline else run.config.epochs,
        best_epoch=kept,
        val_loss=val_loss,
        reported=reported,
        changed=_changed(folder),
        notes=tuple(notes),
        problems=tuple(problems),
    )


def _load(folder: Path, holder: Holder | None) -> Run:
    if holder and not (folder / CONFIG_NAME).exists():
        raise InputError(f"{folder}: has no {CONFIG_NAME} yet; {holder} is just starting a run there")
    return Run.load(folder)


def _holder(folder: Path, now: float, notes: list[str]) -> Holder | None:
    """Returns the process that trains the run, if one does.

    A process of this machine is looked at. Of one elsewhere only the lock is seen, which it renews. The age
    of the lock is told by this machine's clock: good enough for people to read; nothing is decided by it.
    """
    free, holder = LockWatch(folder).look()
    if free or holder is None or holder.is_local:
        return None if free else holder
    try:
        age = now - (folder / LOCK_NAME).stat().st_mtime
    except OSError:  # given back just now
        return None
    if age < _SILENT_SECONDS:
        return holder
    notes.append(f"{holder} has not renewed {LOCK_NAME} for {duration(age)}: it seems to have been killed")
    return None


def _state(run: Run, result: Result | None, holder: Holder | None, *, goes_on: bool) -> str:
    if holder:
        return TRAINING
    if run.diverged is not None:
        return DIVERGED
    if result is None:
        # Versions without a result.json published the model last.
        return DONE if run.model.exists() else STOPPED
    if run.config.model in BASELINES or (result.done(run.config) and not goes_on):
        return DONE
    return STOPPED


def _history(folder: Path) -> Sequence[Mapping[str, float]]:
    """Returns a row for each epoch done; () of a baseline, or before the first epoch."""
    path = folder / _HISTORY_NAME
    try:
        rows: list[Mapping[str, float]] = json.loads(path.read_bytes())
        return tuple({**row, "val_loss": float(row["val_loss"])} for row in rows)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is damaged ({error!r}); the command that started the run writes it again from the last "
            f"checkpoint"
        ) from None


def _best(monitor: str, rows: Sequence[Mapping[str, float]]) -> tuple[int | None, float | None]:
    """Returns the epoch whose weights the run keeps, and its validation loss."""
    epoch = best_epoch(monitor, rows)
    return (epoch, rows[epoch - 1]["val_loss"]) if epoch else (None, None)


def _reported(run: Run, result: Result | None, split: str, notes: list[str]) -> Reported | None:
    """Returns the report of the run's model; None: there is none, or it is of an earlier model.

    Raises:
        InputError: it is damaged.
    """
    folder = run.report(split)
    if not (folder / "report.json").exists():
        return None
    reported = Reported.read(folder)
    if is_current(reported, result):
        return reported
    notes.append(
        f"report/{split} is of an earlier model and not shown; python -m trainer.evaluate "
        f"--run_dir={run.folder} --split={split} writes that of the present one"
    )
    return None


def is_current(reported: Reported, result: Result | None) -> bool:
    """Returns whether a report is of a result's model; true where one of them does not name its model."""
    model = reported.facts.get(MODEL_FACT, "")
    return result is None or not model.startswith("SHA-256 ") or model == f"SHA-256 {result.model_sha256}"


def _changed(folder: Path) -> float:
    times = []
    for name in (CONFIG_NAME, _HISTORY_NAME, RESULT_NAME):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times, default=0.0)
