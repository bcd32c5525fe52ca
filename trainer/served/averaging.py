"""One model that averages the probabilities of several networks; plain Keras loads it in safe mode."""

from collections.abc import Sequence
from typing import Final

import keras
from keras import ops

from tfrecords.errors import InputError
from trainer.run import Run

_LEAST: Final = 1e-30  # probability whose logarithm is taken


def averaged(models: Sequence[keras.Model]) -> keras.Model:
    """Returns a model whose probabilities are the means of those of several models.

    Args:
        models: each from uint8 [B, H, W, C] to logits [B, K], with the same shapes.

    Returns:
        a model from uint8 [B, H, W, C] to float32 [B, K]: the logarithms of the mean probabilities.
    """
    inputs = keras.Input(models[0].input_shape[1:], dtype=models[0].inputs[0].dtype, name="image")
    found = []
    for number, model in enumerate(models):
        again = keras.Input(model.input_shape[1:], dtype=model.inputs[0].dtype, name="image")
        member = keras.Model(again, model(again), name=f"member_{number}")
        found.append(ops.softmax(ops.cast(member(inputs), "float32"), axis=-1))
    mean = ops.mean(ops.stack(found), axis=0)
    return keras.Model(inputs, ops.log(ops.maximum(mean, _LEAST)), name=models[0].name)


def averaged_runs(runs: Sequence[Run]) -> keras.Model:
    """Returns the average of the models that runs have published.

    Raises:
        InputError: a run has no model yet, or one that cannot be loaded.
    """
    for run in runs:
        run.result()  # the file is that of the result
    try:
        return averaged([keras.models.load_model(run.model, compile=False, safe_mode=True) for run in runs])
    except (OSError, TypeError, KeyError) as error:
        raise InputError(f"a model cannot be loaded: {str(error).splitlines()[0]}; train it again") from None
