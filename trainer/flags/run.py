"""Run.

The flags that say where the run is kept, what makes it repeatable, when it saves and stops.
"""

from typing import Any

from absl import flags

from data_pipeline.options import PipelineOptions
from tfrecords.command import define_path
from trainer.config import TrainConfig
from trainer.flags.devices import whole_numbers

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
_LOG_STEPS = flags.DEFINE_integer(
    "log_steps",
    TrainConfig.log_steps,
    "Print progress and write TensorBoard's scalars every N steps of an epoch, besides after each epoch. "
    "0: only after each epoch. Default: the length of an epoch decides: an epoch of 1,000 steps or more is "
    "logged up to ten times, a shorter one only at its end.",
    lower_bound=0,
)
_PROFILE_STEPS = flags.DEFINE_list(
    "profile_steps",
    [],
    "A,B: profile the training steps A to B - 1 of the run, counted from 0, for TensorBoard's Profile page "
    "(extra `profile`). The first steps of a start are slower than the others: leave out ten.",
)

_CALLBACKS = flags.DEFINE_list(
    "callbacks",
    [],
    "Your own Keras callbacks, as package.module:function,...: each function takes the configuration and "
    "returns a callback or a list. The chief calls them; on_train_batch_end comes once for each block of "
    "steps. A callback with the methods state_dict and load_state_dict is saved with each checkpoint.",
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
        "log_steps": _LOG_STEPS.value,
        "callbacks": tuple(_CALLBACKS.value),
        "profile_steps": whole_numbers("profile_steps", _PROFILE_STEPS.value),
    }
