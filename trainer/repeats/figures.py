"""How far the figures of runs that differ only in their seed are apart: mean, deviation, least and most."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trainer.evaluation.metric_table import METRICS, title_of
from trainer.evaluation.report import Report

HEADLINES: Final = tuple(metric.name for metric in METRICS if metric.headline and metric.reported)


@dataclass(frozen=True)
class Spread:
    """A metric over the runs.

    Attributes:
        name: of the metric.
        values: of each run, in the order of the seeds; without those where it is undefined.
        averaged: of the model that averages all runs; None if it is undefined.
    """

    name: str
    values: tuple[float, ...]
    averaged: float | None

    @property
    def mean(self) -> float:
        """The mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """The standard deviation of the runs about their mean, with n - 1; 0 for one run."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns all numbers."""
        return {
            "values": list(self.values),
            "mean": self.mean,
            "deviation": self.deviation,
            "least": min(self.values),
            "most": max(self.values),
            "averaged": self.averaged,
        }


def spreads(reports: Sequence[Report], averaged: Report | None = None) -> tuple[Spread, ...]:
    """Returns the headline metrics of reports on the same split; without those that are never defined.

    Args:
        reports: of the runs, in the order of their seeds.
        averaged: of the model that averages them.
    """
    found = []
    for name in HEADLINES:
        values = tuple(value for report in reports if (value := _value(report, name)) is not None)
        if values:
            found.append(Spread(name, values, _value(averaged, name) if averaged else None))
    return tuple(found)


def _value(report: Report, name: str) -> float | None:
    decisions: Mapping[str, Any] = report["decisions"]
    value = (decisions.get("chosen") or decisions["default"])["estimates"].get(name, {}).get("value")
    return None if value is None else float(value)


def in_words(found: Sequence[Spread]) -> str:
    """Returns a sentence with mean and range of each metric, for the facts of a run."""
    return "; ".join(
        f"{title_of(each.name)} {each.mean:.4f} on average, {min(each.values):.4f} to {max(each.values):.4f}"
        for each in found
    )


def table(found: Sequence[Spread], split: str, seeds: Sequence[int]) -> str:
    """Returns the metrics as text, a line each."""
    wide = max(len(title_of(each.name)) for each in found)
    lines = [
        f"{split} of seeds {', '.join(map(str, seeds))}:",
        f"{'':{wide}}    mean      sd   least    most   average of the models",
    ]
    for each in found:
        numbers = (each.mean, each.deviation, min(each.values), max(each.values))
        cells = " ".join(f"{number:7.4f}" for number in numbers)
        last = f"{each.averaged:9.4f}" if each.averaged is not None else f"{'-':>9}"
        lines.append(f"{title_of(each.name):{wide}} {cells} {last}")
    return "\n".join(lines)
