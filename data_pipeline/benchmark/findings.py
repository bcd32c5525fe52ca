"""What `data_pipeline.benchmark` finds: stages, a training step, the verdict; as text and JSON."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from data_pipeline.benchmark.stages import Plan, Row, measure_stages, row_count, spread
from data_pipeline.benchmark.step import StepTimes, TimedStep, open_model
from data_pipeline.benchmark.verdict import StepProfile, Verdict, diagnose
from data_pipeline.dataset import tier_of
from data_pipeline.options import PipelineOptions
from data_pipeline.settings import Settings, in_words
from data_pipeline.tiers.choice import Machine, Tier
from data_pipeline.tiers.device import machine_of
from tfrecords.manifest import Manifest

NO_MODEL: Final = "none"
_STAGES_SHARE: Final = 0.6  # of the time; the rest is for the training steps
_REST: Final = 3.0  # seconds, about, in which a pipeline is made and its first batch comes


@dataclass(frozen=True)
class Findings:
    """One benchmark.

    Attributes:
        facts: the hardware, the data and how it was measured, in words.
        rows: of the stages and of the limit.
        tier: that training takes its records from.
        step: of the model; None without one.
        verdict: on the step; None without one.
    """

    facts: dict[str, str]
    rows: tuple[Row, ...]
    tier: Tier
    step: StepTimes | None
    verdict: Verdict | None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "facts": self.facts,
            "stages": [row.to_json() for row in self.rows],
            "tier": asdict(self.tier),
            "step": None if self.step is None else self.step.to_json(),
            "verdict": None if self.verdict is None else asdict(self.verdict),
        }

    def text(self) -> str:
        """Returns what is printed."""
        lines = [f"{name:10}{value}" for name, value in self.facts.items()]
        lines += ["", *_table(self.rows)]
        if self.step is not None and self.verdict is not None:
            lines += ["", *_step_lines(self.step), "", self.verdict.sentence]
            lines += [f"  {advice}" for advice in self.verdict.advice]
        return "\n".join(lines)


def find(
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
) -> Findings:
    """Measures the stages, then the training step.

    Args:
        directory: of the data set.
        manifest: of it.
        split: whose records are read, as in training.
        options: of the pipeline.
        model: see `open_model`; "none" leaves the step out.
        seconds: that all takes, about.
        repeats: of each measurement.
        settings: what of the options came from pipeline.json.
        progress: called with what is measured next.

    Raises:
        InputError: a split, a shard or a model that cannot be used.
    """
    place = "/gpu:0" if tf.config.list_logical_devices("GPU") else "/cpu:0"
    machine = machine_of([place], 1)
    tier = tier_of(manifest, split, options, machine)
    options = replace(options, cache=tier.cache)
    with_model = model != NO_MODEL
    if with_model:  # so that a wrong one is refused before the time is spent
        open_model(model, manifest)
    plan = Plan(directory, manifest, split, options, place, 0.0, repeats)
    count = row_count(plan)
    part = seconds * (_STAGES_SHARE if with_model else 1.0)
    plan = replace(plan, seconds=_slice(part, count, repeats))
    rows = []
    progress("stages")
    for row in measure_stages(plan):
        rows.append(row)
        progress(f"{row.tier} {row.stage}".strip())
    step = verdict = None
    if with_model:
        progress("training step")
        timed = TimedStep(directory, manifest, split, options, model=model, place=place)
        step = timed.measure(_slice(seconds - part, 2, repeats), repeats)
        verdict = diagnose(situation(step, tier, manifest, split, machine))
    facts = _facts(directory, manifest, split, options, plan, tier, model, settings)
    return Findings(facts, tuple(rows), tier, step, verdict)


def situation(step: StepTimes, tier: Tier, manifest: Manifest, split: str, machine: Machine) -> StepProfile:
    """Returns what the verdict on a step follows from."""

    def fits(cache: str) -> bool:
        other = tier_of(manifest, split, PipelineOptions(cache=cache), machine)
        return other.need <= other.budget

    return StepProfile(
        share=step.share,
        lowest=1 - 1 / min(step.ratios),
        highest=1 - 1 / max(step.ratios),
        waited=step.waited_share,
        tier=tier.name,
        encoding=manifest.encoding,
        fits_memory=fits("memory"),
        fits_disk=fits("disk"),
        fits_device=machine.gpu and fits("device"),
    )


def _slice(seconds: float, pipelines: int, repeats: int) -> float:
    """Returns the seconds of each repeat, the first that warms up included."""
    return max(0.05, (seconds - _REST) / pipelines / (repeats + 1))


def _facts(
    directory: Path,
    manifest: Manifest,
    split: str,
    options: PipelineOptions,
    plan: Plan,
    tier: Tier,
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


def _table(rows: tuple[Row, ...]) -> list[str]:
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
