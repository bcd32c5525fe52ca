"""Model.

The flags that choose the network.
"""

from pathlib import Path
from typing import Any

from absl import flags

from trainer.config import TrainConfig
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


def values() -> dict[str, Any]:
    """Returns what these flags say."""
    return {"model": MODEL.value, "model_args": parse_model_args(_MODEL_ARGS.value)}


def short_name() -> str:
    """Returns the model's name for a folder: NAME of keras:NAME and module:NAME, or that of the file."""
    return Path(MODEL.value.rpartition(":")[2]).stem
