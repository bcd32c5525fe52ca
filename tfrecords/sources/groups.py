"""The group of an image, told by its path: what must not be in two splits."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final
from unicodedata import normalize

from tfrecords.errors import InputError
from tfrecords.sources.keys import unified, unified_path

# personN_bacteria_M, personN_virus_M, IM-N-M, NORMAL2-IM-N-M: the counters run separately per series.
CHEST_XRAY_GROUP: Final = r"(?:^|/)(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[-_][^/]*$"


def joined_by(expression: str | None, listing: Path | None, key_file: Path | None) -> str:
    """Returns what has told which images are of one group, for an error.

    Args:
        expression: what `--group_regex` says; None: the chest X-ray naming.
        listing: a file that may tell groups too, or None.
        key_file: with a key there may be DICOM files, whose patients are told; None: there is none.
    """
    told = ["the listing's column group"] if listing else []
    if expression is not None:
        return " or ".join([*told, f"--group_regex={expression!r}"])
    told += ["the PatientID of DICOM files"] if key_file else []
    return " or ".join([*told, f"the default --group_regex={CHEST_XRAY_GROUP!r} (the chest X-ray naming)"])


def group_finder(expression: str | None, odd: set[str] | None = None) -> Callable[[str], str | None]:
    """Returns what finds a path's group, or None; see `list_images` for the expression.

    The expression is searched in the path with its names unified, so that stray spaces and forms of Unicode
    make no other group; as what it was spelled then is added to `odd`.
    """
    try:
        pattern = re.compile(CHEST_XRAY_GROUP if expression is None else normalize("NFC", expression))
    except re.error as error:
        raise InputError(f"--group_regex={expression!r} is no regular expression: {error}") from None

    def find(path: str) -> str | None:
        clean = unified_path(path)
        found = _found(pattern, clean)
        name = None if found is None else unified(found)
        if odd is not None and name is not None:
            spelled = found if clean == path else _found(pattern, path)
            if spelled and spelled != name:
                odd.add(spelled)
        return name

    return find


def _found(pattern: re.Pattern[str], path: str) -> str | None:
    match = pattern.search(path)
    return match and next((found for found in match.groups() if found), match.group())
