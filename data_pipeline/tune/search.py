"""The search over a pipeline's options: one change at a time, kept only if it wins clearly."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from data_pipeline.options import PipelineOptions
from data_pipeline.settings import TUNED, Settings

MARGIN: Final = 0.03  # of images fed in the same time; a smaller gain is no reason to leave a default
PAIRS: Final = 3  # measurements of each side, in turn

# options -> images/s, those of the start included
Measure = Callable[[PipelineOptions], float]


@dataclass(frozen=True)
class Trial:
    """A change, measured in turn with the best options before it.

    Attributes:
        settings: all options of the change that differ from the defaults.
        pairs: (images/s of the best before it, images/s of the change), measured one after the other.
        kept: whether it became the best.
    """

    settings: Settings
    pairs: tuple[tuple[float, float], ...]
    kept: bool

    @property
    def gain(self) -> float:
        """How many times the images/s of the best before: the median of the pairs."""
        return gain(self.pairs)


def gain(pairs: Sequence[tuple[float, float]]) -> float:
    """Returns the median of second / first."""
    return statistics.median(after / before for before, after in pairs)


def wins(pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether the second of each pair is clearly faster: in every pair, and by `MARGIN` in the median."""
    return all(after > before for before, after in pairs) and gain(pairs) >= 1 + MARGIN


def candidates(tier: str, cores: int, tiers: Sequence[str]) -> list[dict[str, str | int]]:
    """Returns the changes to try, the most promising first.

    Args:
        tier: that the defaults take, "stream" or one where records are gathered.
        cores: that this process may use.
        tiers: other values of --cache that there is room for.
    """
    tried: list[dict[str, str | int]] = [{"cache": cache} for cache in tiers]
    if tier == "stream":
        tried += [{"parallel_reads": count} for count in (2, 8)]
    tried += [{"threads": count} for count in sorted({1, cores, 2 * cores})]
    return tried + [{"prefetch": count} for count in (2, 8)]


def compare(
    before: PipelineOptions, after: PipelineOptions, measure: Measure, in_time: Callable[[], bool]
) -> tuple[tuple[float, float], ...]:
    """Measures two sides in turn, `PAIRS` times; ends early when the second has lost or time is up."""
    pairs: list[tuple[float, float]] = []
    while len(pairs) < PAIRS and in_time():
        # Which comes first alternates: a machine that slows down favours neither.
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
    """Tries changes one after the other on top of the best so far.

    Args:
        start: the default options.
        changes: see `candidates`.
        measure: options -> images/s.
        in_time: whether there is time for one more pair.
        report: called with each trial.

    Returns:
        the best options, `start` if nothing wins clearly, and all that was tried.
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
    """Returns the tuned options in which `other` is not as `start`."""
    names = [field.name for field in fields(PipelineOptions) if field.name in TUNED]
    return {name: getattr(other, name) for name in names if getattr(other, name) != getattr(start, name)}
