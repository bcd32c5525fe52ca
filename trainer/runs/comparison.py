"""Two runs side by side: what was read of each, and their differences."""

from dataclasses import dataclass
from pathlib import Path

from trainer.evaluation.predictions import Predictions
from trainer.runs.paired import Difference
from trainer.runs.reported import Reported


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes:
        name: as it was given.
        report: folder of its report.
        reported: the figures of that report.
        predictions: of each record, sorted by id.
        plan: fingerprint of the data that it was evaluated on; "": not known.
    """

    name: str
    report: Path
    reported: Reported
    predictions: Predictions
    plan: str


@dataclass(frozen=True)
class Comparison:
    """Two runs and their differences.

    Attributes:
        first: the run that is better or worse.
        second: the run that it is compared with.
        differences: of each metric, first minus second.
        resamples: of the groups.
        seed: of the resamples.
    """

    first: Side
    second: Side
    differences: tuple[Difference, ...]
    resamples: int
    seed: int
