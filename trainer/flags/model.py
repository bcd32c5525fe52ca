"""Model.

The flags that choose the network.
"""

from pathlib import Path
from typing import Any

from absl import flags

from trainer.config import NORMALIZE, TrainConfig
from trainer.models.registry import MODELS, parse_model_args

MODEL = flags.DEFINE_string(
    "model",
    TrainConfig.model,
    f"The architecture. {'. '.join(f'{name}: {model.description}' for name, model in MODELS.items())}. "
    "keras:NAME: a classifier of keras.applications, as keras:MobileNetV3Small, with its preprocessing. "
    "package.module:function: what your function(image_shape, classes, **model_args) returns, a keras.Model. "
    "FILE.keras: a saved model, from whose weights the training starts.",
)
_MODEL_ARGS = flags.DEFINE_list(
    "model_args",
    [],
    "Arguments of the model that differ from its defaults, as units=64,dropout=0.5. The defaults are "
    + "; ".join(
        f"{name}: {', '.join(f'{key}={value}' for key, value in model.args.items())}"
        for name, model in MODELS.items()
    )
    + ".",
)
_NORMALIZE = flags.DEFINE_enum(
    "normalize",
    TrainConfig.normalize,
    list(NORMALIZE),
    "How the model makes the tones of images alike, in training and in prediction. none: not at all. "
    "equalize: it equalises the histogram of each image and channel. blend: it takes the mean of the image "
    "and the equalised image; in training their shares are drawn for each record. --augment changes tones "
    "after it.",
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    TrainConfig.weights,
    "What the weights start from. none: random values. FILE.keras or FILE.weights.h5: the layers of that "
    "file that have the name and the shape of a layer of the model; the others start from random values. "
    "RUN_DIR: the model of that run, likewise. imagenet: for keras:NAME, what Keras downloads. A run that "
    "is resumed reads its own checkpoint instead.",
)


def values() -> dict[str, Any]:
    """Returns what these flags say."""
    return {
        "model": MODEL.value,
        "model_args": parse_model_args(_MODEL_ARGS.value),
        "normalize": _NORMALIZE.value,
        "weights": _WEIGHTS.value,
    }


def short_name() -> str:
    """Returns the model's name for a folder: NAME of keras:NAME and module:NAME, or that of the file."""
    return Path(MODEL.value.rpartition(":")[2]).stem
