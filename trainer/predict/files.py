"""Prediction of image files with a run's model, by the same decoding and resizing as conversion."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError
from tfrecords.files import write_atomically
from tfrecords.images.decode import decode
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, is_dicom
from tfrecords.sources.class_folders import image_files
from trainer.evaluation.evaluate_run import load_result
from trainer.evaluation.predictions import POSITIVE
from trainer.inference import BATCH_SIZE
from trainer.run import Run


@dataclass(frozen=True)
class Answer:
    """The model's answer for one file.

    Attributes:
        file: its path, as given or found below a folder.
        predicted: for two classes by the run's threshold, as in its report; else the most probable.
        probabilities: float64 [K], in the order of the class names.
    """

    file: Path
    predicted: str
    probabilities: npt.NDArray[np.float64]


def predict_files(run: Run, paths: Sequence[Path]) -> Iterator[Answer]:
    """Yields the model's answers for files, and for all images below folders, in order.

    Raises:
        InputError: no model yet, no image, or one that cannot be decoded.
    """
    files = image_files(paths)
    predictor, result = load_result(run)
    threshold = result.threshold
    if threshold is None and len(run.data.class_names) == 2:
        raise InputError(
            f"{run.folder}: the threshold chosen on validation is not there; make it with\n"
            f"  python -m trainer.evaluate --run_dir={run.folder}"
        )
    height, width, channels = run.data.image_shape
    for start in range(0, len(files), BATCH_SIZE):
        part = files[start : start + BATCH_SIZE]
        images = []
        for number, file in enumerate(part, start + 1):
            name = str(file)
            try:
                data = file.read_bytes()
                if is_dicom(data[:HEAD_BYTES]):  # whose name may hold a patient's
                    name = f"file {number} of {len(files)}, a DICOM file (folders are read in sorted order)"
                pixels = decode(
                    data,
                    height=height,
                    width=width,
                    channels=channels,
                    resize=run.data.resize,
                    value_range=run.data.value_range,
                )
                images.append(pixels)
            except (DecodeError, OSError) as error:
                reason = getattr(error, "strerror", None) or error
                raise InputError(f"{name}: {reason}; remove it from the call or repair it") from None
        for file, row in zip(part, predictor.probabilities(np.stack(images)), strict=True):
            label = int(row.argmax()) if threshold is None else int(row[POSITIVE] >= threshold)
            yield Answer(file, run.data.class_names[label], row)


def write_csv(path: Path, class_names: Sequence[str], answers: Sequence[Answer]) -> None:
    """Writes the columns `file`, `predicted` and a `probability_CLASS` for each class.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "predicted", *(f"probability_{name}" for name in class_names)])
    for answer in answers:
        table.writerow([answer.file, answer.predicted, *answer.probabilities.tolist()])
    try:
        write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise InputError(f"--csv={path}: cannot be written: {error.strerror}") from None
