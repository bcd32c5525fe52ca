"""Reads quantities in Kubernetes' notation: `4`, `500m`, `0.5`, `16Gi`, `2e9`."""

import re
from decimal import Decimal
from typing import Final

_FORM: Final = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(|[KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)")
_POWERS: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def value_of(text: object) -> Decimal | None:
    """Returns a quantity as a number, of bytes or cores; None if it is invalid.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    match = _FORM.fullmatch(str(text)) if isinstance(text, str | int) and not isinstance(text, bool) else None
    if not match:
        return None
    number, unit = Decimal(match[1]), match[2]
    if unit in _BINARY:
        return number * 1024 ** (_BINARY.index(unit) + 1)
    return number * Decimal(10) ** (_POWERS[unit] if unit in _POWERS else int(unit[1:]))
