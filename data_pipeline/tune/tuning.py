"""Finds the best options for a data set on this machine, within a time budget, and keeps them."""

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
from data_pipeline.tiers.choice import Tier
from data_pipeline.tune.search import PAIRS, Trial, candidates, compare, difference, gain, search, wins
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest

EPOCHS: Final = 20  # over which the start of a run, loading for example, is spread
_SEARCH_SHARE: Final = 0.75  # of the budget; the rest is for the winner against the defaults
_LOADING_SHARE: Final = 0.1  # of the budget, that making the decoded file once may take
_SLICES: Final = 60  # measurements that a budget is made for: 9 changes, 3 pairs, and the end


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        options: the best; the defaults if nothing is clearly faster.
        settings: those of them that are not the defaults.
        pairs: (images/s of the defaults, of the best), measured one after the other; () if they are one.
        trials: all changes tried.
        tier: that the defaults read from.
        advice: what no option can change.
    """

    options: PipelineOptions
    settings: dict[str, str | int]
    pairs: tuple[tuple[float, float], ...]
    trials: tuple[Trial, ...]
    tier: Tier
    advice: tuple[str, ...]

    def text(self) -> str:
        """Returns the outcome in words."""
        lines = [f"defaults: from {self.tier}"]
        if self.settings:
            lines += [f"best: {in_words(self.settings)}", f"gain: {gain(self.pairs):.2f} times the defaults"]
        else:
            lines.append("best: the defaults; nothing was clearly faster")
        if "cache" in self.settings and self.tier.name == "stream":
            lines.append(
                "A split that is held decoded comes in another order than a stream, exact as well; runs "
                "that have begun keep theirs."
            )
        return "\n".join([*lines, *self.advice])


def trial_line(trial: Trial) -> str:
    """Returns one trial in words."""
    verdict = "kept" if trial.kept else "not clearly faster"
    return f"{in_words(trial.settings):50} {trial.gain:5.2f} times the best before: {verdict}"


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
    """Searches, and writes pipeline.json; returns what was found and the file's path.

    Args:
        directory: of the data set.
        manifest: of it.
        split: whose records are read, as in training.
        start: the defaults, against which all is measured.
        seconds: the budget.
        report: called with a line for each trial.
        clock: seconds.

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
        rate = measure(start)  # says how long one takes
        tiers = _other_tiers(manifest, split, start, tier, seconds, rate)
        changes = candidates(tier.name, len(os.sched_getaffinity(0)), tiers)
        best, trials = search(
            start, changes, measure, lambda: in_time(_SEARCH_SHARE), lambda trial: report(trial_line(trial))
        )
        if not trials:
            raise InputError(
                f"--budget_seconds={seconds:g}: one comparison of this split takes {2 * last:.0f} s; give "
                f"{_enough(last)} or more"
            )
        pairs = compare(start, best, measure, lambda: in_time(1.0)) if best != start else ()
    if len(pairs) < PAIRS or not wins(pairs):  # single gains that do not add up are noise
        best, pairs = start, ()
    tuned = Tuned(
        best, difference(start, best), pairs, tuple(trials), tier, encoding_advice(manifest, split, tier)
    )
    return tuned, save_settings(directory, manifest, tuned.settings, _found(tuned, start, seconds))


def images_per_second(
    directory: Path, manifest: Manifest, split: str, options: PipelineOptions, seconds: float
) -> float:
    """Returns the images/s of a run of `EPOCHS` epochs: its start measured, its epochs after `seconds`."""
    gc.collect()  # what was loaded before
    drawers: list[BatchReader] = []

    def start() -> int:
        dataset = make_dataset(directory, manifest, split, options, training=True)
        drawers.append(BatchReader(dataset, options.global_batch_size))
        drawers[0].draw(1)
        return options.global_batch_size

    began = timed(start).seconds
    drawers[0].draw_for(seconds / 4)  # what was made ahead
    rate = drawers[0].draw_for(seconds).images_per_second
    images = EPOCHS * manifest.split(split).records
    return images / (began + images / rate)


def encoding_advice(manifest: Manifest, split: str, tier: Tier) -> tuple[str, ...]:
    """Returns what to convert otherwise, if that would help."""
    if tier.name != "stream" or manifest.encoding == "raw":
        return ()
    stored = sum(shard.bytes for shard in manifest.split(split).shards) / 1e6
    return (
        f"{manifest.encoding.upper()} is decoded anew in each epoch: tfrecords.convert --encoding=raw "
        f"avoids it; {split} then takes {tier.need / 1e6:,.0f} MB instead of {stored:,.0f} MB on disk",
    )


def _other_tiers(
    manifest: Manifest, split: str, start: PipelineOptions, tier: Tier, seconds: float, rate: float
) -> Sequence[str]:
    """Returns the values of --cache to try: with room for the split, and with time to decode it."""
    others = {"memory": "disk", "disk": "memory", "stream": "disk"}
    if start.cache != "auto" or tier.name not in others:
        return ()
    other = tier_of(manifest, split, replace(start, cache=others[tier.name]))
    decoding = tier.need / np.prod(manifest.image_shape) / rate
    in_time = tier.name != "stream" or decoding <= _LOADING_SHARE * seconds
    return (other.cache,) if other.need <= other.budget and in_time else ()


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
