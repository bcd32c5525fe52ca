"""Optimisation.

The flags that say how the weights are found, and for how long.
"""

from typing import Any

from absl import flags

from data_pipeline.options import PipelineOptions
from trainer.config import SCHEDULES, TrainConfig

_EPOCHS = flags.DEFINE_integer(
    "epochs",
    TrainConfig.epochs,
    "The number of epochs, at most. It may be changed when a run is resumed, except with --schedule=cosine, "
    "which ends at the last epoch.",
)
_PATIENCE = flags.DEFINE_integer(
    "patience",
    TrainConfig.patience,
    "Training stops after this number of epochs without a better validation loss.",
)
_MIN_DELTA = flags.DEFINE_float(
    "min_delta",
    TrainConfig.min_delta,
    "The validation loss must decrease by this much to count as better.",
)
_GLOBAL_BATCH_SIZE = flags.DEFINE_integer(
    "global_batch_size",
    PipelineOptions.global_batch_size,
    "The number of records in a step, over all replicas. It must be a multiple of the number of replicas.",
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate",
    TrainConfig.learning_rate,
    "The learning rate of Adam. With --schedule=cosine it is the highest rate.",
)
_SCHEDULE = flags.DEFINE_enum(
    "schedule",
    TrainConfig.schedule,
    SCHEDULES,
    "How the learning rate changes. constant: it stays. cosine: it falls to 0 at the end of --epochs; early "
    "stopping cuts it short.",
)
_WARMUP_EPOCHS = flags.DEFINE_integer(
    "warmup_epochs",
    TrainConfig.warmup_epochs,
    "The learning rate rises from 0, step by step, in this number of epochs at the start. It needs "
    "--schedule=cosine.",
)
_CLASS_WEIGHTS = flags.DEFINE_bool(
    "class_weights",
    TrainConfig.class_weights,
    "Give records of rare classes more weight in the loss, so that all classes weigh the same.",
)


def values() -> dict[str, Any]:
    """Returns what these flags say."""
    return {
        "epochs": _EPOCHS.value,
        "patience": _PATIENCE.value,
        "min_delta": _MIN_DELTA.value,
        "global_batch_size": _GLOBAL_BATCH_SIZE.value,
        "learning_rate": _LEARNING_RATE.value,
        "schedule": _SCHEDULE.value,
        "warmup_epochs": _WARMUP_EPOCHS.value,
        "class_weights": _CLASS_WEIGHTS.value,
    }
