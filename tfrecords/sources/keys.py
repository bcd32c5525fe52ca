"""Text by which images, labels, groups and splits are compared: what looks the same is the same."""

import re
import unicodedata
from typing import Final

# What no eye sees: soft hyphen, zero-width characters, marks of direction, the byte order mark.
_UNSEEN: Final = "\u00ad\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
_EDGES: Final = re.compile(rf"^[\s{_UNSEEN}]+|[\s{_UNSEEN}]+$")
_SPACES: Final = re.compile(r"\s+")


def unified(text: str) -> str:
    """Returns a key without stray spaces of any kind around it, in Unicode's composed form (NFC).

    A run of spaces inside is one plain space, for a no-break space looks like any other.
    """
    return _SPACES.sub(" ", _EDGES.sub("", unicodedata.normalize("NFC", text)))
