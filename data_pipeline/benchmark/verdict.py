"""Is training starved, and what to change: numbers in, plain words out."""

from dataclasses import dataclass
from typing import Final

STARVED: Final = 0.03  # of a step's time; less is lost in what a shared machine does besides


@dataclass(frozen=True)
class StepProfile:
    """What the verdict follows from.

    Attributes:
        share: of a step's time that would be saved if its batch were there already; noise can make it
            negative.
        lowest: the share in that repeat where it was lowest.
        highest: the share where it was highest.
        waited: share of a step's time that passes before its batch is there; the rest of `share` is
            the input's use of the cores that the step needs too.
        tier: "device", "memory", "disk" or "stream".
        encoding: of the shards.
        fits_memory: whether the split, decoded, fits into the budget.
        fits_disk: whether it fits into the free space of the cache folder.
        fits_device: whether there is a GPU with room for it.
    """

    share: float
    lowest: float
    highest: float
    waited: float
    tier: str
    encoding: str
    fits_memory: bool
    fits_disk: bool
    fits_device: bool

    @property
    def starved(self) -> bool:
        """Whether the input is worth a change."""
        return self.share > STARVED

    @property
    def certain(self) -> bool:
        """Whether all repeats say the same."""
        return (self.lowest > STARVED) == (self.highest > STARVED)


@dataclass(frozen=True)
class Verdict:
    """One sentence, and what to try, each a flag or a command with what it does."""

    sentence: str
    advice: tuple[str, ...] = ()


def diagnose(situation: StepProfile) -> Verdict:
    """Returns the verdict on a measured training step."""
    share = f"{max(0.0, situation.share):.0%}"
    doubt = (
        ""
        if situation.certain
        else (
            f" (The repeats do not agree, {situation.lowest:.0%} to {situation.highest:.0%}: measure "
            f"again when the machine does nothing else.)"
        )
    )
    if not situation.starved:
        return Verdict(f"Training is not starved: the input takes {share} of each step.{doubt}")
    advice = _advice(situation)
    first = advice[0].split(":")[0]
    how = "" if situation.waited > situation.share / 2 else ", by using cores that the step needs too"
    return Verdict(f"Input takes {share} of each step{how}: try {first}.{doubt}", advice)


def _advice(situation: StepProfile) -> tuple[str, ...]:
    """Returns what to try, the strongest first."""
    tier, encoded = situation.tier, situation.encoding != "raw"
    advice = []
    if tier != "device" and situation.fits_device:
        advice.append("--cache=device: the split lives on the GPU, the host sends indices only")
    if tier == "stream" and situation.fits_memory:
        advice.append("--cache=memory: the split is decoded once and gathered by index")
    elif tier == "stream" and situation.fits_disk:
        advice.append("--cache=disk: the split is decoded once into a file and gathered by index")
    if tier == "stream" and encoded:
        advice.append(f"--encoding=raw in tfrecords.convert: no {situation.encoding.upper()} to decode")
    if tier == "stream":
        advice.append("python -m data_pipeline.tune: searches --threads, --parallel_reads and the like")
        if not situation.fits_memory:
            advice.append("a machine with more memory: the split would be decoded once")
    if tier != "stream":
        advice.append("--global_batch_size: a larger one costs less for each image")
    return tuple(advice)
