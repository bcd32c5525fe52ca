"""A training run from its configuration to its report, top to bottom."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from data_pipeline.augment import augmenter
from data_pipeline.copies import class_weights
from data_pipeline.damage import named_damage
from data_pipeline.dataset import epoch_steps, make_dataset, tier_of
from data_pipeline.options import Worker
from data_pipeline.settings import in_words
from data_pipeline.tiers.choice import Machine, Tier
from data_pipeline.tiers.disk import folder_of
from tfrecords.demo.dataset import DEMO_NAME
from tfrecords.errors import InputError
from tfrecords.files import publish
from tfrecords.manifest import PIPELINE_NAME, Manifest
from trainer import callbacks as own
from trainer.checkpoint import Checkpoints, State, set_callback_state
from trainer.config import TrainConfig
from trainer.evaluation.evaluate_run import Evaluation, evaluate_run
from trainer.loop import Data, Loop
from trainer.models import build_model
from trainer.precision import choose_precision, cpu_flags, gpu_capabilities
from trainer.run import Run
from trainer.strategy import check_agreement, chief_decides, describe, is_chief, make_strategy
from trainer.tiers import choose_train_tier, distributed_table, processes_here

_PROOF_IMAGES: Final = 8  # on which the saved model must answer as the trained one


def train(config: TrainConfig, say: Callable[[str], None] = print) -> Evaluation | None:
    """Trains, or goes on training, and evaluates; returns the evaluation, None on a helping worker.

    Raises:
        InputError: data, devices or the run directory cannot be used.
    """
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(config)
    chief = is_chief(strategy)
    manifest = Manifest.load(Path(config.data), check_shards=not config.direct)
    for split in ("train", "val"):
        manifest.split(split)
    Worker(replicas=strategy.num_replicas_in_sync).replica_batch_size(config.global_batch_size)
    precision = choose_precision(config.precision, gpu_capabilities(), cpu_flags())
    tier = choose_train_tier(config, manifest, strategy)
    facts = _facts(config, manifest, strategy, tier, f"{precision.policy}: {precision.reason}")
    classes = len(manifest.class_names)
    data = _data(config, manifest, strategy, tier)

    def build() -> tuple[keras.Model, Any]:
        model = build_model(config.model, manifest.image_shape, classes, dtype=precision.policy)
        optimizer: Any = keras.optimizers.Adam(_learning_rate(config, data.steps_per_epoch))
        if precision.policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        return model, optimizer

    weights = class_weights(manifest, config.copies) if config.class_weights else None
    loop = Loop(
        strategy,
        build,
        classes,
        weights,
        deterministic=config.deterministic,
        augment=augmenter(config.augment),
    )
    # All that can be refused has been: a directory is made for what can be run only.
    run = Run.open(config, manifest, facts, write=chief, tier=tier)
    if chief:
        say("\n".join(f"{name:10} {value}" for name, value in facts.items()))
    checkpoints = Checkpoints(
        run.checkpoints,
        loop.model,
        loop.optimizer,
        chief=chief,
        keep=config.keep,
        meters=loop.kept_meters,
    )
    resumed = _resume(checkpoints)
    check_agreement(strategy, resumed.step if resumed else 0, "the step to resume from")
    if chief and resumed:
        more = resumed.step - resumed.epoch * data.steps_per_epoch
        and_steps = f" and {more:,} of the next one's {data.steps_per_epoch:,} steps" if more else ""
        say(f"resuming after epoch {resumed.epoch}{and_steps} of at most {config.epochs}")
    _fit(config, manifest, data, loop, checkpoints, resumed, run, chief=chief)
    evaluation = _finish(manifest, loop, checkpoints, run, say) if chief else None
    check_agreement(strategy, 1, "the end")
    return evaluation


def _finish(
    manifest: Manifest, loop: Loop, checkpoints: Checkpoints, run: Run, say: Callable[[str], None]
) -> Evaluation:
    state = checkpoints.restore(checkpoints.state(checkpoints.steps()[-1]).best_step)
    say(f"best epoch {state.best_epoch}: validation loss {state.best_loss:.4f}")
    _save_model(run.model, loop.model, manifest.image_shape)
    return evaluate_run(run, split="test" if "test" in manifest.splits else "val")


def _fit(
    config: TrainConfig,
    manifest: Manifest,
    data: Data,
    loop: Loop,
    checkpoints: Checkpoints,
    resumed: State | None,
    run: Run,
    *,
    chief: bool,
) -> None:
    stopping = keras.callbacks.EarlyStopping(
        monitor="val_loss", min_delta=config.min_delta, patience=config.patience
    )
    history = own.HistoryFiles(run.folder if chief else None, resumed.history if resumed else ())
    calls: list[Any] = [stopping, history]
    if chief:
        own.write_config_text(run.tensorboard, _markdown(run.facts))
        calls += [
            own.tensorboard_callback(run.tensorboard),
            own.ProgressLine(config.epochs, data.steps_per_epoch),
        ]
    # Workers that were given other intervals must not wait for each other for ever.
    decide = chief_decides(loop.strategy, chief=chief)
    every_steps = decide(config.checkpoint_steps)
    # Last, so that it holds what the others have made of the epoch.
    calls.append(
        own.SaveCheckpoints(
            checkpoints,
            history,
            [stopping],
            resumed,
            steps_per_epoch=data.steps_per_epoch,
            keep_meters=loop.keep_meters,
            every_steps=every_steps,
            minutes=config.checkpoint_minutes,
            decide=decide,
        )
    )

    def on_begin() -> None:
        if resumed:
            set_callback_state([stopping], resumed.callbacks)
            loop.model.stop_training = stopping.wait >= config.patience

    start = resumed.step if resumed else 0
    with named_damage(Path(config.data), manifest, "train", "val", direct=config.direct):
        loop.run(
            data, calls, epochs=config.epochs, start_step=start, cut_every=every_steps, on_begin=on_begin
        )


def _data(config: TrainConfig, manifest: Manifest, strategy: Any, tier: Tier) -> Data:
    directory, options = Path(config.data), config.pipeline

    def cache_of(split: str) -> str:
        if split == "train":
            return tier.cache
        return tier_of(manifest, split, options, Machine(processes_here(strategy))).cache

    def distributed(split: str, *, training: bool, start_step: int = 0) -> Any:
        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = context.num_input_pipelines
            worker = Worker(context.input_pipeline_id, count, context.num_replicas_in_sync // count)
            return make_dataset(
                directory,
                manifest,
                split,
                replace(options, cache=cache_of(split)),
                training=training,
                start_step=start_step,
                worker=worker,
            )

        return strategy.distribute_datasets_from_function(of_worker)

    return Data(
        train=lambda start: distributed("train", training=True, start_step=start),
        val=lambda: distributed("val", training=False),
        steps_per_epoch=epoch_steps(manifest, "train", options, training=True),
        val_steps=epoch_steps(manifest, "val", options, training=False),
        global_batch_size=config.global_batch_size,
        table=lambda: distributed_table(config, manifest, strategy, tier),
    )


def _resume(checkpoints: Checkpoints) -> State | None:
    steps = checkpoints.steps()
    return checkpoints.restore(steps[-1]) if steps else None


def _learning_rate(config: TrainConfig, steps_per_epoch: int) -> Any:
    """Returns the rate or its schedule by the optimizer's step, which a checkpoint holds."""
    if config.schedule == "constant":
        return config.learning_rate
    warmup = config.warmup_epochs * steps_per_epoch
    steps = config.epochs * steps_per_epoch - warmup
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=config.learning_rate, warmup_steps=warmup
    )


def _save_model(path: Path, model: keras.Model, image_shape: tuple[int, int, int]) -> None:
    """Saves the model under its final name only if, loaded again, it gives the same logits."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")  # Keras wants the ending
    try:
        model.save(temporary)
        images = np.random.default_rng(0).integers(0, 256, (_PROOF_IMAGES, *image_shape), np.uint8)
        again = keras.models.load_model(temporary, safe_mode=True)
        if not np.array_equal(model(images, training=False), again(images, training=False)):
            raise RuntimeError(f"{path}: the saved model does not give the trained model's logits")
        publish(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}; make room") from None
    finally:
        temporary.unlink(missing_ok=True)


def _facts(
    config: TrainConfig, manifest: Manifest, strategy: Any, tier: Tier, precision: str
) -> dict[str, str]:
    """Returns what a run is, in words: printed, in TensorBoard and in the report."""
    kept = f" in {folder_of(config.cache_dir)}" if tier.name == "disk" else ""
    demo = " (demo data: drawn, no patient's)" if manifest.name == DEMO_NAME else ""
    records = ", ".join(f"{name} {split.records:,}" for name, split in manifest.splits.items())
    weights = f", class weights {class_weights(manifest, config.copies)}" if config.class_weights else ""
    used = {"all": "", "one": "; one variant of each image an epoch", "none": "; originals only"}
    changed = f"; changed anew each epoch: {config.augment}" * (config.augment != "none")
    options = {name: getattr(config, name) for name in config.tuned}
    tuned = f"; by {PIPELINE_NAME}: {in_words(options)}" if options else ""
    shape = "x".join(map(str, manifest.image_shape))
    batch = f"global batch {config.global_batch_size}"
    rate = f"Adam {config.learning_rate:g}"
    if config.schedule != "constant":
        rate += f" by {config.schedule} over {config.epochs} epochs, {config.warmup_epochs} of warm-up"
    return {
        "data": f"{manifest.name}{demo}: {config.data_url or config.data}",
        "records": f"{records}; {shape}, {manifest.copies_in_words()}",
        "model": f"{config.model}, {rate}, {batch}{weights}",
        "strategy": f"{config.strategy}: {describe(strategy)}",
        "precision": precision,
        "input": f"train from {tier}{kept}{used[config.copies]}{changed}{tuned}",
        "seed": f"{config.seed}{', deterministic' * config.deterministic}",
        "run": config.run_dir,
        "versions": f"tensorflow {tf.__version__}, keras {keras.__version__}",
    }


def _markdown(facts: Mapping[str, str]) -> str:
    return "| | |\n|-|-|\n" + "\n".join(f"| {name} | {value} |" for name, value in facts.items())
