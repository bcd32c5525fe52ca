"""Reads the file of --sampling=FILE.csv, a weight for each train image; imports no TensorFlow."""

import csv
import math
from pathlib import Path
from typing import Final

from tfrecords.errors import InputError
from tfrecords.files.atomic import file_sha256

ENDING: Final = ".csv"
COLUMNS: Final = ("id", "weight")
_FORM: Final = "a CSV file with the header id,weight and a line for each image of the train split"


def content_sha256(path: str) -> str:
    """Returns the SHA-256 of the file, by which a run knows it again.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return file_sha256(Path(path))
    except OSError as error:
        raise _unreadable(path, error.strerror or repr(error)) from None


def read_weights(path: str) -> dict[str, float]:
    """Returns the weight of each id, 0 or more, in the order of the file.

    Args:
        path: of a CSV file in UTF-8 with the columns `id` (as in sources.csv and in the records) and
            `weight`. Other columns are ignored.

    Raises:
        InputError: the file cannot be read, a column is missing, or a line has no id, an id that an earlier
            line has, or a weight that is no finite number from 0 on; or no weight is more than 0.
    """
    weights: dict[str, float] = {}
    lines: dict[str, int] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                found = ", ".join(rows.fieldnames or ()) or "nothing"
                raise InputError(
                    f"--sampling={path}: line 1: the header has no {' and no '.join(missing)} (found: "
                    f"{found}); must be {_FORM}"
                )
            for row in rows:
                name, where = row["id"] or "", f"--sampling={path}: line {rows.line_num}"
                if not name:
                    raise InputError(f"{where}: has no id; write one, or remove the line")
                if name in lines:
                    raise InputError(
                        f"{where}: the id {name!r} is on line {lines[name]} too; remove one of them"
                    )
                lines[name] = rows.line_num
                weights[name] = _weight(row["weight"], f"{where}: id {name!r}")
    except OSError as error:
        raise _unreadable(path, error.strerror or repr(error)) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, f"not CSV in UTF-8: {error}") from None
    if not any(weights.values()):
        raise InputError(
            f"--sampling={path}: no weight is more than 0 in {len(weights)} lines; must be {_FORM}"
        )
    return weights


def _weight(text: str | None, where: str) -> float:
    try:
        weight = float(text or "")
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InputError(f"{where}: weight {text or ''!r}: must be a finite number, 0 or more")
    return weight


def _unreadable(path: str, why: str) -> InputError:
    return InputError(f"--sampling={path}: cannot be read: {why}; must be natural, class, group, or {_FORM}")
