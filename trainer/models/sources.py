"""What --weights takes; imports no Keras, so that configurations check it at once."""

from typing import Final

from tfrecords.errors import InputError

NONE: Final = "none"
IMAGENET: Final = "imagenet"
WEIGHTS_FILE: Final = ".weights.h5"
MODEL_FILE: Final = ".keras"
FORMS: Final = f"{NONE}, {IMAGENET}, FILE{MODEL_FILE}, FILE{WEIGHTS_FILE} or RUN_DIR"


def check_weights(weights: str, model: str) -> None:
    """Raises InputError unless a model may start from these weights.

    Args:
        weights: `NONE`, `IMAGENET`, a file that ends in `MODEL_FILE` or `WEIGHTS_FILE`, or a run directory.
        model: what --model says.
    """
    if weights == IMAGENET and not model.startswith("keras:"):
        raise InputError(
            f"--weights={weights}: is for --model=keras:NAME, not for {model}; give a file or a run"
        )
    if not weights or (weights.endswith((".h5", ".hdf5")) and not weights.endswith(WEIGHTS_FILE)):
        raise InputError(
            f"--weights={weights}: must be {FORMS}; "
            f"a whole model in .h5 may run code of its own: load and save it with Keras as FILE{MODEL_FILE}"
        )
