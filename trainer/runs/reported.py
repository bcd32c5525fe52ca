"""What a report says in numbers: threshold, metrics with their intervals, and what each metric is called."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tfrecords.errors import InputError
from trainer.evaluation.report import read_report

HEADLINES: Final = ("auroc", "accuracy", "sensitivity", "specificity")
_TITLES: Final = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "mcc": "MCC"}
_LOWER_IS_BETTER: Final = ("loss", "brier", "val_loss")
_UNBOUNDED: Final = ("loss", "brier")
_NUMBERS: Final = ("value", "low", "high")


@dataclass(frozen=True)
class Reported:
    """The figures of a report.

    Attributes:
        estimates: by metric, in the report's order: value, low, high and method, as report.json has them.
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
            for name, values in estimates.items():
                if not all(_is_number_or_none(values[key]) for key in _NUMBERS):
                    raise ValueError(f"{name} is {values}")
            return cls(
                estimates,
                decision["threshold"],
                int(content["records"]),
                int(content["groups"]),
                dict(content["facts"]),
                content,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{folder / 'report.json'}: is damaged or of another version ({error!r}); write it again "
                "with python -m trainer.evaluate"
            ) from None


def title(metric: str) -> str:
    """Returns what people call a metric."""
    return _TITLES.get(metric, metric.replace("_", " ").capitalize())


def lower_is_better(metric: str) -> bool:
    """Returns whether a lower value of a metric is the better one."""
    return metric in _LOWER_IS_BETTER


def is_share(metric: str) -> bool:
    """Returns whether a metric has bounds, so that its interval can be drawn as a bar."""
    return metric not in _UNBOUNDED


def _is_number_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))
