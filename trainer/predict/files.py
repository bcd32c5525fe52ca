"""Predicts image files with a run's model; decodes and resizes them as a conversion does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError
from tfrecords.images.decode import decode
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind, is_dicom
from trainer.evaluation.evaluate_run import load_result
from trainer.inference import BATCH_SIZE
from trainer.predict.listing import ListedFile, is_no_image, list_files, named_as_dicom
from trainer.run import Run

_MOST_WAITING: Final = 1024  # the most files that wait for a full batch, if few of them can be used


@dataclass(frozen=True)
class Prediction:
    """The predicted class of one file.

    Attributes:
        file: its path, as given or found in a folder.
        predicted: the class; with two classes by the run's threshold, as in its report, else the most
            probable one.
        probabilities: float64 [K], in the order of the class names.
    """

    file: Path
    predicted: str
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True)
class LeftOut:
    """A file that cannot be predicted.

    Attributes:
        file: its path, as given or found in a folder.
        shown: its path in messages; for a DICOM file, whose name may hold a patient's, its position instead.
        reason: why it cannot be used.
    """

    file: Path
    shown: str
    reason: str


@dataclass(frozen=True)
class Skipped:
    """A file in a folder that is no image, such as a text beside images."""

    file: Path


Outcome = Prediction | LeftOut | Skipped


def predict_files(run: Run, paths: Sequence[Path]) -> Iterator[Outcome]:
    """Yields the outcome of each file, and of all files in folders; see `predict_listed`."""
    return predict_listed(run, list_files(paths))


def predict_listed(run: Run, files: Sequence[ListedFile]) -> Iterator[Outcome]:
    """Yields the outcome of each file: predictions and files left out in order, skipped ones before them.

    Each file is read once, when its turn comes, so a file may also be a pipe; memory does not grow.

    Raises:
        InputError: the run has no model yet, or no threshold.
    """
    predictor, result = load_result(run)
    threshold = result.threshold
    if threshold is None and len(run.data.class_names) == 2:
        raise InputError(
            f"{run.folder}: the threshold chosen on validation is not there; make it with\n"
            f"  python -m trainer.evaluate --run_dir={run.folder}"
        )
    height, width, channels = run.data.image_shape
    positive = run.data.class_names.index(result.positive) if result.positive else 1
    waiting: list[Path | LeftOut] = []
    images: list[npt.NDArray[np.uint8]] = []

    def batch_outcomes() -> Iterator[Outcome]:
        rows = iter(predictor.probabilities(np.stack(images))) if images else iter(())
        for file in waiting:
            if isinstance(file, LeftOut):
                yield file
                continue
            row = next(rows)
            label = int(row.argmax())
            if threshold is not None:
                label = positive if row[positive] >= threshold else 1 - positive
            yield Prediction(file, run.data.class_names[label], row)
        waiting.clear()
        images.clear()

    for number, listed in enumerate(files, 1):
        position = f"file {number} of {len(files)}, a DICOM file (folders are read in sorted order)"
        file, shown = Path(listed.path), position if named_as_dicom(listed.path) else listed.path
        try:
            data = _read(listed)
            if data is None:
                yield Skipped(file)
                continue
            if is_dicom(data[:HEAD_BYTES]):
                shown = position
            pixels = decode(
                data,
                height=height,
                width=width,
                channels=channels,
                resize=run.data.resize,
                value_range=run.data.value_range,
            )
            images.append(pixels)
            waiting.append(file)
        except (DecodeError, InputError, OSError) as error:  # InputError: the format's extra is not installed
            waiting.append(LeftOut(file, shown, str(getattr(error, "strerror", None) or error)))
        if len(images) == BATCH_SIZE or len(waiting) == _MOST_WAITING:
            yield from batch_outcomes()
    yield from batch_outcomes()


def _read(listed: ListedFile) -> bytes | None:
    """Returns the bytes of a file; None if it is no image and was found in a folder.

    Raises:
        DecodeError: it is no image, but was named, or looks like one.
        OSError: it cannot be read.
    """
    if listed.problem:
        raise DecodeError(listed.problem)
    with open(listed.path, "rb") as file:  # noqa: PTH123 - a Path takes as long
        head = file.read(HEAD_BYTES)
        try:
            check_kind(head, quote=not named_as_dicom(listed.path))
        except DecodeError:
            if not listed.named and is_no_image(listed.path, head):
                return None
            raise
        return head + file.read()
