"""Finds the group of an image, such as a patient, in its path; a group must not be in two splits."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final
from unicodedata import normalize

from tfrecords.errors import InputError
from tfrecords.sources.keys import normalized, normalized_path

# personN_bacteria_M, personN_virus_M, IM-N-M, NORMAL2-IM-N-M: each of the four series counts by itself.
CHEST_XRAY_GROUP: Final = r"(?:^|/)(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[-_][^/]*$"


def joined_by(expression: str | None, listing: Path | None, key_file: Path | None) -> str:
    """Returns where the groups come from, in words, for an error.

    Args:
        expression: value of `--group_regex`; None for the chest X-ray naming.
        listing: a table that may name groups, or None.
        key_file: file of the key; only with a key there may be DICOM files, which name patients.
    """
    origins = ["the listing's column group"] if listing else []
    if expression is not None:
        return " or ".join([*origins, f"--group_regex={expression!r}"])
    origins += ["the PatientID of DICOM files"] if key_file else []
    return " or ".join([*origins, f"the default --group_regex={CHEST_XRAY_GROUP!r} (the chest X-ray naming)"])


def group_finder(expression: str | None, odd: set[str] | None = None) -> Callable[[str], str | None]:
    """Returns a function from a path to its group, or None; see `list_images` for the expression.

    The expression is searched in the normalized path, so that stray spaces and Unicode forms make no new
    group. Group names that were spelled differently are added to `odd`.
    """
    try:
        pattern = re.compile(CHEST_XRAY_GROUP if expression is None else normalize("NFC", expression))
    except re.error as error:
        raise InputError(f"--group_regex={expression!r} is not a regular expression: {error}") from None

    def find(path: str) -> str | None:
        clean = normalized_path(path)
        found = _found(pattern, clean)
        name = None if found is None else normalized(found)
        if odd is not None and name is not None:
            spelled = found if clean == path else _found(pattern, path)
            if spelled and spelled != name:
                odd.add(spelled)
        return name

    return find


def _found(pattern: re.Pattern[str], path: str) -> str | None:
    match = pattern.search(path)
    return match and next((found for found in match.groups() if found), match.group())
