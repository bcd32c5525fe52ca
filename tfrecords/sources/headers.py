"""What the headers of all listed files tell, read by all processes: no pixel is decoded."""

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
from tfrecords.sources.keys import unified
from tfrecords.sources.privacy import no_key

NO_PATIENT: Final = "a DICOM file without a PatientID; tell what is of one patient by --group_regex"

_TASK: Final = 128  # files a task

Found = dict[int, tuple[str, str | None]]  # by position: why a file cannot be an image or "", PatientID


@dataclass(frozen=True)
class _Examiner:
    """Reads headers.

    Attributes:
        root: folder of the files.
        keyed: whether there is a key, without which no DICOM file is read; with it errors show no content.
    """

    root: Path
    keyed: bool

    def __call__(self, paths: Sequence[str], count: Count) -> Found:
        """Returns what is to be told of files, by their positions: nothing of an image that is in order."""
        found: Found = {}
        for number, path in enumerate(paths):
            reason, patient = self._examined(f"{self.root}/{path}")
            if reason or patient is not None:
                found[number] = reason, patient
            count(1)
        return found

    def _examined(self, path: str) -> tuple[str, str | None]:
        patient = None
        try:
            if not os.path.isfile(path):  # noqa: PTH113 - a Path for each of a million takes long
                os.stat(path)  # noqa: PTH116 - says what is wrong with a link
                return "neither a file nor a folder", None
            with open(path, "rb") as file:  # noqa: PTH123
                if check_kind(file.read(HEAD_BYTES), quote=not self.keyed) == "DICOM":
                    if not self.keyed:
                        raise InputError(no_key(self.root))
                    patient = ""
                file.seek(0)
                patient = check_header(file)
                if patient is not None:
                    patient = unified(patient)
        except (DecodeError, OSError) as error:
            return getattr(error, "strerror", None) or str(error), patient
        return "", patient


def examine(root: Path, paths: Sequence[str], pool: Pool, *, keyed: bool) -> Found:
    """Reads the header of each file.

    Args:
        root: folder of the files.
        paths: of each, below the root.
        pool: who reads them.
        keyed: whether there is a key; DICOM files need one.

    Returns:
        by position: why a file cannot be an image, or "", and whose DICOM file it is ("": it does not tell),
        or None. Of images that are in order, nothing.

    Raises:
        InputError: there is a DICOM file, and no key.
    """
    tasks = [paths[start : start + _TASK] for start in range(0, len(paths), _TASK)]
    parts = pool.run(partial(_Examiner, root, keyed), tasks, join=True)
    return {index * _TASK + number: told for index, part in enumerate(parts) for number, told in part.items()}


def without_patient(found: Found, grouped: Container[int]) -> Found:
    """Returns what was found, with DICOM files refused that tell no patient where nothing else tells groups.

    Args:
        found: see `examine`.
        grouped: positions of the files whose group is known.
    """
    return {
        number: (reason or NO_PATIENT if patient == "" and number not in grouped else reason, patient)
        for number, (reason, patient) in found.items()
    }
