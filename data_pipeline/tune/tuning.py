"""Finds the fastest options for a data set on this machine within a time budget, and writes pipeline.json."""

import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset, tier_of
from data_pipeline.measuring import BatchReader, timed
from data_pipeline.options import PipelineOptions
from data_pipeline.settings import in_words, save_settings
from data_pipeline.tiers.choice import AUTO, ChosenTier
from data_pipeline.tiers.registry import HELD_TIERS
from data_pipeline.tune.search import PAIRS, Trial, candidates, compare, difference, gain, search, wins
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest

EPOCHS: Final = 20  # epochs of the runs that are compared; the start of a run, as loading, counts once
_SEARCH_SHARE: Final = 0.75  # share of the budget for the search; the rest is for winner against defaults
_LOADING_SHARE: Final = 0.1  # share of the budget that decoding the split once may take
_SLICES: Final = 60  # measurements in a budget: 9 changes with 3 pairs each, and the comparison at the end


@dataclass(frozen=True)
class Tuned:
    """The outcome of a search.

    Attributes:
        options: the best options; the defaults if nothing is clearly faster.
        settings: those of the best options that differ from the defaults.
        pairs: (images/s of the defaults, of the best options), measured in turn; () if they are the same.
        trials: all changes that were tried.
        tier: the tier of the defaults.
        advice: what helps besides the options.
    """

    options: PipelineOptions
    settings: dict[str, str | int]
    pairs: tuple[tuple[float, float], ...]
    trials: tuple[Trial, ...]
    tier: ChosenTier
    advice: tuple[str, ...]

    def text(self) -> str:
        """Returns the outcome in words."""
        lines = [f"defaults: from {self.tier}"]
        if self.settings:
            lines += [f"best: {in_words(self.settings)}", f"gain: {gain(self.pairs):.2f} times the defaults"]
        else:
            lines.append("best: the defaults; nothing was clearly faster")
        if "cache" in self.settings and self.tier.streams:
            lines.append(
                "This tier shows the records in another order than a stream; both orders are exact. Runs "
                "that have begun keep their tier."
            )
        return "\n".join([*lines, *self.advice])


def trial_line(trial: Trial) -> str:
    """Returns one trial in words."""
    outcome = "kept" if trial.kept else "not clearly faster"
    return f"{in_words(trial.settings):50} {trial.gain:5.2f} times the best so far: {outcome}"


def tune(
    directory: Path,
    manifest: Manifest,
    split: str,
    start: PipelineOptions,
    *,
    seconds: float,
    report: Callable[[str], object] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Tuned, Path]:
    """Searches and writes pipeline.json; returns the outcome and the path of the file.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        split: name of the split that is read, as in training.
        start: the defaults, with which each change is compared.
        seconds: the budget.
        report: called with a line for each trial.
        clock: returns the time in seconds.

    Raises:
        InputError: a shard cannot be read, the budget is too small for one comparison, or pipeline.json
            cannot be written.
    """
    end = clock() + seconds
    tier = tier_of(manifest, split, start)
    last = 0.0  # seconds of the last measurement

    def measure(options: PipelineOptions) -> float:
        nonlocal last
        began = clock()
        rate = images_per_second(directory, manifest, split, options, seconds / _SLICES)
        last = clock() - began
        return rate

    def in_time(share: float) -> bool:
        return clock() + 2 * last <= end - (1 - share) * seconds

    with named_damage(directory, manifest, split):
        measure(start)  # warms up
        rate = measure(start)  # tells how long one measurement takes
        tiers = _other_tiers(manifest, split, start, tier, seconds, rate)
        changes = candidates(len(os.sched_getaffinity(0)), tiers, streams=tier.streams)
        best, trials = search(
            start, changes, measure, lambda: in_time(_SEARCH_SHARE), lambda trial: report(trial_line(trial))
        )
        if not trials:
            raise InputError(
                f"--budget_seconds={seconds:g}: one comparison of this split takes {2 * last:.0f} s; give "
                f"{_enough(last)} or more"
            )
        pairs = compare(start, best, measure, lambda: in_time(1.0)) if best != start else ()
    if len(pairs) < PAIRS or not wins(pairs):  # gains that do not add up are noise
        best, pairs = start, ()
    tuned = Tuned(
        best, difference(start, best), pairs, tuple(trials), tier, encoding_advice(manifest, split, tier)
    )
    return tuned, save_settings(directory, manifest, tuned.settings, _found(tuned, start, seconds))


def images_per_second(
    directory: Path, manifest: Manifest, split: str, options: PipelineOptions, seconds: float
) -> float:
    """Returns the images/s of a run of `EPOCHS` epochs: measures its start, and its batches for `seconds`."""
    gc.collect()  # frees what was loaded before
    readers: list[BatchReader] = []

    def start() -> int:
        dataset = make_dataset(directory, manifest, split, options, training=True)
        readers.append(BatchReader(dataset, options.global_batch_size))
        readers[0].draw(1)
        return options.global_batch_size

    began = timed(start).seconds
    readers[0].draw_for(seconds / 4)  # uses up the batches that were made ahead
    rate = readers[0].draw_for(seconds).images_per_second
    images = EPOCHS * manifest.split(split).records
    return images / (began + images / rate)


def encoding_advice(manifest: Manifest, split: str, tier: ChosenTier) -> tuple[str, ...]:
    """Returns which other encoding would help, if one would."""
    if not tier.streams or manifest.encoding == "raw":
        return ()
    stored = sum(shard.bytes for shard in manifest.split(split).shards) / 1e6
    return (
        f"{manifest.encoding.upper()} is decoded anew in each epoch: tfrecords.convert --encoding=raw "
        f"avoids this; {split} then takes {tier.need / 1e6:,.0f} MB on disk instead of {stored:,.0f} MB",
    )


def _other_tiers(
    manifest: Manifest, split: str, start: PipelineOptions, tier: ChosenTier, seconds: float, rate: float
) -> Sequence[str]:
    """Returns the names of the other tiers on the host that have room for the split and time to decode it."""
    if start.cache != AUTO or tier.tier.on_device:
        return ()
    decoding = tier.need / np.prod(manifest.image_shape) / rate
    if tier.streams and decoding > _LOADING_SHARE * seconds:
        return ()
    others = [other.name for other in HELD_TIERS if not other.on_device and other.name != tier.name]
    return [name for name in others if tier_of(manifest, split, replace(start, cache=name)).fits]


def _enough(last: float) -> int:
    return round(2 * PAIRS * last / _SEARCH_SHARE * 2)


def _found(tuned: Tuned, start: PipelineOptions, seconds: float) -> dict[str, Any]:
    return {
        "gain": gain(tuned.pairs) if tuned.pairs else 1.0,
        "images_per_second": [list(pair) for pair in tuned.pairs],
        "global_batch_size": start.global_batch_size,
        "tier": tuned.tier.name,
        "cores": len(os.sched_getaffinity(0)),
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "tensorflow": tf.__version__,
        "budget_seconds": seconds,
        "trials": [asdict(trial) | {"gain": trial.gain} for trial in tuned.trials],
    }
