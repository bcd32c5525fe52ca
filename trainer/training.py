"""A training run from its configuration to its report, top to bottom."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from data_pipeline.dataset import epoch_steps, make_dataset, tier_of
from data_pipeline.options import Worker
from data_pipeline.parse import named_damage
from tfrecords.demo import DEMO_NAME
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer import callbacks as own
from trainer.checkpoint import Checkpoints, State, set_callback_state
from trainer.config import TrainConfig
from trainer.evaluation import Evaluation, evaluate_run
from trainer.loop import Data, Loop
from trainer.models import build_model
from trainer.precision import choose_precision, cpu_flags, gpu_capabilities
from trainer.run import Run
from trainer.strategy import check_agreement, describe, is_chief, make_strategy

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
    manifest = Manifest.load(Path(config.data))
    for split in ("train", "val"):
        manifest.split(split)
    Worker(replicas=strategy.num_replicas_in_sync).replica_batch_size(config.global_batch_size)
    precision = choose_precision(config.precision, gpu_capabilities(), cpu_flags())
    facts = _facts(config, manifest, strategy, f"{precision.policy}: {precision.reason}")
    classes = len(manifest.class_names)

    def build() -> tuple[keras.Model, Any]:
        model = build_model(config.model, manifest.image_shape, classes, dtype=precision.policy)
        optimizer: Any = keras.optimizers.Adam(config.learning_rate)
        if precision.policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        return model, optimizer

    weights = manifest.class_weights() if config.class_weights else None
    loop = Loop(strategy, build, classes, weights, deterministic=config.deterministic)
    data = _data(config, manifest, strategy)
    # All that can be refused has been: a directory is made for what can be run only.
    run = Run.open(config, manifest, facts, write=chief)
    if chief:
        say("\n".join(f"{name:10} {value}" for name, value in facts.items()))
    checkpoints = Checkpoints(run.checkpoints, loop.model, loop.optimizer, chief=chief, keep=config.keep)
    resumed = _resume(checkpoints)
    check_agreement(strategy, resumed.epoch if resumed else 0, "the epoch to resume from")
    if chief and resumed:
        say(f"resuming after epoch {resumed.epoch} of at most {config.epochs}")
    _fit(config, manifest, data, loop, checkpoints, resumed, run, chief=chief)
    evaluation = _finish(manifest, loop, checkpoints, run, say) if chief else None
    check_agreement(strategy, 1, "the end")
    return evaluation


def _finish(
    manifest: Manifest, loop: Loop, checkpoints: Checkpoints, run: Run, say: Callable[[str], None]
) -> Evaluation:
    state = checkpoints.restore(checkpoints.state(checkpoints.epochs()[-1]).best_epoch)
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
    # Last, so that it holds what the others have made of the epoch.
    calls.append(own.SaveCheckpoints(checkpoints, history, [stopping], resumed))

    def on_begin() -> None:
        if resumed:
            set_callback_state([stopping], resumed.callbacks)
            loop.model.stop_training = stopping.wait >= config.patience

    first = resumed.epoch if resumed else 0
    with named_damage(Path(config.data), manifest, "train", "val"):
        loop.run(data, calls, epochs=config.epochs, first_epoch=first, on_begin=on_begin)


def _data(config: TrainConfig, manifest: Manifest, strategy: Any) -> Data:
    directory, options = Path(config.data), config.pipeline

    def distributed(split: str, *, training: bool, start_step: int = 0) -> Any:
        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = context.num_input_pipelines
            worker = Worker(context.input_pipeline_id, count, context.num_replicas_in_sync // count)
            return make_dataset(
                directory,
                manifest,
                split,
                options,
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
    )


def _resume(checkpoints: Checkpoints) -> State | None:
    epochs = checkpoints.epochs()
    return checkpoints.restore(epochs[-1]) if epochs else None


def _save_model(path: Path, model: keras.Model, image_shape: tuple[int, int, int]) -> None:
    """Saves the model under its final name only if, loaded again, it gives the same logits."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")  # Keras wants the ending
    try:
        model.save(temporary)
        images = np.random.default_rng(0).integers(0, 256, (_PROOF_IMAGES, *image_shape), np.uint8)
        again = keras.models.load_model(temporary, safe_mode=True)
        if not np.array_equal(model(images, training=False), again(images, training=False)):
            raise RuntimeError(f"{path}: the saved model does not give the trained model's logits")
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}; make room") from None
    finally:
        temporary.unlink(missing_ok=True)


def _facts(config: TrainConfig, manifest: Manifest, strategy: Any, precision: str) -> dict[str, str]:
    """Returns what a run is, in words: printed, in TensorBoard and in the report."""
    pipeline = config.pipeline
    demo = " (demo data: drawn, no patient's)" if manifest.name == DEMO_NAME else ""
    records = ", ".join(f"{name} {split.records:,}" for name, split in manifest.splits.items())
    weights = f", class weights {manifest.class_weights()}" if config.class_weights else ""
    shape = "x".join(map(str, manifest.image_shape))
    batch = f"global batch {config.global_batch_size}"
    return {
        "data": f"{manifest.name}{demo}: {config.data}",
        "records": f"{records}; {shape}, {manifest.copies_in_words()}",
        "model": f"{config.model}, Adam {config.learning_rate:g}, {batch}{weights}",
        "strategy": f"{config.strategy}: {describe(strategy)}",
        "precision": precision,
        "input": f"train from {tier_of(manifest, 'train', pipeline)}",
        "seed": f"{config.seed}{', deterministic' * config.deterministic}",
        "run": config.run_dir,
        "versions": f"tensorflow {tf.__version__}, keras {keras.__version__}",
    }


def _markdown(facts: Mapping[str, str]) -> str:
    return "| | |\n|-|-|\n" + "\n".join(f"| {name} | {value} |" for name, value in facts.items())
