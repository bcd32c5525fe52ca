"""Run.

The flags that say where the run is kept, what makes it repeatable, when it saves and stops.
"""

from typing import Any

from absl import flags

from data_pipeline.options import PipelineOptions
from tfrecords.command import define_path
from trainer.config import TrainConfig

RUN_DIR = define_path(
    "run_dir", None, "The folder of the run. The same command again resumes it. Default: runs/DATA-MODEL."
)
SEED = flags.DEFINE_integer(
    "seed",
    PipelineOptions.seed,
    "The seed of weights, order, augmentation and Dropout.",
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    TrainConfig.deterministic,
    "Make the same command give the same weights, to the bit. It is slower, and a split in memory takes "
    "twice its size. On the CPUs of several workers also set TF_ENABLE_ONEDNN_OPTS=0: oneDNN's sums depend "
    "on which of TensorFlow's threads is free.",
)
_KEEP = flags.DEFINE_integer(
    "keep", TrainConfig.keep, "The number of checkpoints that are kept, besides that of the best epoch."
)
_CHECKPOINT_STEPS = flags.DEFINE_integer(
    "checkpoint_steps",
    TrainConfig.checkpoint_steps,
    "Save a checkpoint each time this number of steps is done, besides that of each epoch. A killed run "
    "resumes from the last. 0: none.",
)
_CHECKPOINT_MINUTES = flags.DEFINE_float(
    "checkpoint_minutes",
    TrainConfig.checkpoint_minutes,
    "Save a checkpoint within an epoch when the last one is this number of minutes old; that is checked "
    "about every 5 s. 0: none.",
)
_MAX_MINUTES = flags.DEFINE_float(
    "max_minutes",
    TrainConfig.max_minutes,
    "Save and stop this number of minutes after this start, with exit code 75; the same command goes on. It "
    "is for a batch system that does not announce its time limit. 0: no limit.",
)


def values() -> dict[str, Any]:
    """Returns what these flags say, but for --run_dir, whose default names data and model."""
    return {
        "seed": SEED.value,
        "deterministic": _DETERMINISTIC.value,
        "keep": _KEEP.value,
        "checkpoint_steps": _CHECKPOINT_STEPS.value,
        "checkpoint_minutes": _CHECKPOINT_MINUTES.value,
        "max_minutes": _MAX_MINUTES.value,
    }
