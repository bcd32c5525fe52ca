"""Published model.

The flags that say what is made of the trained network: they change no weights, but the file model.keras and
the threshold. Checkpoints, early stopping and history.csv are the network's alone.
"""

from typing import Any

from absl import flags

from trainer.config import TrainConfig

_TTA_FLIP = flags.DEFINE_bool(
    "tta_flip",
    TrainConfig.tta_flip,
    "The published model averages its probabilities over the image and its mirror image, left to right. A "
    "prediction takes twice as long.",
)
_TTA_SHIFT = flags.DEFINE_integer(
    "tta_shift",
    TrainConfig.tta_shift,
    "The published model averages its probabilities over the image and the image moved by this number of "
    "pixels to the left, to the right, up and down; the edge is repeated. A prediction takes five times as "
    "long, with --tta_flip ten times. 0: off.",
)
_TEMPERATURE = flags.DEFINE_string(
    "temperature",
    TrainConfig.temperature,
    "The number that the published model divides its logits by, so that its probabilities are as sure "
    "as they should be. none: 1. validation: the one for which the validation split is most likely. A "
    "number: itself, as trainer.pool finds it by out-of-fold predictions. It changes no ranking of two "
    "classes; the threshold is chosen after it.",
)
_THRESHOLD_RULE = flags.DEFINE_string(
    "threshold_rule",
    TrainConfig.threshold_rule,
    "How the threshold of two classes is found. youden: validation's highest sensitivity + specificity. "
    "fixed:P: it is P. sensitivity:P or specificity:P: validation reaches at least P in one, and as much as "
    "it can in the other. cost:FN:FP: validation's least cost, where a false negative costs FN and a false "
    "positive FP. It changes no weights; if it is given later, the same command chooses the threshold anew. "
    "Default: youden, or the rule of a finished run.",
)


def values() -> dict[str, Any]:
    """Returns what these flags say."""
    return {
        "tta_flip": _TTA_FLIP.value,
        "tta_shift": _TTA_SHIFT.value,
        "temperature": _TEMPERATURE.value,
        "threshold_rule": _THRESHOLD_RULE.value,
    }
