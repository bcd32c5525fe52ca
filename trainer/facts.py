"""What a run is, in words: printed at its start, shown in TensorBoard and in the report."""

from collections.abc import Mapping
from typing import Any, Final

import keras
import tensorflow as tf

from data_pipeline.copies import weights_in_words
from data_pipeline.settings import in_words
from data_pipeline.tiers.choice import ChosenTier
from tfrecords.demo.dataset import DEMO_NAME
from tfrecords.manifest import PIPELINE_NAME, Manifest
from tfrecords.positive import positive_in_words
from trainer.config import TrainConfig
from trainer.devices.strategy import describe
from trainer.evaluation.evaluate_run import POSITIVE_FACT
from trainer.evaluation.metric_table import LAST, MONITORS, direction

_NORMALIZED: Final = {
    "equalize": "with equalised histograms",
    "blend": "blended with their equalised histograms",
}


def run_facts(
    config: TrainConfig, manifest: Manifest, strategy: Any, tier: ChosenTier, precision: str, threads: int
) -> dict[str, str]:
    """Returns the facts of a run by name."""
    options = config.pipeline
    location = tier.tier.location(options.cache_dir)
    kept = f" in {location}" if location else ""
    demo = " (demo data: drawn, no patient's)" if manifest.name == DEMO_NAME else ""
    records = ", ".join(f"{name} {split.records:,}" for name, split in manifest.splits.items())
    weights = f", class weights {weights_in_words(manifest, options.copies)}" if config.class_weights else ""
    used = {"all": "", "one": "; one variant of each image an epoch", "none": "; originals only"}
    changed = _sampling(config) + f"; changed anew each epoch: {options.augment}" * (
        options.augment != "none"
    )
    settings = {name: getattr(options, name) for name in config.tuned}
    tuned = f"; by {PIPELINE_NAME}: {in_words(settings)}" if settings else ""
    shape = "x".join(map(str, manifest.image_shape))
    batch = f"global batch {options.global_batch_size}"
    given = "".join(f" {name}={value}" for name, value in config.model_args)
    rate = f"{_optimizer(config)} {config.learning_rate:g}"
    if config.schedule == "plateau":
        rate += (
            f", times {config.plateau_factor:g} after {config.plateau_patience} epochs without a better value"
        )
    elif config.schedule != "constant":
        rate += f" by {config.schedule} over {config.epochs} epochs, {config.warmup_epochs} of warm-up"
    xla = f", XLA {config.jit_compile}" * (config.jit_compile != "off")
    soft = f", label smoothing {config.label_smoothing:g}" * (config.label_smoothing > 0)
    soft += f", mixup {config.mixup:g}" * (config.mixup > 0)
    fold = f"; val is fold {config.fold} of its train and val" * bool(config.fold)
    soft += f", images {_NORMALIZED.get(config.normalize)}" * (config.normalize != "none")
    positive = positive_in_words(manifest.class_names, config.positive or manifest.positive)
    return {
        "data": f"{manifest.name}{demo}: {config.data_url or config.fold_of or config.data}{fold}",
        "records": f"{records}; {shape}, {manifest.copies_in_words()}",
        **({POSITIVE_FACT: positive} if positive else {}),
        "model": f"{config.model}{given}, {rate}, {batch}{weights}{soft}",
        **_more(config),
        "strategy": f"{config.strategy}: {describe(strategy)}{xla}",
        "precision": precision,
        "threads": f"{threads} per process",
        "input": f"train from {tier}{kept}{used[options.copies]}{changed}{tuned}",
        "seed": f"{config.seed}{', deterministic' * config.deterministic}",
        "run": config.run_dir,
        "versions": f"tensorflow {tf.__version__}, keras {keras.__version__}",
    }


def _optimizer(config: TrainConfig) -> str:
    kinds = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop"}
    changes = [f"{name}={value}" for name, value in config.optimizer_args]
    for name, unchanged in (("weight_decay", 0), ("clip_norm", 0), ("accumulate", 1), ("ema", 0)):
        if (value := getattr(config, name)) != unchanged:
            changes.append(f"{name}={value:g}")
    if config.freeze:
        until = f" until epoch {config.unfreeze_epoch}" if config.unfreeze_epoch else ""
        rate = f" then by {config.backbone_learning_rate:g}" if config.backbone_learning_rate else ""
        changes.append(f"{config.freeze} frozen{until}{rate}")
    return " ".join([kinds.get(config.optimizer, config.optimizer), *changes])


def _sampling(config: TrainConfig) -> str:
    file = f"weights in {config.pipeline.weights_file} (SHA-256 {config.sampling_sha256[:12]})"
    by = {"natural": "", "class": "equal classes", "group": "equal groups"}.get(
        config.pipeline.sampling, file
    )
    return f"; an epoch shows records by {by}" if by else ""


def _more(config: TrainConfig) -> dict[str, str]:
    """Returns the facts that a run with the defaults has not."""
    found, values = {}, config.to_json()
    if config.recipe:
        found["recipe"] = " ".join(
            [config.recipe, *(f"{name}={values[name]}" for name in config.from_recipe)]
        )
    if config.monitor == LAST:
        found["kept"] = "weights of the last epoch"
    elif config.monitor != MONITORS[0]:
        found["kept"] = f"weights of the epoch of the {direction(config.monitor)}imum {config.monitor}"
    tta = ["mirrored"] * config.tta_flip + [f"shifted by {config.tta_shift} pixels"] * (config.tta_shift > 0)
    published = [f"mean over the image as it is and {', '.join(tta)}"] * bool(tta)
    how = f"{'by ' if config.temperature == 'validation' else ''}{config.temperature}"
    published += [f"temperature {how}"] * (config.temperature != "none")
    if published:
        found["published"] = "; ".join(published)
    return found


def markdown(facts: Mapping[str, str]) -> str:
    """Returns facts as a table in Markdown, for TensorBoard."""
    return "| | |\n|-|-|\n" + "\n".join(f"| {name} | {value} |" for name, value in facts.items())
