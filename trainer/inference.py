"""The probabilities of a trained model, computed in one way for evaluation and for prediction of files."""

from pathlib import Path
from typing import Any, Final, Protocol, Self

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords.errors import InputError
from trainer.classical.saved import SUFFIX, SavedModel

# One batch size for both: so an image has the same result in evaluation and in prediction.
BATCH_SIZE: Final = 32


class Probabilities(Protocol):
    """A saved model of any kind."""

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Returns float64 [N, K] for uint8 [N, H, W, C] with N at most `BATCH_SIZE`."""
        ...


def load_predictor(path: Path) -> Probabilities:
    """Loads a saved model, a network or a baseline.

    Raises:
        InputError: there is none yet, or it cannot be loaded.
    """
    return SavedModel(path, BATCH_SIZE) if path.suffix == SUFFIX else Predictor(path)


class Predictor:
    """Class probabilities of a saved network.

    Args:
        path: of the Keras file.

    Raises:
        InputError: there is none yet, or it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise InputError(
                f"{path}: not there yet; the run has not ended: the command that started it resumes it"
            )
        try:
            # Safe mode: a file from elsewhere cannot run code of its own.
            self._model = keras.models.load_model(path, compile=False, safe_mode=True)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: cannot be loaded: {str(error).splitlines()[0]}; train it again"
            ) from None
        self._serve()

    @classmethod
    def of(cls, model: keras.Model) -> Self:
        """Returns a predictor with a model that is in memory."""
        made = cls.__new__(cls)
        made._model = model
        made._serve()
        return made

    def _serve(self) -> None:
        self._logits = tf.function(lambda images: self._model(images, training=False))

    def probabilities(self, images: Any) -> npt.NDArray[np.float64]:
        """Returns float64 [N, K] for uint8 [N, H, W, C] with N at most `BATCH_SIZE`."""
        count = len(images)
        full = np.zeros((BATCH_SIZE, *images.shape[1:]), np.uint8)
        full[:count] = images
        logits = np.asarray(self._logits(tf.constant(full)), np.float64)[:count]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
