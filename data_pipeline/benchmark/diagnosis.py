"""Tells from a measured training step whether training is input-bound, and what to change."""

from dataclasses import dataclass
from typing import Final

from data_pipeline.tiers.memory import MemoryTier
from data_pipeline.tiers.registry import HELD_TIERS, tier_named
from data_pipeline.tiers.tier import STREAM

INPUT_BOUND: Final = 0.03  # share of a step's time that the input takes; less is noise on a shared machine


@dataclass(frozen=True)
class StepProfile:
    """A measured training step and its input.

    Attributes:
        share: share of a step's time that the step would save if its batch were ready; noise can make it
            negative.
        lowest: the lowest share of all repeats.
        highest: the highest share of all repeats.
        waited: share of a step's time in which the step waits for its batch. The input takes the rest of
            `share` by using cores that the step needs too.
        tier: name of the tier from which the batches come.
        encoding: encoding of the shards.
        fits: names of the tiers that have room for the decoded split on this machine, the stream aside.
    """

    share: float
    lowest: float
    highest: float
    waited: float
    tier: str
    encoding: str
    fits: tuple[str, ...]

    @property
    def input_bound(self) -> bool:
        """Whether the input slows training down so much that a change pays."""
        return self.share > INPUT_BOUND

    @property
    def certain(self) -> bool:
        """Whether all repeats agree."""
        return (self.lowest > INPUT_BOUND) == (self.highest > INPUT_BOUND)


@dataclass(frozen=True)
class Diagnosis:
    """Whether training is input-bound, in words.

    Attributes:
        sentence: the outcome.
        advice: flags and commands to try, the strongest first, each with what it does.
    """

    sentence: str
    advice: tuple[str, ...] = ()


def diagnose(profile: StepProfile) -> Diagnosis:
    """Returns the diagnosis of a measured training step."""
    share = f"{max(0.0, profile.share):.0%}"
    doubt = ""
    if not profile.certain:
        doubt = (
            f" (The repeats do not agree, {profile.lowest:.0%} to {profile.highest:.0%}: measure again when "
            f"the machine does nothing else.)"
        )
    if not profile.input_bound:
        return Diagnosis(f"Training is not input-bound: the input takes {share} of each step.{doubt}")
    advice = _advice(profile)
    first = advice[0].split(":")[0]
    how = "" if profile.waited > profile.share / 2 else ", by using cores that the step needs too"
    return Diagnosis(f"Input takes {share} of each step{how}: try {first}.{doubt}", advice)


def _advice(profile: StepProfile) -> tuple[str, ...]:
    """Returns what to try, the strongest first."""
    streams = tier_named(profile.tier).order == STREAM
    others = [tier for tier in HELD_TIERS if tier.name in profile.fits and tier.name != profile.tier]
    on_device = [tier for tier in others if tier.on_device]
    on_host = [tier for tier in others if not tier.on_device]
    advice = [f"--cache={tier.name}: {tier.advice}" for tier in on_device]
    if not streams:
        return (*advice, "--global_batch_size: a larger batch costs less for each image")
    # The last of the registry asks for least besides room: memory, before a file on disk.
    advice += [f"--cache={tier.name}: {tier.advice}" for tier in on_host[-1:]]
    if profile.encoding != "raw":
        advice.append(f"--encoding=raw in tfrecords.convert: no {profile.encoding.upper()} to decode")
    advice.append("python -m data_pipeline.tune: searches --threads, --parallel_reads and the like")
    if MemoryTier.name not in profile.fits:
        advice.append("a machine with more memory: it would decode the split only once")
    return tuple(advice)
