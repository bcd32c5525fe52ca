"""Reads values of a DICOM header; a DecodeError names the attribute and never shows its value."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tfrecords.images.kinds import DecodeError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag


@cache
def tag_of(name: str) -> "BaseTag":
    """Returns the tag of an attribute, cached: pydicom takes as long to look it up as to read a value."""
    from pydicom.tag import Tag

    return Tag(name)


def has(dataset: "Dataset", name: str) -> bool:
    """Returns whether the header has an attribute, with or without a value."""
    return tag_of(name) in dataset


def value_of(dataset: "Dataset", name: str) -> Any:
    """Returns an attribute's value as pydicom reads it; None if it is missing or empty."""
    if not has(dataset, name):
        return None
    try:
        value = dataset[tag_of(name)].value
    except Exception:
        raise DecodeError(f"a DICOM file whose {name} cannot be read") from None
    return None if isinstance(value, str) and not value.strip() else value


def values_of(dataset: "Dataset", name: str) -> list[Any]:
    """Returns an attribute's values; an empty list if it is missing."""
    value = value_of(dataset, name)
    if value is None:
        return []
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str) else [value]


def text(dataset: "Dataset", name: str) -> str:
    """Returns the first text of an attribute, stripped; "" if it is missing."""
    return str(next(iter(values_of(dataset, name)), "") or "").strip()


def whole(dataset: "Dataset", name: str, default: int | None = None) -> int:
    """Returns the whole number of an attribute; the default, if there is one, if it is missing."""
    value = value_of(dataset, name)
    if value is None:
        if default is None:
            raise DecodeError(f"a DICOM file whose {name} is missing")
        return default
    if not isinstance(value, int):
        raise DecodeError(f"a DICOM file whose {name} is not a whole number")
    return int(value)


def real(value: Any, name: str) -> float:
    """Returns one of an attribute's values as a number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DecodeError(f"a DICOM file whose {name} is not a number") from None
    if not abs(number) < 1e12:  # refuses NaN too, and keeps products with it finite
        raise DecodeError(f"a DICOM file whose {name} is out of range")
    return number


def items(dataset: "Dataset", name: str) -> "Sequence[Dataset]":
    """Returns the items of a sequence; none if it is missing."""
    value = value_of(dataset, name)
    return () if value is None or isinstance(value, str | bytes) else value


def places(dataset: "Dataset", macro: str) -> "Iterator[Dataset]":
    """Yields the places of a functional group's attributes: the frame, all frames, then the file itself."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for frame in items(dataset, groups)[:1]:
            yield from items(frame, macro)[:1]
    yield dataset
