"""A fitted classical model and its file, in the format of skops, which runs no code when a file is loaded."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError
from trainer.classical.features import Features, area_means
from trainer.classical.forest import Forest

SUFFIX: Final = ".skops"
# Types that are loaded beside those that skops trusts by itself (arrays, and estimators of scikit-learn other
# than trees): none.
TRUSTED: Final[tuple[str, ...]] = ()
_ONE_THREAD: Final = 1  # of BLAS, because its sums depend on the number of threads


@dataclass(frozen=True)
class Fitted:
    """A fitted model.

    Attributes:
        pipeline: a pipeline of scikit-learn or a `Forest`, from features to scores or probabilities.
        calibration: a classifier from scores to probabilities; None: the pipeline gives probabilities.
        pixels: of the features; see `area_means`.
        image_shape: (height, width, channels) of the images that it takes.
        classes: number of classes, K.
    """

    pipeline: Any
    calibration: Any
    pixels: int
    image_shape: tuple[int, int, int]
    classes: int

    def probabilities(self, features: Features) -> npt.NDArray[np.float64]:
        """Returns float64 [N, K] for float32 [N, P]."""
        found = scores(self.pipeline, features)
        if self.calibration is not None:
            found = self.calibration.predict_proba(found)
        return found / found.sum(axis=1, keepdims=True)

    def save(self, path: Path) -> None:
        """Writes the model.

        Raises:
            InputError: the extra `baseline` is not installed.
            OSError: the file cannot be written.
        """
        skops = skops_io()
        buffer = io.BytesIO()
        skops.dump(
            {
                "pipeline": None if isinstance(self.pipeline, Forest) else self.pipeline,
                "forest": self.pipeline.arrays() if isinstance(self.pipeline, Forest) else None,
                "calibration": self.calibration,
                "pixels": self.pixels,
                "image_shape": list(self.image_shape),
                "classes": self.classes,
            },
            buffer,
        )
        path.write_bytes(buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Fitted":
        """Reads what `save` wrote.

        Raises:
            InputError: there is no such file, or it holds no model or a type that is not trusted; or the
                extra `baseline` is not installed.
        """
        skops = skops_io()
        from skops.io.exceptions import UntrustedTypesFoundException

        try:
            values = skops.load(path, trusted=list(TRUSTED))
            forest, calibration = values["forest"], values["calibration"]
            pipeline = values["pipeline"] if forest is None else Forest.from_arrays(forest)
            for part in (pipeline, *(() if calibration is None else (calibration,))):
                if not (hasattr(part, "predict_proba") or hasattr(part, "decision_function")):
                    raise ValueError(f"{type(part).__name__} where a classifier is expected")
            return cls(
                pipeline,
                calibration,
                int(values["pixels"]),
                tuple(values["image_shape"]),
                int(values["classes"]),
            )
        except FileNotFoundError:
            raise InputError(
                f"{path}: not there yet; the command that started the run goes on with it"
            ) from None
        except UntrustedTypesFoundException as error:
            found = str(error).splitlines()[0]
            raise InputError(
                f"{path}: {found} No model of this project has these types; fit it again"
            ) from None
        except Exception as error:  # of zlib, zipfile or NumPy: whatever a changed byte leads to
            raise InputError(f"{path}: cannot be loaded: {error!r}; fit it again") from None


class SavedModel:
    """A classical model that was loaded from its file; it is used as `trainer.inference.Predictor` is.

    Args:
        path: of the file.
        batch_size: rows of each computation. It is the same for any number of images, so that the result of
            an image is the same, too.

    Raises:
        InputError: as `Fitted.load`.
    """

    def __init__(self, path: Path, batch_size: int) -> None:
        from threadpoolctl import ThreadpoolController

        self._fitted, self._batch_size = Fitted.load(path), batch_size
        self._pools = ThreadpoolController()

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Returns float64 [N, K] for uint8 [N, H, W, C] with N at most the batch size."""
        count = len(images)
        full = np.zeros((self._batch_size, *images.shape[1:]), np.uint8)
        full[:count] = images
        with self._pools.limit(limits=_ONE_THREAD):
            return self._fitted.probabilities(area_means(full, self._fitted.pixels))[:count]


def scores(pipeline: Any, features: Features) -> npt.NDArray[np.float64]:
    """Returns one number for each class, float64 [N, K]: probabilities, or distances from a boundary."""
    if hasattr(pipeline, "predict_proba"):
        return np.asarray(pipeline.predict_proba(features), np.float64)
    found = np.asarray(pipeline.decision_function(features), np.float64)
    return np.stack([-found, found], axis=1) if found.ndim == 1 else found


def skops_io() -> Any:
    """Returns skops.io.

    Raises:
        InputError: the extra `baseline` is not installed.
    """
    try:
        import skops.io
    except ImportError as error:
        raise InputError(
            f"a classical model's file cannot be read or written ({error}); install the extra `baseline`: "
            f"pip install 'shardlight[baseline]'"
        ) from None
    return skops.io
