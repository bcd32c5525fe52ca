"""Checkpoints that are whole or not there: model, optimizer, random state, callbacks, history.

Each is a folder `step-0000001234` with a TensorFlow checkpoint and `state.json`; it is written under
another name, synced, then renamed.
"""

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf

from tfrecords.command import NOT_FINITE
from tfrecords.errors import EndedEarly, InputError
from tfrecords.files.atomic import sync, sync_tree
from tfrecords.progress import tell_launcher
from trainer.seeds import seed_generators
from trainer.workers.lost import OF_A_LOST_PEER

_NAME: Final = re.compile(r"step-(\d{10})")
_UNFINISHED: Final = re.compile(r"\.step-(\d{10})(\.\w+)?\.tmp")  # being written, or being removed
# What TensorFlow raises for a damaged file, and what a damaged state.json leads to.
_HARMED: Final = (tf.errors.OpError, AssertionError, ValueError, LookupError, TypeError, OSError)
_TRIES: Final = 5  # to read a checkpoint while its run replaces it by a better one

# What a Keras callback must remember to go on as if it had never stopped; Keras does not save it.
_CALLBACK_STATE: Final = {
    "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
}


class NotFinite(EndedEarly):
    """A loss, or a weight, is no number any more: what that is, and after which step of the run."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(what, NOT_FINITE)
        self.step = step


@dataclass(frozen=True)
class State:
    """What a checkpoint holds besides variables.

    Attributes:
        step: steps done since the run's start.
        epoch: epochs done, validation included; `step` may lie in the one after them.
        best_epoch: the one of lowest validation loss so far, counted as `epoch` after it was done; 0: none.
        best_step: the step it ended with, so that of its checkpoint.
        best_loss: its validation loss.
        history: a row an epoch.
        callbacks: attributes of stateful callbacks, by class name.
    """

    step: int
    epoch: int
    best_epoch: int
    best_step: int
    best_loss: float
    history: tuple[dict[str, float], ...]
    callbacks: dict[str, dict[str, Any]]


class Checkpoints:
    """Saves and restores a run's checkpoints in one folder.

    Args:
        folder: where they are.
        model: its variables and the state of its random layers are saved.
        optimizer: saved too.
        chief: whether this process writes. Every worker must call `save`, only the chief's stays.
        keep: how many are kept besides that of the best epoch.
        meters: `Loop.kept_meters`, saved too; None: no checkpoint is of mid-epoch.
    """

    def __init__(
        self,
        folder: Path,
        model: keras.Model,
        optimizer: Any,
        *,
        chief: bool = True,
        keep: int = 2,
        meters: tf.Variable | None = None,
    ) -> None:
        self.folder, self._chief, self._keep = folder, chief, keep
        # Keras' seed generators (Dropout) are not tracked as a part of the model.
        seeds = [generator.state.value for generator in seed_generators(model)]
        self._numbers = [v.value for v in (*model.variables, *optimizer.variables) if "float" in v.dtype]
        parts = {"model": model, "optimizer": optimizer, "seeds": seeds}
        self._tracked = tf.train.Checkpoint(**parts, **({} if meters is None else {"meters": meters}))

    def steps(self) -> list[int]:
        """Returns the steps there is a checkpoint of, ascending."""
        return _steps(self.folder)

    def save(self, state: State) -> None:
        """Writes the checkpoint of `state.step`, then removes those that are not kept.

        Raises:
            InputError: it cannot be written.
            NotFinite: what would be saved are no numbers; nothing is.
        """
        self._refuse_not_finite(state.step)
        final = self._path(state.step)
        owner = "" if self._chief else f".{os.getpid()}"  # workers may share the disk
        temporary = self.folder / f".{final.name}{owner}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            self._tracked.write(str(temporary / "variables"))
            if not self._chief:
                return
            (temporary / "state.json").write_text(json.dumps(asdict(state)))
            sync_tree(temporary)
            if final.exists():
                self._remove(state.step)
            temporary.rename(final)
            sync(self.folder)
            tell_launcher(f"step {state.step}")
        except (OSError, tf.errors.OpError) as error:
            if isinstance(error, OF_A_LOST_PEER):  # which took part in the save
                raise
            raise InputError(
                f"{final}: the checkpoint cannot be written: {getattr(error, 'strerror', None) or error}; "
                f"make room, then the same command again resumes"
            ) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune(state)

    def _refuse_not_finite(self, step: int) -> None:
        """All workers hold the same numbers, so all find the same."""
        for variable in self._numbers:
            if not bool(tf.reduce_all(tf.math.is_finite(variable))):
                raise NotFinite(f"after step {step:,} {variable.name} is not finite", step)

    def state(self, step: int) -> State:
        """Returns what the checkpoint of a step holds besides variables."""
        return _state(self._path(step))

    def restore(self, step: int) -> State:
        """Restores variables from the checkpoint of a step and returns its state.

        Raises:
            InputError: it is damaged, or of another model.
        """
        path = self._path(step)
        try:
            self._tracked.read(str(path / "variables")).assert_consumed()
            return self.state(step)
        except _HARMED as error:
            raise InputError(
                f"{path}: the checkpoint cannot be restored ({str(error).splitlines()[0]}); remove this "
                f"folder to resume from the one before, or start in another --run_dir"
            ) from None

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints after a step: those of a way that is not gone on."""
        for later in self.steps():
            if later > step:
                self._remove(later)

    def _prune(self, state: State) -> None:
        for step in self.steps()[: -self._keep]:
            if step != state.best_step:
                self._remove(step)
        for path in self.folder.iterdir():  # left by a kill; this step's may be another worker's
            if (match := _UNFINISHED.fullmatch(path.name)) and int(match[1]) != state.step:
                shutil.rmtree(path, ignore_errors=True)

    def _remove(self, step: int) -> None:
        """Takes the final name away first, for a kill while files go would leave half of them under it."""
        gone = self.folder / f".{self._path(step).name}.gone.tmp"
        shutil.rmtree(gone, ignore_errors=True)
        self._path(step).rename(gone)
        shutil.rmtree(gone)

    def _path(self, step: int) -> Path:
        return _path(self.folder, step)


def read_best(folder: Path, model: keras.Model) -> State | None:
    """Gives a model the weights of the best epoch so far of a run that may be training; writes nothing.

    Args:
        folder: the run's checkpoints.
        model: built as the run's.

    Returns:
        the newest state there, which names that epoch; None: no epoch is done yet.

    Raises:
        InputError: the checkpoint is damaged, or of another model.
    """
    for left in reversed(range(_TRIES)):
        path = folder
        try:
            steps = _steps(folder)
            state = _state(_path(folder, steps[-1])) if steps else None
            if state is None or not state.best_epoch:
                return None
            path = _path(folder, state.best_step)
            read = tf.train.Checkpoint(model=model).read(str(path / "variables"))
            read.assert_existing_objects_matched().expect_partial()
        except _HARMED as error:  # or a better epoch came, and the run removed what was read here
            if not left:
                raise InputError(
                    f"{path}: the checkpoint cannot be read ({str(error).splitlines()[0]}); while the run "
                    f"trains, run this command again"
                ) from None
        else:
            return state
    raise AssertionError


def _steps(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def _state(path: Path) -> State:
    values = json.loads((path / "state.json").read_text())
    return State(**{**values, "history": tuple(values["history"])})


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:010d}"


def callback_state(callbacks: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Returns the attributes that stateful Keras callbacks must keep."""
    return {
        name: {attribute: getattr(callback, attribute) for attribute in _CALLBACK_STATE[name]}
        for callback in callbacks
        if (name := type(callback).__name__) in _CALLBACK_STATE
    }


def set_callback_state(callbacks: Sequence[Any], state: dict[str, dict[str, Any]]) -> None:
    """Sets what `callback_state` gave; to be called after `on_train_begin`, which resets it."""
    for callback in callbacks:
        for attribute, value in state.get(type(callback).__name__, {}).items():
            setattr(callback, attribute, value)
