"""Reads the headers of all listed files in all processes; no pixel is decoded."""

import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError
from tfrecords.images.decode import check_header
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind
from tfrecords.pool import Count, Pool
from tfrecords.sources.keys import normalized
from tfrecords.sources.privacy import no_key

NO_PATIENT: Final = "a DICOM file without a PatientID; name the patients with --group_regex"

_TASK: Final = 128  # files a task

# By position: (why a file is unusable, or ""; PatientID of a DICOM file).
HeaderResults = dict[int, tuple[str, str | None]]


@dataclass(frozen=True)
class _HeaderReader:
    """Reads headers.

    Attributes:
        root: folder of the files.
        keyed: whether there is a key. DICOM files need one; errors then quote nothing of a file.
    """

    root: Path
    keyed: bool

    def __call__(self, paths: Sequence[str], count: Count) -> HeaderResults:
        """Returns the result of each file that is unusable or DICOM, by its position."""
        found: HeaderResults = {}
        for number, path in enumerate(paths):
            reason, patient = self._read(f"{self.root}/{path}")
            if reason or patient is not None:
                found[number] = reason, patient
            count(1)
        return found

    def _read(self, path: str) -> tuple[str, str | None]:
        patient = None
        try:
            if not os.path.isfile(path):  # noqa: PTH113 - a Path for each of a million takes long
                os.stat(path)  # noqa: PTH116 - raises the error of a broken link
                return "neither a file nor a folder", None
            with open(path, "rb") as file:  # noqa: PTH123
                if check_kind(file.read(HEAD_BYTES), quote=not self.keyed) == "DICOM":
                    if not self.keyed:
                        raise InputError(no_key(self.root))
                    patient = ""
                file.seek(0)
                patient = check_header(file)
                if patient is not None:
                    patient = normalized(patient)
        except (DecodeError, OSError) as error:
            return getattr(error, "strerror", None) or str(error), patient
        return "", patient


def read_headers(root: Path, paths: Sequence[str], pool: Pool, *, keyed: bool) -> HeaderResults:
    """Reads the header of each file.

    Args:
        root: folder of the files.
        paths: path of each file below the root.
        pool: processes that read them.
        keyed: whether there is a key; DICOM files need one.

    Returns:
        By position: the reason why a file is unusable, or "", and the PatientID of a DICOM file ("" if it
        has none; None for other files). Usable images of other kinds are not in it.

    Raises:
        InputError: there is a DICOM file, but no key.
    """
    tasks = [paths[start : start + _TASK] for start in range(0, len(paths), _TASK)]
    parts = pool.run(partial(_HeaderReader, root, keyed), tasks, join=True)
    return {
        index * _TASK + number: result for index, part in enumerate(parts) for number, result in part.items()
    }


def reject_without_patient(found: HeaderResults, grouped: Container[int]) -> HeaderResults:
    """Returns the results, with a reason added for each DICOM file that has neither PatientID nor group.

    Args:
        found: of `read_headers`.
        grouped: positions of the files whose group is known from elsewhere.
    """
    return {
        number: (reason or NO_PATIENT if patient == "" and number not in grouped else reason, patient)
        for number, (reason, patient) in found.items()
    }
