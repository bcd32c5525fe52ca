"""Measures the stages of the input and a training step, and gives the outcome as text and JSON."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from data_pipeline.benchmark.diagnosis import Diagnosis, StepProfile, diagnose
from data_pipeline.benchmark.stages import StageCost, StagePlan, measure_stages, spread, stage_count
from data_pipeline.benchmark.step import StepTimes, TimedStep, open_model
from data_pipeline.dataset import tier_of
from data_pipeline.options import PipelineOptions
from data_pipeline.settings import Settings, in_words
from data_pipeline.tiers.choice import ChosenTier
from data_pipeline.tiers.device_tables import machine_of
from data_pipeline.tiers.registry import HELD_TIERS
from data_pipeline.tiers.tier import Machine
from tfrecords.manifest import Manifest

NO_MODEL: Final = "none"
_STAGES_SHARE: Final = 0.6  # share of the time for the stages; the rest is for the training step
_START: Final = 3.0  # seconds, about, until a pipeline is built and gives its first batch


@dataclass(frozen=True)
class Measurement:
    """The outcome of one benchmark.

    Attributes:
        facts: the hardware, the data and the method, in words.
        stages: cost of each stage, and the memory-copy limit.
        tier: the tier from which training takes its records.
        step: times of the training step; None without a model.
        diagnosis: of the training step; None without a model.
    """

    facts: dict[str, str]
    stages: tuple[StageCost, ...]
    tier: ChosenTier
    step: StepTimes | None
    diagnosis: Diagnosis | None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "facts": self.facts,
            "stages": [stage.to_json() for stage in self.stages],
            "tier": asdict(self.tier),
            "step": None if self.step is None else self.step.to_json(),
            "diagnosis": None if self.diagnosis is None else asdict(self.diagnosis),
        }

    def text(self) -> str:
        """Returns the outcome as the command prints it."""
        lines = [f"{name:10}{value}" for name, value in self.facts.items()]
        lines += ["", *_table(self.stages)]
        if self.step is not None and self.diagnosis is not None:
            lines += ["", *_step_lines(self.step), "", self.diagnosis.sentence]
            lines += [f"  {advice}" for advice in self.diagnosis.advice]
        return "\n".join(lines)


def measure(
    directory: Path,
    manifest: Manifest,
    split: str,
    options: PipelineOptions,
    *,
    model: str,
    seconds: float,
    repeats: int,
    settings: Settings,
    progress: Callable[[str], object] = lambda _: None,
) -> Measurement:
    """Measures the stages, then the training step.

    Args:
        directory: folder of the data set.
        manifest: of the data set.
        split: name of the split that is read, as in training.
        options: of the pipeline.
        model: see `open_model`; "none" leaves the training step out.
        seconds: time of the whole benchmark, about.
        repeats: repeats of each measurement.
        settings: those of the options that pipeline.json gave.
        progress: called with the name of what is measured next.

    Raises:
        InputError: the split, a shard or the model cannot be used.
    """
    place = "/gpu:0" if tf.config.list_logical_devices("GPU") else "/cpu:0"
    machine = machine_of([place], 1)
    tier = tier_of(manifest, split, options, machine)
    options = replace(options, cache=tier.name)
    with_model = model != NO_MODEL
    if with_model:  # refuses a wrong model before the time is spent
        open_model(model, manifest)
    plan = StagePlan(directory, manifest, split, options, place, 0.0, repeats)
    count = stage_count(plan)
    part = seconds * (_STAGES_SHARE if with_model else 1.0)
    plan = replace(plan, seconds=_slice(part, count, repeats))
    stages = []
    progress("stages")
    for stage in measure_stages(plan):
        stages.append(stage)
        progress(f"{stage.tier} {stage.stage}".strip())
    step = diagnosis = None
    if with_model:
        progress("training step")
        timed = TimedStep(directory, manifest, split, options, model=model, place=place)
        step = timed.measure(_slice(seconds - part, 2, repeats), repeats)
        diagnosis = diagnose(step_profile(step, tier, manifest, split, options, machine))
    facts = _facts(directory, manifest, split, options, plan, tier, model, settings)
    return Measurement(facts, tuple(stages), tier, step, diagnosis)


def step_profile(
    step: StepTimes,
    tier: ChosenTier,
    manifest: Manifest,
    split: str,
    options: PipelineOptions,
    machine: Machine,
) -> StepProfile:
    """Returns the measured step with what this machine has room for."""
    fits = [
        other.name
        for other in HELD_TIERS
        if (machine.gpu or not other.on_device)
        and tier_of(manifest, split, replace(options, cache=other.name), machine).fits
    ]

    return StepProfile(
        share=step.share,
        lowest=1 - 1 / min(step.ratios),
        highest=1 - 1 / max(step.ratios),
        waited=step.waited_share,
        tier=tier.name,
        encoding=manifest.encoding,
        fits=tuple(fits),
    )


def _slice(seconds: float, pipelines: int, repeats: int) -> float:
    """Returns the seconds of each repeat; one more repeat warms up."""
    return max(0.05, (seconds - _START) / pipelines / (repeats + 1))


def _facts(
    directory: Path,
    manifest: Manifest,
    split: str,
    options: PipelineOptions,
    plan: StagePlan,
    tier: ChosenTier,
    model: str,
    settings: Settings,
) -> dict[str, str]:
    gpus = tf.config.list_physical_devices("GPU")
    shape = "x".join(map(str, manifest.image_shape))
    records = manifest.split(split).records
    return {
        "hardware": f"{len(os.sched_getaffinity(0))} cores, {len(gpus)} GPUs; batches go to {plan.device}",
        "versions": f"tensorflow {tf.__version__}",
        "data": f"{directory}: {split}, {records:,} records, {shape}, {manifest.encoding}",
        "input": f"from {tier}; pipeline.json: {in_words(settings)}",
        "batch": f"{options.global_batch_size} images",
        "model": model,
        "measured": f"medians of {plan.repeats} repeats of {plan.seconds:.2f} s, files in the page cache",
    }


def _table(rows: tuple[StageCost, ...]) -> list[str]:
    lines = [
        f"{'tier':8}{'up to':19}{'images/s':>10}{'spread':>8}{'CPU us/image':>14}{'stage alone':>13}"
        f"{'memory MB':>11}{'first batch s':>15}"
    ]
    lines += [
        f"{row.tier:8}{row.stage:19}{row.images_per_second:10,.0f}{spread(row):8.0%}"
        f"{row.cpu_us_per_image:14.1f}{row.own_cpu_us_per_image:13.1f}{row.memory_bytes / 1e6:11,.0f}"
        + (f"{row.start_seconds:15.2f}" if row.tier else "")
        for row in rows
    ]
    return lines


def _step_lines(step: StepTimes) -> list[str]:
    same, real = sorted(step.constant), sorted(step.real)
    middle = len(same) // 2
    low, high = min(step.ratios), max(step.ratios)
    waited = f"{step.waited_share:.1%} of it waiting"
    return [
        f"training step, one constant batch  {same[middle] * 1e3:9.2f} ms",
        f"training step, real input          {real[middle] * 1e3:9.2f} ms, {waited}",
        f"real over constant, side by side   {step.ratio:9.3f}    ({low:.3f} to {high:.3f})",
    ]
