"""A training run from its configuration to its report, top to bottom."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf

from data_pipeline.augment import augmenter
from data_pipeline.copies import class_weights
from data_pipeline.damage import named_damage
from data_pipeline.options import Worker
from data_pipeline.step.soft_targets import SoftTargets
from tfrecords import signals
from tfrecords.command import NOT_FINITE
from tfrecords.errors import EndedEarly
from tfrecords.manifest import Manifest
from trainer.blocks import Cuts
from trainer.callbacks.history import HistoryFiles
from trainer.callbacks.monitoring import has_stopped, monitoring
from trainer.callbacks.progress import log_steps
from trainer.callbacks.saving import SaveCheckpoints
from trainer.callbacks.users import AgreedStop, users_callbacks
from trainer.callbacks.watching import watching
from trainer.checkpoint import Checkpoints, NotFinite, State, saved_steps, set_callback_state
from trainer.checks import check_rows
from trainer.config import TrainConfig
from trainer.devices.precision import agreed_precision
from trainer.devices.strategy import make_strategy
from trainer.devices.xla import compiled
from trainer.evaluation.evaluate_run import Evaluation
from trainer.facts import run_facts
from trainer.finish import finish, finished, finished_again, lower, positive_of, stored
from trainer.lock import RunLock
from trainer.loop import Data, Loop
from trainer.models.normalize import Front, normalized
from trainer.models.registry import MODELS
from trainer.models.starting import started_model, with_model_files
from trainer.models.users import require_saving
from trainer.optimisation.backbone import Backbone, Unfreeze
from trainer.optimisation.optimizer import learning_rate, make_optimizer, resumed_rate
from trainer.run import DataFacts, Run
from trainer.served.validation import check_served
from trainer.stopping import FIRST_BLOCK, Pause, Stopping
from trainer.tensorboard.hparams import write_session_end
from trainer.tiers import choose_train_tier, run_data, with_fold, with_weights_file
from trainer.workers.agreement import check_agreement, sum_over_workers
from trainer.workers.cluster import Cluster, cluster_of, common_flags
from trainer.workers.lost import OF_A_LOST_PEER, naming_lost_workers
from trainer.workers.meeting import Facts, meet

_TRAINED: Final = "training is done and saved; the same command makes the report"


def train(
    config: TrainConfig,
    log: Callable[[str], None] = print,
    *,
    manifest: Manifest | None = None,
    evaluate: bool = True,
    chosen: str = "",
    compare: bool = True,
    build: Callable[..., keras.Model] | None = None,
) -> Evaluation | None:
    """Trains or resumes a run and evaluates it; returns None on a worker that is not the chief.

    Args:
        config: of the run.
        log: called with each line to print.
        manifest: of its data; None: it is read here.
        evaluate: whether to evaluate at the end; if not, the test split is never read, and None is returned.
        chosen: how the configuration was chosen, for the report.
        compare: whether TensorBoard's HParams page is to show the run; a search shows its runs itself.
        build: (image_shape, classes, **model_args) -> the model, if the configuration's is "python:NAME"; the
            run is resumed with the same function.

    Raises:
        InputError: data, devices or the run directory cannot be used.
        EndedEarly: the run was stopped and is saved, a worker was lost, or the loss is not finite.
    """
    began = time.monotonic()
    cluster = cluster_of(config.strategy)
    data = manifest or Manifest.load(Path(config.data), check_shards=False)
    config, data = with_fold(config, data, log)
    if not config.direct:
        data.check_shards(config.data)
    for split in ("train", "val"):
        data.split(split)
    positive_of(config, data)  # a class that does not exist is refused now, not after the training
    check_served(config, data)
    config = with_model_files(with_weights_file(config))
    there, config = _opened(config, data)
    if done := finished(config, there):
        return finished_again(done, data, log, evaluate=evaluate) if cluster.chief else None
    with ExitStack() as held:
        lock = RunLock(Path(config.run_dir), log)

        def ready() -> Facts:
            nonlocal there, config
            held.enter_context(lock)
            # Read again: another process may have trained this run while the lock was waited for.
            there, config = _opened(config, data)
            if finished(config, there):
                raise EndedEarly(f"{config.run_dir}: another process has finished this run", 0)
            kept = there.threads if there else 0
            return {"threads": kept or config.threads_per_process or len(os.sched_getaffinity(0))}

        try:
            common = meet(cluster, common_flags(config), log, ready=ready)
        except EndedEarly as end:
            done = finished(config, there) if end.code == 0 and cluster.chief else None
            if done:
                return finished_again(done, data, log, evaluate=evaluate)
            raise
        if not cluster.chief:  # read again, as the chief has: it writes only when all have read
            there, config = _opened(config, data)
        with naming_lost_workers(cluster):
            start = _Start(common["threads"], began, evaluate, chosen, compare, build)
            return _train(config, data, there, cluster, lock, start, log)


def _opened(config: TrainConfig, manifest: Manifest) -> tuple[Run | None, TrainConfig]:
    """Returns the run that is in the directory, or None, and the configuration with what that run keeps."""
    there = stored(config, manifest)
    return there, there.kept(config) if there else config


@dataclass(frozen=True)
class _Start:
    """What belongs to this start of the run, not to the run.

    Attributes:
        threads: number of TensorFlow's threads.
        began: when it started, in seconds of `time.monotonic`.
        evaluate: see `train`.
        chosen: see `train`.
        compare: see `train`.
        build: see `train`.
    """

    threads: int
    began: float
    evaluate: bool
    chosen: str
    compare: bool
    build: Callable[..., keras.Model] | None


def _train(
    config: TrainConfig,
    manifest: Manifest,
    there: Run | None,
    cluster: Cluster,
    lock: RunLock,
    start: _Start,
    log: Callable[[str], None],
) -> Evaluation | None:
    """Trains, when all workers are there and no other process trains in the run's directory."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    threads = start.threads
    strategy = make_strategy(config, threads)
    replicas = strategy.num_replicas_in_sync
    check_rows(config, Worker(replicas=replicas).replica_batch_size(config.pipeline.global_batch_size))
    add = sum_over_workers(strategy)
    precision = agreed_precision(config.precision, there.precision if there else "", add, chief=cluster.chief)
    tier = choose_train_tier(config, manifest, strategy, there.tier if there else None)
    facts = run_facts(config, manifest, strategy, tier, f"{precision.policy}: {precision.reason}", threads)
    if start.chosen:
        facts["chosen"] = start.chosen
    classes = len(manifest.class_names)
    data = run_data(config, manifest, strategy, tier)

    rate = learning_rate(config, data.steps_per_epoch)

    def build() -> tuple[keras.Model, Any]:
        # A run with checkpoints has its weights there.
        begun = there if there and saved_steps(there.checkpoints) else None
        model, warm = started_model(
            config, manifest.image_shape, classes, precision.policy, begun, start.build, log
        )
        facts.update(warm)
        model = normalized(model, config.normalize)
        return model, make_optimizer(config, rate, precision.policy, model.trainable_variables)

    weights = class_weights(manifest, config.pipeline.copies) if config.class_weights else None
    front = Front.of(config.normalize, config.pipeline.augment)
    loop = Loop(
        strategy,
        build,
        classes,
        weights,
        deterministic=config.deterministic,
        augment=augmenter(config.pipeline.augment, tones=front is None),
        front=front,
        parts=config.accumulate,
        ema=config.ema,
        backbone=Backbone.of(config),
        soft_targets=SoftTargets.of(classes, config.label_smoothing, config.mixup),
        jit_compile=partial(
            compiled, config.jit_compile, replicas=replicas, deterministic=config.deterministic
        ),
    )
    if config.model not in MODELS:
        require_saving(loop.model, config.model, manifest.image_shape)
    run = Run(config, DataFacts.of(manifest), facts, tier, precision.policy, threads)
    checkpoints = Checkpoints(
        run.checkpoints,
        loop.model,
        loop.optimizer,
        chief=cluster.chief,
        keep=config.keep,
        meters=loop.kept_meters,
        averages=loop.averages.values,
    )
    callbacks = users_callbacks(config, chief=cluster.chief)
    # All validation is done; only now the run directory is written.
    if there and there.diverged is not None:
        if cluster.chief:
            _back_to_the_best(checkpoints)
        # All wait here, so that no worker looks for checkpoints before they are removed.
        check_agreement(strategy, 0, "the way back")
    if cluster.chief:
        run.sweep()
        run.save()
        log("\n".join(f"{name:10} {value}" for name, value in facts.items()))
    resumed = _resume(checkpoints)
    check_agreement(strategy, resumed.step if resumed else 0, "the step to resume from")
    if resumed and isinstance(rate, float):  # the checkpoint may hold a higher rate: see `lower`
        loop.optimizer.learning_rate = resumed_rate(config, float(loop.optimizer.learning_rate.numpy()))
    if cluster.chief and resumed:
        log(_resuming(resumed, config, data.steps_per_epoch))
    stopping = Stopping(add, max_minutes=config.max_minutes, began=start.began)
    return _fit_and_finish(
        _Work(config, manifest, cluster, run, data, loop, checkpoints, stopping, lock, log, start, callbacks),
        resumed,
    )


@dataclass(frozen=True)
class _Work:
    """What a run works with, once it is ready to train."""

    config: TrainConfig
    manifest: Manifest
    cluster: Cluster
    run: Run
    data: Data
    loop: Loop
    checkpoints: Checkpoints
    stopping: Stopping
    lock: RunLock
    log: Callable[[str], None]
    start: _Start
    callbacks: Sequence[keras.callbacks.Callback]


def _fit_and_finish(work: _Work, resumed: State | None) -> Evaluation | None:
    config, chief, diverged, evaluation = work.config, work.cluster.chief, None, None
    with ExitStack() as uncut:
        try:
            _fit(work, resumed, uncut)
        except NotFinite as error:
            diverged = error
        uncut.enter_context(signals.deferred())
        if diverged and not _best_epoch(work.checkpoints):
            _note_divergence(work, diverged)
            raise EndedEarly(f"{diverged}, before any epoch was done; {lower(config)}", NOT_FINITE)
        if chief:
            evaluation = finish(
                work.run,
                work.manifest,
                work.loop.model,
                work.checkpoints,
                check=work.lock.check,
                tick=work.stopping.now_and_then(_TRAINED),
                log=work.log,
                evaluate=work.start.evaluate,
            )
            if work.start.compare:
                write_session_end(work.run.tensorboard, success=diverged is None)
        if diverged:
            _note_divergence(work, diverged)
        # All workers synchronise before they exit: one that exits while others work would count as lost.
        try:
            work.stopping.leave_together(_TRAINED, chief=chief)
        except OF_A_LOST_PEER:  # the chief was the first to exit: then everything is published
            # Read again: the chief has written meanwhile.
            if not chief and not finished(config, stored(config, work.manifest)):
                raise
    if diverged:
        if evaluation:
            work.log(f"\n{evaluation.text}\n\nreport: {evaluation.page}")
        raise EndedEarly(
            f"{diverged}; model and report are those of the best epoch before; {lower(config)}", NOT_FINITE
        )
    return evaluation


def _note_divergence(work: _Work, diverged: NotFinite) -> None:
    """Records the divergence: from now on the run resumes with a lower learning rate only, at its best epoch.

    It is recorded after that epoch's model and report are made. A run that is killed before diverges again
    when it is resumed, and makes them then.
    """
    if work.cluster.chief:
        replace(work.run, diverged=diverged.step).save()


def _fit(work: _Work, resumed: State | None, uncut: ExitStack) -> None:
    config, chief, data, run = work.config, work.cluster.chief, work.data, work.run
    deciding = monitoring(config)
    history = HistoryFiles(run.folder if chief else None, resumed.history if resumed else ())
    stateful = [*work.callbacks, AgreedStop(work.stopping.add), *deciding] if config.callbacks else deciding
    calls: list[Any] = [*stateful, history]
    if work.loop.backbone:
        calls.append(Unfreeze(work.loop.backbone, config.unfreeze_epoch, work.loop.retrace))
    # The chief's values for all: workers whose blocks end at other steps would wait for each other for ever.
    within, profiled = log_steps(config.log_steps, data.steps_per_epoch), config.profile_steps or (0, 0)
    asked = (config.checkpoint_steps, within, *profiled)
    every_steps, within, first, end = work.stopping.look(*(number * chief for number in asked))[2]
    # A step alone has a graph of its own, which is made at the first of them: one before the profile.
    cuts = Cuts(of_run=every_steps, of_epoch=within, single=(max(0, first - 1), end))
    if chief:
        calls = [*watching(run, data, resumed, cuts, work.log, compare=work.start.compare), *calls]
    saver = SaveCheckpoints(
        work.checkpoints,
        history,
        stateful,
        resumed,
        steps_per_epoch=data.steps_per_epoch,
        keep_meters=work.loop.keep_meters,
        every_steps=every_steps,
        minutes=config.checkpoint_minutes,
        check=work.lock.check if chief else lambda: None,
        monitor=config.monitor,
    )
    calls.append(saver)  # last, so that it saves the state in which the others end the epoch

    def on_begin() -> None:
        if resumed:
            work.loop.model.stop_training = False
            set_callback_state(stateful, resumed.callbacks)
            work.loop.model.stop_training |= has_stopped(deciding)
        uncut.enter_context(
            signals.deferred()
        )  # the data are open: from now on a signal waits until the run is saved

    start = (resumed.epoch, resumed.step - resumed.epoch * data.steps_per_epoch) if resumed else (0, 0)
    with named_damage(Path(config.data), work.manifest, "train", "val", direct=config.direct):
        work.loop.run(
            data,
            calls,
            epochs=config.epochs,
            start=start,
            cuts=cuts,
            pause=Pause(saver, work.stopping, chief=chief, steps_per_epoch=data.steps_per_epoch),
            first_block=FIRST_BLOCK,
            on_begin=on_begin,
        )


def _best_epoch(checkpoints: Checkpoints) -> int:
    steps = checkpoints.steps()
    return checkpoints.state(steps[-1]).best_epoch if steps else 0


def _back_to_the_best(checkpoints: Checkpoints) -> None:
    """Removes the checkpoints after the best epoch, from which a run goes on whose loss was not finite."""
    steps = checkpoints.steps()
    checkpoints.drop_after(checkpoints.state(steps[-1]).best_step if steps else 0)


def _resuming(state: State, config: TrainConfig, steps_per_epoch: int) -> str:
    more = state.step - state.epoch * steps_per_epoch
    and_steps = f" and {more:,} of the next one's {steps_per_epoch:,} steps" if more else ""
    return f"resuming after epoch {state.epoch}{and_steps} of at most {config.epochs}"


def _resume(checkpoints: Checkpoints) -> State | None:
    steps = checkpoints.steps()
    return checkpoints.restore(steps[-1]) if steps else None
