"""Which of two classes is the finding: the one whose sensitivity is told.

The classes stand in sorted order, which says nothing: COVID comes before NORMAL, PNEUMONIA after it. So the
names are read: one that says normal is the negative class, whatever its place.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from tfrecords.errors import InputError
from tfrecords.sources.keys import unified

# Nothing was found, whatever is looked for.
_NOTHING: Final = frozenset(
    {
        *("normal", "normals", "norm", "healthy", "negative", "negatives", "neg", "none", "nothing"),
        *("uninfected", "unaffected", "undamaged", "intact", "unremarkable", "asymptomatic"),
        *("empty", "blank", "background"),
    }
)
_NOTHING_AT_THE_END: Final = frozenset({"free", "absent"})  # tumor_free, but not free_fluid
# What a finding is compared with; "normal" is more negative than these.
_HARMLESS: Final = frozenset({"benign", "control", "controls", "ctrl"})
# Praise, which counts only where nothing else tells the two names apart: ok_front beside def_front, but not
# clear_cell_carcinoma beside papillary_carcinoma.
_PRAISE: Final = frozenset({"clear", "clean", "good", "ok", "okay", "pass", "passed", "safe", "fine", "well"})
_NORMAL: Final = _NOTHING | _HARMLESS | _PRAISE
_NOT: Final = frozenset({"no", "not", "non", "without"})
_PREFIXES: Final = (*sorted(_NOT), "un")
# The denial inside a word: nontumor, notumor. Any word may follow "non", but few "no": nodule, nose.
_DENIED: Final = re.compile(
    r"non(?P<what>\w{4,})|no(tumou?rs?|cancer|findings?|diseases?|lesions?|fractures?|defects?|damage|fire)"
)


def positive_class(class_names: Sequence[str], chosen: str = "") -> str:
    """Returns the class that is the finding, or "" of more than two classes, which have none.

    Args:
        class_names: of the data set.
        chosen: the class that --positive names; "" for none: then a name that says normal is the negative
            class and the other one the finding. If both names say so or none does, it is the second.

    Raises:
        InputError: what was chosen is no class, or there are more than two.
    """
    if chosen:
        return chosen_class(class_names, chosen)
    if len(class_names) != 2:
        return ""
    first, second = _degrees(*class_names)
    return class_names[0] if second > first else class_names[1]


def positive_in_words(class_names: Sequence[str], chosen: str = "") -> str:
    """Returns the positive class, why it is that, and how to change it; "" of more than two classes.

    Raises:
        InputError: as `positive_class`.
    """
    positive = positive_class(class_names, chosen)
    if not positive:
        return ""
    (other,) = (name for name in class_names if name != positive)
    degrees = dict(zip(class_names, _degrees(*class_names), strict=True))
    if chosen:
        why = "as --positive says"
    elif degrees[other] > degrees[positive]:
        why = f"{other} is the negative class by its name; if it is not, give --positive={other}"
    else:
        says = "both names say" if degrees[other] else "neither name says"
        why = f"the last in order, for {says} normal; if {other} is the finding, give --positive={other}"
    return f"{positive} ({why})"


def chosen_class(class_names: Sequence[str], chosen: str) -> str:
    """Returns the class that --positive names, as the data set spells it; "" if it names none.

    Raises:
        InputError: as `positive_class`.
    """
    if not chosen:
        return ""
    same = [name for name in class_names if unified(name) == unified(chosen)]
    if len(class_names) != 2:
        raise InputError(
            f"--positive={chosen}: is for two classes, and there are {len(class_names)}; of more, each is "
            f"measured against the rest and the mean is told: leave it out"
        )
    if not same:
        raise InputError(f"--positive={chosen}: is no class; must be one of {', '.join(class_names)}")
    return same[0]


def _degrees(first: str, second: str) -> tuple[int, int]:
    """How much each of two names says normal, from 0, not at all, to 2."""
    return _degree(first, second), _degree(second, first)


def _degree(name: str, other: str) -> int:
    words, others = _words(name), _words(other)
    if others and "".join(words) in {prefix + "".join(others) for prefix in _PREFIXES}:  # unrusted, rusted
        return 0 if _said(others) or _PRAISE.issuperset(others) else 2
    own = [word for word in words if word not in others] or words
    if len(own) == 1 and own[0] in _PRAISE:
        return 1
    return _said(words)


def _said(words: Sequence[str]) -> int:
    """How much words say normal by themselves; 0 if they deny it, as "not normal"."""
    said = 0
    for place, word in enumerate(words):
        denied = _DENIED.fullmatch(word)
        if word in _NOT or denied:
            what = denied["what"] if denied else "".join(words[place + 1 : place + 2])
            if what in _NORMAL:
                return 0
            said = 2
        elif word in _NOTHING or (word in _NOTHING_AT_THE_END and place == len(words) - 1):
            said = 2
        elif word in _HARMLESS:
            said = max(said, 1)
    return said


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without digits: NoFinding, no_finding and NO-FINDING-2 are alike."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", unicodedata.normalize("NFKC", name))
    return re.findall(r"[^\W\d_]+", spaced.casefold())
