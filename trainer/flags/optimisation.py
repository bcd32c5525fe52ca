"""Optimisation.

The flags that say how the weights are found, and for how long.
"""

from typing import Any

from absl import flags

from data_pipeline.options import PipelineOptions
from trainer.config import JIT_COMPILE, OPTIMIZERS, SCHEDULES, TrainConfig
from trainer.evaluation.metric_table import MONITORS
from trainer.models.registry import parse_model_args

_EPOCHS = flags.DEFINE_integer(
    "epochs",
    TrainConfig.epochs,
    "The number of epochs, at most. It may be changed when a run is resumed, except with --schedule=cosine, "
    "which ends at the last epoch.",
)
_PATIENCE = flags.DEFINE_integer(
    "patience",
    TrainConfig.patience,
    "Training stops after this number of epochs without a better value of --monitor.",
)
_MIN_DELTA = flags.DEFINE_float(
    "min_delta",
    TrainConfig.min_delta,
    "The value of --monitor must change by this much to count as better, for --patience and for "
    "--plateau_patience.",
)
_MONITOR = flags.DEFINE_enum(
    "monitor",
    TrainConfig.monitor,
    list(MONITORS),
    "The metric of validation that decides which epoch's weights are kept, when --patience ends the "
    "training, and when --schedule=plateau lowers the rate. last: the weights of the last epoch are kept, "
    "and all --epochs are trained.",
)
_GLOBAL_BATCH_SIZE = flags.DEFINE_integer(
    "global_batch_size",
    PipelineOptions.global_batch_size,
    "The number of records in a step, over all replicas. It must be a multiple of the number of replicas.",
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate",
    TrainConfig.learning_rate,
    "The learning rate of the optimizer. With --schedule=cosine it is the highest rate.",
)
_OPTIMIZER = flags.DEFINE_enum(
    "optimizer", TrainConfig.optimizer, OPTIMIZERS, "The optimizer, by Keras' name."
)
_OPTIMIZER_ARGS = flags.DEFINE_list(
    "optimizer_args",
    [],
    "Arguments of the optimizer that differ from Keras' defaults, as momentum=0.9,nesterov=true.",
)
_WEIGHT_DECAY = flags.DEFINE_float(
    "weight_decay",
    TrainConfig.weight_decay,
    "The share of each weight, times the learning rate, that a step takes away (decoupled decay, as in "
    "AdamW). Biases, the scales of normalization and other vectors are left alone. 0: the optimizer's own "
    "default, which is none for most and 0.004 for adamw.",
)
_CLIP_NORM = flags.DEFINE_float(
    "clip_norm",
    TrainConfig.clip_norm,
    "A step's gradient is scaled down to this norm if it is longer, taken over all weights after the sum "
    "over all replicas. 0: no limit.",
)
_ACCUMULATE = flags.DEFINE_integer(
    "accumulate",
    TrainConfig.accumulate,
    "Compute each batch in this number of parts, one after the other, and add up their gradients: a batch "
    "then needs the memory of one part. Steps and schedules count whole batches.",
)
_FREEZE = flags.DEFINE_string(
    "freeze",
    TrainConfig.freeze,
    "A regular expression: layers with it in their name are not trained, or only from --unfreeze_epoch on. "
    "The name of a model inside the model means all its layers. Default: all layers are trained.",
)
_UNFREEZE_EPOCH = flags.DEFINE_integer(
    "unfreeze_epoch",
    TrainConfig.unfreeze_epoch,
    "The first epoch, counted from 1, in which the layers of --freeze are trained. 0: they never are.",
)
_BACKBONE_LEARNING_RATE = flags.DEFINE_float(
    "backbone_learning_rate",
    TrainConfig.backbone_learning_rate,
    "The learning rate of the layers of --freeze once they are trained. It follows the schedule as the other "
    "does. 0: --learning_rate.",
)
_EMA = flags.DEFINE_float(
    "ema",
    TrainConfig.ema,
    "Evaluate and save an exponential moving average of the weights, of which each step keeps this share, as "
    "0.999 (less in the first steps). 0: the weights themselves are evaluated and saved.",
)
_SCHEDULE = flags.DEFINE_enum(
    "schedule",
    TrainConfig.schedule,
    SCHEDULES,
    "How the learning rate changes. constant: it stays. cosine: it falls to 0 at the end of --epochs; early "
    "stopping cuts it short, --monitor=last does not. plateau: it is multiplied by --plateau_factor each "
    "time --monitor has got no better for --plateau_patience epochs.",
)
_PLATEAU_FACTOR = flags.DEFINE_float(
    "plateau_factor",
    TrainConfig.plateau_factor,
    "The number by which --schedule=plateau multiplies the learning rate, more than 0 and less than 1.",
)
_PLATEAU_PATIENCE = flags.DEFINE_integer(
    "plateau_patience",
    TrainConfig.plateau_patience,
    "The number of epochs without a better value of --monitor after which --schedule=plateau lowers the "
    "rate. Choose it smaller than --patience.",
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
_LABEL_SMOOTHING = flags.DEFINE_float(
    "label_smoothing",
    TrainConfig.label_smoothing,
    "The share of each training target that is spread equally over all classes, from 0 to less than 1: 0.1 "
    "makes the targets of two classes 0.95 and 0.05. Validation counts the labels as they are.",
)
_MIXUP = flags.DEFINE_float(
    "mixup",
    TrainConfig.mixup,
    "Train on mixtures of two records and of their labels, in shares that are drawn from Beta(ALPHA, "
    "ALPHA): 0.2 mixes few pairs much, 1 mixes all shares alike. Each replica needs an even number of "
    "records a step. 0: off.",
)
_JIT_COMPILE = flags.DEFINE_enum(
    "jit_compile",
    TrainConfig.jit_compile,
    JIT_COMPILE,
    "Whether XLA compiles loss and gradient of a step; weights differ in the last bits. off: it does not. "
    "on: it does; on a CPU that is slower for convolutions, and a model with max pooling is refused with "
    "--deterministic, because XLA has no such gradient. auto: as Keras decides: on with one GPU, if all "
    "layers can be compiled and --deterministic is not given, else off.",
)


def values() -> dict[str, Any]:
    """Returns what these flags say."""
    return {
        "epochs": _EPOCHS.value,
        "patience": _PATIENCE.value,
        "min_delta": _MIN_DELTA.value,
        "global_batch_size": _GLOBAL_BATCH_SIZE.value,
        "learning_rate": _LEARNING_RATE.value,
        "optimizer": _OPTIMIZER.value,
        "optimizer_args": parse_model_args(_OPTIMIZER_ARGS.value, "optimizer_args"),
        "weight_decay": _WEIGHT_DECAY.value,
        "clip_norm": _CLIP_NORM.value,
        "accumulate": _ACCUMULATE.value,
        "freeze": _FREEZE.value,
        "unfreeze_epoch": _UNFREEZE_EPOCH.value,
        "backbone_learning_rate": _BACKBONE_LEARNING_RATE.value,
        "ema": _EMA.value,
        "schedule": _SCHEDULE.value,
        "warmup_epochs": _WARMUP_EPOCHS.value,
        "class_weights": _CLASS_WEIGHTS.value,
        "plateau_factor": _PLATEAU_FACTOR.value,
        "plateau_patience": _PLATEAU_PATIENCE.value,
        "monitor": _MONITOR.value,
        "label_smoothing": _LABEL_SMOOTHING.value,
        "mixup": _MIXUP.value,
        "jit_compile": _JIT_COMPILE.value,
    }
