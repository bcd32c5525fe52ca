"""How temperature and threshold are found: --temperature, --threshold_rule; imports no TensorFlow."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from tfrecords.errors import InputError
from trainer.evaluation.predictions import Predictions, Threshold, choose_threshold, require_both_classes

_ALLOWED: Final = (
    "must be youden, fixed:P, sensitivity:P or specificity:P with P from 0 to 1, or cost:FN:FP with the "
    "costs of a false negative and of a false positive, as cost:5:1"
)

UNCHANGED: Final = 1.0  # the temperature that changes nothing
LOWEST: Final = 0.1
HIGHEST: Final = 10.0


def fixed_temperature(text: str) -> float | None:
    """Returns the temperature that --temperature names; None: validation chooses it.

    Raises:
        InputError: it is neither `none`, `validation`, nor a number from `LOWEST` to `HIGHEST`.
    """
    if text in ("none", "validation"):
        return UNCHANGED if text == "none" else None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not LOWEST <= value <= HIGHEST:
        raise InputError(
            f"--temperature={text}: must be none, validation, or a number from {LOWEST:g} to {HIGHEST:g}, as "
            f"trainer.pool finds it"
        )
    return value


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is found.

    Attributes:
        name: "youden", "fixed", "sensitivity", "specificity" or "cost".
        values: what the rule needs: nothing for youden, a number from 0 to 1, or two costs.
    """

    name: str = "youden"
    values: tuple[Fraction, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the rule that --threshold_rule names; "" is youden.

        Raises:
            InputError: it names none.
        """
        name, *given = (text or "youden").replace("/", "?").split(":")  # a fraction is no number here
        wanted = {"youden": 0, "fixed": 1, "sensitivity": 1, "specificity": 1, "cost": 2}
        try:
            values = tuple(map(Fraction, given))
        except (ValueError, ZeroDivisionError):
            values = (Fraction(-1),)
        if len(values) != wanted.get(name) or min(values, default=Fraction(0)) < 0:
            raise InputError(f"--threshold_rule={text}: {_ALLOWED}")
        if (name != "cost" and max(values, default=Fraction(0)) > 1) or (name == "cost" and 0 in values):
            raise InputError(f"--threshold_rule={text}: {_ALLOWED}; a cost is more than 0")
        return cls(name, values)

    def __str__(self) -> str:
        """The rule as --threshold_rule takes it, the same for equal rules."""
        return ":".join([self.name, *(f"{float(value):.15g}" for value in self.values)])

    @property
    def fixed(self) -> float | None:
        """The threshold, if the rule names it; None: validation decides."""
        return float(self.values[0]) if self.name == "fixed" else None

    def in_words(self) -> str:
        """Returns what the threshold was chosen for, as the end of a sentence; "" for youden and fixed."""
        if self.name == "cost":
            fn, fp = (f"{float(value):g}" for value in self.values)
            return f" for the least cost, where a false negative costs {fn} and a false positive {fp}"
        goal = {"sensitivity": "specificity", "specificity": "sensitivity"}.get(self.name)
        return f" for the best {goal} with {self.name} >= {float(self.values[0]):g}" if goal else ""

    def choose(self, validation: Predictions) -> tuple[float, str]:
        """Returns the threshold for predictions of two classes, and what must be known of it.

        A goal of sensitivity takes, of the thresholds that reach it, the one with the most specificity, then
        with the most sensitivity; a goal of specificity the other way round. A cost takes the least; among
        equal ones the widest gap between the two scores that the threshold separates, then the one nearest to
        0.5. A threshold lies half-way in its gap. "youden" is `choose_threshold`.

        Returns:
            the threshold, and a sentence if the goal is not reached, or only if all records are predicted
            alike; else "".

        Raises:
            InputError: there are more than two classes, or records of one class only.
        """
        if self.fixed is not None:
            return self.fixed, ""
        if self.name == "youden":
            return choose_threshold(validation), ""
        require_both_classes(validation)
        cuts = _Cuts.of(validation)
        best = self._best(cuts)
        chosen = int(best[np.lexsort((np.abs(cuts.threshold - 0.5)[best], -cuts.gap[best]))[0]])
        return float(cuts.threshold[chosen]), self._note(validation, cuts, chosen)

    def chosen(self, validation: Predictions) -> Threshold:
        """Returns the threshold that `choose` finds, with the data that it was chosen on.

        Raises:
            InputError: one of two classes has no records.
        """
        if self == ThresholdRule() or not validation.binary:
            return Threshold.chosen(validation)
        threshold, note = self.choose(validation)
        records, groups = len(validation.ids), validation.groups_of_classes()
        if self.fixed is not None:
            records, groups = 0, ()
        return Threshold(threshold, records, groups, validation.positive_name, str(self), note)

    def _best(self, cuts: "_Cuts") -> npt.NDArray[np.int64]:
        """Returns the indices of the equally good cuts."""
        if self.name == "cost":
            fn, fp = self.values
            scale = fn.denominator * fp.denominator
            cost = [
                int(scale * (fn * missed + fp * found))  # whole, so ties are exact
                for missed, found in zip(cuts.fn.tolist(), cuts.fp.tolist(), strict=True)
            ]
            least = min(cost)
            return np.flatnonzero([each == least for each in cost])
        goal, other, records = cuts.tp, cuts.tn, cuts.positives
        if self.name == "specificity":
            goal, other, records = cuts.tn, cuts.tp, cuts.negatives
        enough = math.ceil(self.values[0] * records)
        # No threshold is above the score 1, so a specificity may be out of reach: then the most that is not.
        reached = np.flatnonzero(goal >= min(enough, int(goal.max())))
        return reached[np.lexsort((-goal[reached], -other[reached]))[:1]]

    def _note(self, validation: Predictions, cuts: "_Cuts", chosen: int) -> str:
        if self.name == "specificity":
            reached = Fraction(int(cuts.tn[chosen]), cuts.negatives)
            if reached < self.values[0]:
                return (
                    f"--threshold_rule={self} is not reached on validation, where specificity is at most "
                    f"{float(reached):.3g}: too many records have the probability 1"
                )
        predicted = int(cuts.tp[chosen] + cuts.fp[chosen])
        if 0 < predicted < len(validation.ids):
            return ""
        name = validation.class_names[validation.positive if predicted else 1 - validation.positive]
        return (
            f"--threshold_rule={self} is met on validation only if all its records are predicted as {name}: "
            f"the threshold separates nothing there"
        )


@dataclass(frozen=True)
class _Cuts:
    """All ways to cut records at a threshold, from all predicted positive to none.

    Attributes:
        threshold: float64 [M].
        gap: float64 [M], between the scores that it separates.
        tp: int64 [M]; `fp`, `fn`, `tn` alike.
    """

    threshold: npt.NDArray[np.float64]
    gap: npt.NDArray[np.float64]
    tp: npt.NDArray[np.int64]
    fp: npt.NDArray[np.int64]
    fn: npt.NDArray[np.int64]
    tn: npt.NDArray[np.int64]

    @property
    def positives(self) -> int:
        """Number of records of the positive class."""
        return int(self.tp[0] + self.fn[0])

    @property
    def negatives(self) -> int:
        """Number of records of the other class."""
        return int(self.fp[0] + self.tn[0])

    @classmethod
    def of(cls, validation: Predictions) -> Self:
        scores, inverse = np.unique(validation.scores, return_inverse=True)
        positive = validation.labels == validation.positive
        positives = np.bincount(inverse[positive], minlength=len(scores))
        negatives = np.bincount(inverse[~positive], minlength=len(scores))
        below, above = np.append(0.0, scores), np.append(scores, 1.0)
        middle = (below + above) / 2
        middle = np.where(middle > below, middle, above)  # neighbouring floats have no middle
        fn, tn = (np.append(0, np.cumsum(each)) for each in (positives, negatives))
        if scores[-1] == 1:  # no threshold is above it
            below, above, middle, fn, tn = (each[:-1] for each in (below, above, middle, fn, tn))
        tp, fp = positives.sum() - fn, negatives.sum() - tn
        return cls(middle, above - below, tp=tp, fp=fp, fn=fn, tn=tn)
