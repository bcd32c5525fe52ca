"""Keras callbacks of the user's own: `--callbacks=package.module:function`."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import keras

from tfrecords.errors import InputError
from trainer.config import TrainConfig


def users_callbacks(config: TrainConfig, *, chief: bool) -> list[keras.callbacks.Callback]:
    """Returns what the functions that --callbacks names return for a configuration.

    Args:
        config: of the run.
        chief: whether this worker is the chief; the others look for the functions, but do not call them.

    Raises:
        InputError: a function is not there, or does not return Keras callbacks.
    """
    functions = [(name, _function(name)) for name in config.callbacks]
    return [callback for name, make in functions if chief for callback in _made(name, make(config))]


def _function(name: str) -> Callable[[TrainConfig], Any]:
    given = f"--callbacks={name}"
    module, _, function = name.partition(":")
    try:
        make = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{given}: {error}; run the command in the folder of the module, or put that folder on PYTHONPATH"
        ) from None
    except AttributeError:
        raise InputError(f"{given}: the module {module} has no function {function}") from None
    if not callable(make):
        raise InputError(f"{given}: is not a function; give one that takes the configuration")
    found: Callable[[TrainConfig], Any] = make
    return found


def _made(name: str, made: Any) -> Sequence[keras.callbacks.Callback]:
    callbacks = list(made) if isinstance(made, list | tuple) else [made]
    for each in callbacks:
        if not isinstance(each, keras.callbacks.Callback):
            raise InputError(
                f"--callbacks={name}: returned {type(each).__name__}; it must return a "
                f"keras.callbacks.Callback, or a list of them"
            )
    return callbacks


class AgreedStop(keras.callbacks.Callback):
    """Lets a callback of the chief's stop the training of all workers, and a resumed run know of it.

    It must come after the users' callbacks, which only the chief has, and before those of ours that stop the
    training.

    Args:
        add: returns the sums over the workers; see `sum_over_workers`.
    """

    def __init__(self, add: Callable[[Sequence[int]], list[int]]) -> None:
        super().__init__()
        self._add, self._stopped = add, False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stops the training if it is stopped on any worker."""
        (asked,) = self._add([int(self.model.stop_training)])
        self._stopped = self.model.stop_training = bool(asked)

    def state_dict(self) -> dict[str, Any]:
        """Returns whether the training is stopped."""
        return {"stopped": self._stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stops the training again if it was stopped."""
        self._stopped = bool(state["stopped"])
        if self._stopped:
            self.model.stop_training = True
