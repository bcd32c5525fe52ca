"""Chooses the positive class, the finding, of two classes: reports give its sensitivity.

The sorted order does not say which one it is: COVID comes before NORMAL, but PNEUMONIA after it. So the names
decide: a class whose name means normal is the negative class.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from tfrecords.errors import InputError
from tfrecords.sources.keys import normalized

# Names for: nothing was found.
_NOTHING: Final = frozenset(
    {
        *("normal", "normals", "norm", "healthy", "negative", "negatives", "neg", "none", "nothing"),
        *("uninfected", "unaffected", "undamaged", "intact", "unremarkable", "asymptomatic"),
        *("empty", "blank", "background"),
    }
)
_NOTHING_AT_THE_END: Final = frozenset({"free", "absent"})  # tumor_free, but not free_fluid
# Names for what a finding is compared with; beside them "normal" is the negative class.
_HARMLESS: Final = frozenset({"benign", "control", "controls", "ctrl"})
# Praise, which counts only if it is the whole difference of the two names: ok_front and def_front, but not
# clear_cell_carcinoma and papillary_carcinoma.
_PRAISE: Final = frozenset({"clear", "clean", "good", "ok", "okay", "pass", "passed", "safe", "fine", "well"})
_NORMAL: Final = _NOTHING | _HARMLESS | _PRAISE
_NOT: Final = frozenset({"no", "not", "non", "without"})
_PREFIXES: Final = (*sorted(_NOT), "un")
# Words that begin with a denial: nontumor, notumor. Any word may follow "non", but only these "no", because
# of nodule or nose.
_DENIED: Final = re.compile(
    r"non(?P<what>\w{4,})|no(tumou?rs?|cancer|findings?|diseases?|lesions?|fractures?|defects?|damage|fire)"
)


def positive_class(class_names: Sequence[str], chosen: str = "") -> str:
    """Returns the class that is the finding; "" for more than two classes, which have none.

    Args:
        class_names: the classes of the data set.
        chosen: the class that --positive names. "" lets the names decide: a name that means normal is the
            negative class. If both names mean normal, or neither does, the finding is the second class.

    Raises:
        InputError: the chosen name is no class, or there are more than two classes.
    """
    if chosen:
        return chosen_class(class_names, chosen)
    if len(class_names) != 2:
        return ""
    first, second = _degrees(*class_names)
    return class_names[0] if second > first else class_names[1]


def positive_in_words(class_names: Sequence[str], chosen: str = "") -> str:
    """Returns the positive class with the reason and how to change it; "" for more than two classes.

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
        mean = "both names mean" if degrees[other] else "neither name means"
        why = f"the last in order, because {mean} normal; if {other} is the finding, give --positive={other}"
    return f"{positive} ({why})"


def chosen_class(class_names: Sequence[str], chosen: str) -> str:
    """Returns the class that --positive names, spelled as in the data set; "" if the flag is not given.

    Raises:
        InputError: as `positive_class`.
    """
    if not chosen:
        return ""
    matches = [name for name in class_names if normalized(name) == normalized(chosen)]
    if len(class_names) != 2:
        raise InputError(
            f"--positive={chosen}: is for two classes, but there are {len(class_names)}; of more classes "
            f"each is measured against the rest, and reports give the mean: leave out --positive"
        )
    if not matches:
        raise InputError(f"--positive={chosen}: is not a class; must be one of {', '.join(class_names)}")
    return matches[0]


def _degrees(first: str, second: str) -> tuple[int, int]:
    """Returns how clearly each of two names means normal, from 0 (not at all) to 2."""
    return _degree(first, second), _degree(second, first)


def _degree(name: str, other: str) -> int:
    words, others = _words(name), _words(other)
    if others and "".join(words) in {prefix + "".join(others) for prefix in _PREFIXES}:  # unrusted, rusted
        return 0 if _plain_degree(others) or _PRAISE.issuperset(others) else 2
    own = [word for word in words if word not in others] or words
    if len(own) == 1 and own[0] in _PRAISE:
        return 1
    return _plain_degree(words)


def _plain_degree(words: Sequence[str]) -> int:
    """Returns how clearly words mean normal by themselves; 0 if they deny it, such as "not normal"."""
    degree = 0
    for place, word in enumerate(words):
        denied = _DENIED.fullmatch(word)
        if word in _NOT or denied:
            what = denied["what"] if denied else "".join(words[place + 1 : place + 2])
            if what in _NORMAL:
                return 0
            degree = 2
        elif word in _NOTHING or (word in _NOTHING_AT_THE_END and place == len(words) - 1):
            degree = 2
        elif word in _HARMLESS:
            degree = max(degree, 1)
    return degree


def _words(name: str) -> list[str]:
    """Returns the words of a name in lower case: NoFinding, no_finding and NO-FINDING-2 are equal."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", unicodedata.normalize("NFKC", name))
    return re.findall(r"[^\W\d_]+", spaced.casefold())
