"""Checkpoints of a run: model, optimizer, random state, callbacks, history; each is whole or not there.

A checkpoint is a folder `step-0000001234` with a TensorFlow checkpoint and `state.json`. It is written under
a hidden name, synced to disk, then renamed.
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
from trainer.optimisation.averages import averaged
from trainer.seeds import seed_generators
from trainer.workers.lost import OF_A_LOST_PEER

_NAME: Final = re.compile(r"step-(\d{10})")
_UNFINISHED: Final = re.compile(r"\.step-(\d{10})(\.\w+)?\.tmp")  # being written, or being removed
# Raised by TensorFlow for a damaged file, and by Python for a damaged state.json.
_DAMAGED: Final = (tf.errors.OpError, AssertionError, ValueError, LookupError, TypeError, OSError)
_TRIES: Final = 5  # to read the best checkpoint while the run may replace it by a better one

# The attributes that a Keras callback needs to go on as if it had never stopped; Keras does not save them.
_CALLBACK_STATE: Final = {
    "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
}


class NotFinite(EndedEarly):
    """A loss or a weight is infinite or not a number; `step` is the step of the run after which it is."""

    def __init__(self, what: str, step: int) -> None:
        super().__init__(what, NOT_FINITE)
        self.step = step


@dataclass(frozen=True)
class State:
    """What a checkpoint holds besides variables.

    Attributes:
        step: steps done since the run's start.
        epoch: epochs done, validation included; `step` may lie in the one after them.
        best_epoch: number of the best epoch so far by --monitor, from 1; 0: none.
        best_step: the last step of that epoch, so the step of its checkpoint.
        best_loss: the validation loss of that epoch.
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
        chief: whether this process is the chief. All workers must call `save`; only the chief's files stay.
        keep: number of checkpoints that are kept besides that of the best epoch.
        meters: `Loop.kept_meters`, saved too; None: no checkpoint is of mid-epoch.
        averages: `Averages.values`, saved too.
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
        averages: Sequence[tf.Variable] = (),
    ) -> None:
        self.folder, self._chief, self._keep = folder, chief, keep
        # Keras' seed generators (Dropout) are not tracked as a part of the model.
        seeds = [generator.state.value for generator in seed_generators(model)]
        self._numbers = [v.value for v in (*model.variables, *optimizer.variables) if "float" in v.dtype]
        parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "seeds": seeds}
        self._model, self._averages = model, averages
        if averages:
            parts["averages"] = list(averages)
        self._tracked = tf.train.Checkpoint(**parts, **({} if meters is None else {"meters": meters}))

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, ascending."""
        return saved_steps(self.folder)

    def save(self, state: State) -> None:
        """Writes the checkpoint of `state.step`, then removes those that are not kept.

        Raises:
            InputError: it cannot be written.
            NotFinite: a weight is not finite; nothing is saved.
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
            if isinstance(error, OF_A_LOST_PEER):  # a peer was lost during the save
                raise
            raise InputError(
                f"{final}: the checkpoint cannot be written: {getattr(error, 'strerror', None) or error}; "
                f"make room, then the same command again resumes"
            ) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune(state)

    def _refuse_not_finite(self, step: int) -> None:
        """Raises NotFinite if a weight is not finite; all workers hold the same weights, so all agree."""
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
        except _DAMAGED as error:
            raise InputError(
                f"{path}: the checkpoint cannot be restored ({str(error).splitlines()[0]}); remove this "
                f"folder to resume from the one before, or start in another --run_dir"
            ) from None

    def use_averages(self) -> None:
        """Gives the model the averages of its weights, if there are any: it is trained no more."""
        for variable, average in zip(
            averaged(self._model) if self._averages else (), self._averages, strict=True
        ):
            variable.assign(average)

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints after a step, so that the run goes on from that step."""
        for later in self.steps():
            if later > step:
                self._remove(later)

    def _prune(self, state: State) -> None:
        for step in self.steps()[: -self._keep]:
            if step != state.best_step:
                self._remove(step)
        for path in self.folder.iterdir():  # left by a kill; one of this step may be another worker's
            if (match := _UNFINISHED.fullmatch(path.name)) and int(match[1]) != state.step:
                shutil.rmtree(path, ignore_errors=True)

    def _remove(self, step: int) -> None:
        """Renames first: a kill while files are removed would leave half of them under the final name."""
        gone = self.folder / f".{self._path(step).name}.gone.tmp"
        shutil.rmtree(gone, ignore_errors=True)
        self._path(step).rename(gone)
        shutil.rmtree(gone)

    def _path(self, step: int) -> Path:
        return _path(self.folder, step)


def read_best(folder: Path, model: keras.Model) -> State | None:
    """Loads the weights of a run's best epoch so far into a model; the run may be training. Writes nothing.

    Args:
        folder: the run's checkpoints.
        model: of the same architecture as the run's.

    Returns:
        the newest state, which names that epoch; None if no epoch is done yet.

    Raises:
        InputError: the checkpoint is damaged, or of another model.
    """
    for left in reversed(range(_TRIES)):
        path = folder
        try:
            steps = saved_steps(folder)
            state = _state(_path(folder, steps[-1])) if steps else None
            if state is None or not state.best_epoch:
                return None
            path = _path(folder, state.best_step)
            variables = str(path / "variables")
            if any(name.startswith("averages/") for name, _ in tf.train.list_variables(variables)):
                values = [each.value for each in averaged(model)]
                read = tf.train.Checkpoint(averages=values).read(variables)
            else:
                read = tf.train.Checkpoint(model=model).read(variables)
            read.assert_existing_objects_matched().expect_partial()
        except _DAMAGED as error:  # or the run has removed these files for a better epoch
            if not left:
                raise InputError(
                    f"{path}: the checkpoint cannot be read ({str(error).splitlines()[0]}); while the run "
                    f"trains, run this command again"
                ) from None
        else:
            return state
    raise AssertionError


def saved_steps(folder: Path) -> list[int]:
    """Returns the steps that have a checkpoint in a folder, ascending; none if there is no folder."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def _state(path: Path) -> State:
    values = json.loads((path / "state.json").read_text())
    return State(**{**values, "history": tuple(values["history"])})


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:010d}"


def callback_state(callbacks: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Returns the state of callbacks that a checkpoint must hold, by class name.

    Keras' callbacks with a state are known; others have it if they have the method `state_dict`, which
    returns what JSON can hold.
    """
    states = {}
    for name, callback in _named(callbacks):
        if hasattr(callback, "state_dict"):
            states[name] = callback.state_dict()
        elif known := _CALLBACK_STATE.get(type(callback).__name__):
            states[name] = {attribute: getattr(callback, attribute) for attribute in known}
    return states


def set_callback_state(callbacks: Sequence[Any], state: dict[str, dict[str, Any]]) -> None:
    """Sets what `callback_state` returned; call it after `on_train_begin`, which resets it."""
    for name, callback in _named(callbacks):
        if hasattr(callback, "load_state_dict") and name in state:
            callback.load_state_dict(state[name])
        elif type(callback).__name__ in _CALLBACK_STATE:
            for attribute, value in state.get(name, {}).items():
                setattr(callback, attribute, value)


def _named(callbacks: Sequence[Any]) -> list[tuple[str, Any]]:
    """Returns callbacks with their class names; the second of a class is called NAME-2."""
    names = [type(callback).__name__ for callback in callbacks]
    numbers = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [
        (name if number == 1 else f"{name}-{number}", callback)
        for name, number, callback in zip(names, numbers, callbacks, strict=True)
    ]
