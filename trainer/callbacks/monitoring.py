"""The callbacks that decide by the monitored metric: early stopping, and a rate that falls on a plateau.

All workers compute the same metrics, so all decide alike. `checkpoint.callback_state` has what a resumed run
needs of them.
"""

from collections.abc import Sequence
from typing import Any

import keras

from trainer.config import TrainConfig
from trainer.evaluation.metric_table import LAST, direction


def monitoring(config: TrainConfig) -> list[Any]:
    """Returns the callbacks of a configuration; none if the last epoch is kept."""
    if config.monitor == LAST:
        return []
    watched = {
        "monitor": config.monitor,
        "mode": direction(config.monitor),
        "min_delta": config.min_delta,
    }
    calls: list[Any] = [keras.callbacks.EarlyStopping(patience=config.patience, **watched)]
    if config.schedule == "plateau":
        plateau = keras.callbacks.ReduceLROnPlateau(
            factor=config.plateau_factor, patience=config.plateau_patience, **watched
        )
        calls.append(plateau)
    return calls


def has_stopped(callbacks: Sequence[Any]) -> bool:
    """Returns whether early stopping, in the state that was restored, has ended the training before."""
    stopping = [each for each in callbacks if isinstance(each, keras.callbacks.EarlyStopping)]
    return any(each.wait >= each.patience for each in stopping)
