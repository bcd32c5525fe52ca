"""What a report says in numbers: threshold, metrics with their intervals, and what each metric is called."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tfrecords.errors import InputError
from trainer.evaluation.metric_table import BY_NAME, PREFIX, REPORTED, names, title_of
from trainer.evaluation.report import read_report

VAL_LOSS: Final = f"{PREFIX}loss"
# Those that no threshold changes come first: they compare models, not operating points.
# The accuracy on images that contradict the shortcut comes last: not every report has it.
CONTRADICTING: Final = "contradicting"
HEADLINES: Final = (
    *names(
        sorted((metric for metric in REPORTED if metric.headline), key=lambda metric: metric.needs_threshold)
    ),
    CONTRADICTING,
)
_NUMBERS: Final = ("value", "low", "high")


@dataclass(frozen=True)
class Reported:
    """The figures of a report.

    Attributes:
        estimates: by metric, in the report's order: value, low, high and method, as report.json has them.
        contradicting: the estimate of the accuracy on images that contradict the shortcut; None without one.
        threshold: the probability of the positive class from which it is predicted; None with more than two
            classes.
        records: evaluated.
        groups: that they belong to.
        facts: the report's facts.
        content: all of report.json.
    """

    estimates: Mapping[str, Mapping[str, Any]]
    threshold: float | None
    records: int
    groups: int
    facts: Mapping[str, str]
    content: Mapping[str, Any]
    contradicting: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, folder: Path) -> "Reported":
        """Reads a report's folder.

        Raises:
            InputError: there is no report, or it is damaged.
        """
        content = read_report(folder)
        try:
            decision = content["decisions"].get("chosen") or content["decisions"]["default"]
            estimates = {name: dict(values) for name, values in decision["estimates"].items()}
            against = content.get("shortcut", {}).get("contradicting", {}).get("accuracy")
            if against is not None:
                against = dict(against)
            for name, values in [*estimates.items(), *([(CONTRADICTING, against)] if against else [])]:
                if not all(_is_number_or_none(values[key]) for key in _NUMBERS):
                    raise ValueError(f"{name} is {values}")
            return cls(
                estimates,
                decision["threshold"],
                int(content["records"]),
                int(content["groups"]),
                dict(content["facts"]),
                content,
                against,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{folder / 'report.json'}: is damaged or of another version ({error!r}); write it again "
                "with python -m trainer.evaluate"
            ) from None


def title(metric: str) -> str:
    """Returns what people call a metric of a report, or the validation loss."""
    others = {VAL_LOSS: "validation loss", CONTRADICTING: "Accuracy, shortcut contradicts"}
    return others.get(metric) or title_of(metric)


def lower_is_better(metric: str) -> bool:
    """Returns whether a lower value of a metric is the better one."""
    return metric == VAL_LOSS or (metric in BY_NAME and BY_NAME[metric].better == "low")


def bounds_of(metric: str) -> tuple[float, float] | None:
    """Returns the lowest and the highest value that a metric can have; None: it has no bounds, so no bar."""
    if metric == CONTRADICTING:
        return (0.0, 1.0)
    return BY_NAME[metric].bounds if metric in BY_NAME else None


def _is_number_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))
