"""Searches the options of a pipeline: tries one change at a time and keeps it if it is clearly faster."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from data_pipeline.options import PipelineOptions
from data_pipeline.settings import TUNED, Settings

MARGIN: Final = 0.03  # least gain in images/s for which a default is given up
PAIRS: Final = 3  # measurements of each side, in turn

# options -> images/s over a whole run, its start included
Measure = Callable[[PipelineOptions], float]


@dataclass(frozen=True)
class Trial:
    """One change, measured in turn with the best options so far.

    Attributes:
        settings: all options that differ from the defaults, with this change.
        pairs: (images/s of the best options so far, images/s with the change), measured in turn.
        kept: whether the change was kept.
    """

    settings: Settings
    pairs: tuple[tuple[float, float], ...]
    kept: bool

    @property
    def gain(self) -> float:
        """The images/s with the change over those of the best options so far: the median of the pairs."""
        return gain(self.pairs)


def gain(pairs: Sequence[tuple[float, float]]) -> float:
    """Returns the median of second / first."""
    return statistics.median(after / before for before, after in pairs)


def wins(pairs: Sequence[tuple[float, float]]) -> bool:
    """Returns whether the second is clearly faster: in every pair, and by `MARGIN` in the median."""
    return all(after > before for before, after in pairs) and gain(pairs) >= 1 + MARGIN


def candidates(cores: int, tiers: Sequence[str], *, streams: bool) -> list[dict[str, str | int]]:
    """Returns the changes to try, the most promising first.

    Args:
        cores: number of cores that this process may use.
        tiers: names of other tiers that have room.
        streams: whether the defaults read a stream.
    """
    tried: list[dict[str, str | int]] = [{"cache": cache} for cache in tiers]
    if streams:
        tried += [{"parallel_reads": count} for count in (2, 8)]
    tried += [{"threads": count} for count in sorted({1, cores, 2 * cores})]
    return tried + [{"prefetch": count} for count in (2, 8)]


def compare(
    before: PipelineOptions, after: PipelineOptions, measure: Measure, in_time: Callable[[], bool]
) -> tuple[tuple[float, float], ...]:
    """Measures two sides in turn, `PAIRS` times; ends early if the second is slower or the time is up."""
    pairs: list[tuple[float, float]] = []
    while len(pairs) < PAIRS and in_time():
        # The sides take turns in coming first, so a machine that slows down favours neither.
        if len(pairs) % 2:
            second = measure(after)
            pairs.append((measure(before), second))
        else:
            first = measure(before)
            pairs.append((first, measure(after)))
        if pairs[-1][1] <= pairs[-1][0]:
            break
    return tuple(pairs)


def search(
    start: PipelineOptions,
    changes: Sequence[Settings],
    measure: Measure,
    in_time: Callable[[], bool],
    report: Callable[[Trial], object] = lambda _: None,
) -> tuple[PipelineOptions, list[Trial]]:
    """Tries changes one after the other, each on top of the best options so far.

    Args:
        start: the default options.
        changes: see `candidates`.
        measure: options -> images/s.
        in_time: returns whether there is time for one more pair.
        report: called with each trial.

    Returns:
        the best options, which are `start` if no change was clearly faster, and all trials.
    """
    best, trials = start, []
    for change in changes:
        if not in_time():
            break
        tried = replace(best, **change)  # type: ignore[arg-type]  # names and types of PipelineOptions
        pairs = compare(best, tried, measure, in_time)
        if not pairs:
            break
        kept = len(pairs) == PAIRS and wins(pairs)
        trials.append(Trial(difference(start, tried), pairs, kept))
        report(trials[-1])
        best = tried if kept else best
    return best, trials


def difference(start: PipelineOptions, other: PipelineOptions) -> dict[str, str | int]:
    """Returns those of the `TUNED` options of `other` that differ from `start`."""
    names = [field.name for field in fields(PipelineOptions) if field.name in TUNED]
    return {name: getattr(other, name) for name in names if getattr(other, name) != getattr(start, name)}
