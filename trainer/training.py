"""A training run from its configuration to its report, top to bottom."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf

from data_pipeline.augment import augmenter
from data_pipeline.copies import class_weights, weights_in_words
from data_pipeline.damage import named_damage
from data_pipeline.options import Worker
from data_pipeline.settings import in_words
from data_pipeline.tiers.choice import Tier
from data_pipeline.tiers.disk import folder_of
from tfrecords import signals
from tfrecords.command import NOT_FINITE
from tfrecords.demo.dataset import DEMO_NAME
from tfrecords.errors import EndedEarly
from tfrecords.manifest import PIPELINE_NAME, Manifest
from tfrecords.positive import positive_in_words
from trainer.callbacks.history import HistoryFiles
from trainer.callbacks.progress import log_steps
from trainer.callbacks.saving import SaveCheckpoints
from trainer.callbacks.watching import watching
from trainer.checkpoint import Checkpoints, NotFinite, State, set_callback_state
from trainer.config import TrainConfig
from trainer.evaluation.evaluate_run import POSITIVE_FACT, Evaluation
from trainer.finish import finish, finished, finished_again, lower, positive_of, stored
from trainer.lock import RunLock
from trainer.loop import Cuts, Data, Loop
from trainer.models import build_model, learning_rate
from trainer.precision import POLICIES, Precision, choose_precision, cpu_flags, gpu_capabilities
from trainer.run import DataFacts, Run
from trainer.stopping import FIRST_BLOCK, Pause, Stopping
from trainer.strategy import describe, make_strategy
from trainer.tensorboard.hparams import write_session_end
from trainer.tiers import choose_train_tier, run_data
from trainer.workers.agreement import Sum, check_agreement, sum_over_workers
from trainer.workers.cluster import Cluster, cluster_of
from trainer.workers.lost import OF_A_LOST_PEER, naming_lost_workers
from trainer.workers.meeting import Facts, meet

_TRAINED: Final = "training is done and saved; the same command makes the report"
# What each worker may be given as its machine needs it.
_OWN_TO_A_WORKER: Final = frozenset(
    {
        *("data", "data_url", "data_service", "run_dir", "cache", "cache_dir", "ram_budget", "tuned"),
        *("devices", "prefetch", "parallel_reads", "threads", "threads_per_process"),
        *("keep", "checkpoint_steps", "checkpoint_minutes", "max_minutes", "log_steps", "profile_steps"),
    }
)


def train(
    config: TrainConfig,
    log: Callable[[str], None] = print,
    *,
    evaluate: bool = True,
    chosen: str = "",
    compare: bool = True,
) -> Evaluation | None:
    """Trains, or goes on training, and evaluates; returns the evaluation, None on a helping worker.

    Args:
        config: of the run.
        log: told what it does.
        evaluate: whether to evaluate at the end; without, the test split is never read and None is returned.
        chosen: how the configuration was chosen, for the report.
        compare: whether TensorBoard's HParams page is to show the run; a search shows its runs itself.

    Raises:
        InputError: data, devices or the run directory cannot be used.
        EndedEarly: it was stopped, and is saved; a worker was lost; or its loss is not finite.
    """
    began = time.monotonic()
    cluster = cluster_of(config.strategy)
    manifest = Manifest.load(Path(config.data), check_shards=not config.direct)
    for split in ("train", "val"):
        manifest.split(split)
    positive_of(config, manifest)  # one that is no class is told now, not after the training
    if there := finished(config, manifest):
        return finished_again(there, manifest, log, evaluate=evaluate) if cluster.chief else None
    with ExitStack() as held:
        lock = RunLock(Path(config.run_dir), log)

        def ready() -> Facts:
            held.enter_context(lock)
            if finished(config, manifest):  # while the lock was waited for
                raise EndedEarly(f"{config.run_dir}: another process has finished this run", 0)
            there = stored(config, manifest)
            kept = there.threads if there else 0
            return {"threads": kept or config.threads_per_process or len(os.sched_getaffinity(0))}

        try:
            common = meet(cluster, _common(config), log, ready=ready)
        except EndedEarly as end:
            there = finished(config, manifest) if end.code == 0 and cluster.chief else None
            if there:
                return finished_again(there, manifest, log, evaluate=evaluate)
            raise
        with naming_lost_workers(cluster):
            start = _Start(common["threads"], began, evaluate, chosen, compare)
            return _train(config, manifest, cluster, lock, start, log)


@dataclass(frozen=True)
class _Start:
    """What is of this start, not of the run.

    Attributes:
        threads: of TensorFlow.
        began: by the clock.
        evaluate: see `train`.
        chosen: see `train`.
        compare: see `train`.
    """

    threads: int
    began: float
    evaluate: bool
    chosen: str
    compare: bool


def _train(
    config: TrainConfig,
    manifest: Manifest,
    cluster: Cluster,
    lock: RunLock,
    start: _Start,
    log: Callable[[str], None],
) -> Evaluation | None:
    """The run itself, when all of its workers are there and nobody else trains in its directory."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    threads = start.threads
    strategy = make_strategy(config, threads)
    Worker(replicas=strategy.num_replicas_in_sync).replica_batch_size(config.global_batch_size)
    add = sum_over_workers(strategy)
    there = stored(config, manifest)
    precision = _precision(config, there, add, chief=cluster.chief)
    tier = choose_train_tier(config, manifest, strategy)
    facts = _facts(config, manifest, strategy, tier, f"{precision.policy}: {precision.reason}", threads)
    if start.chosen:
        facts["chosen"] = start.chosen
    classes = len(manifest.class_names)
    data = run_data(config, manifest, strategy, tier)

    rate = learning_rate(config, data.steps_per_epoch)

    def build() -> tuple[keras.Model, Any]:
        model = build_model(
            config.model,
            manifest.image_shape,
            classes,
            dtype=precision.policy,
            args=dict(config.model_args),
        )
        optimizer: Any = keras.optimizers.Adam(rate)
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
    run = Run(config, DataFacts.of(manifest), facts, tier, precision.policy, threads)
    checkpoints = Checkpoints(
        run.checkpoints,
        loop.model,
        loop.optimizer,
        chief=cluster.chief,
        keep=config.keep,
        meters=loop.kept_meters,
    )
    # Everything is validated: from here on the run directory is written.
    if there and there.diverged is not None:
        if cluster.chief:
            _back_to_the_best(checkpoints)
        check_agreement(strategy, 0, "the way back")  # nobody looks for checkpoints before they are removed
    if cluster.chief:
        run.sweep()
        run.save()
        log("\n".join(f"{name:10} {value}" for name, value in facts.items()))
    resumed = _resume(checkpoints)
    check_agreement(strategy, resumed.step if resumed else 0, "the step to resume from")
    if resumed and isinstance(rate, float):  # the checkpoint's may be higher: see `lower`
        loop.optimizer.learning_rate = rate
    if cluster.chief and resumed:
        log(_resuming(resumed, config, data.steps_per_epoch))
    stopping = Stopping(add, max_minutes=config.max_minutes, began=start.began)
    return _fit_and_finish(
        _Work(config, manifest, cluster, run, data, loop, checkpoints, stopping, lock, log, start),
        resumed,
    )


@dataclass(frozen=True)
class _Work:
    """All that a run works with, once it is ready to train."""

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
        # All leave together: a worker that leaves while others still work would count as lost.
        try:
            work.stopping.leave_together(_TRAINED, chief=chief)
        except OF_A_LOST_PEER:  # one was faster out of this than the other into it: all is published
            if not chief and not finished(config, work.manifest):
                raise
    if diverged:
        if evaluation:
            work.log(f"\n{evaluation.text}\n\nreport: {evaluation.page}")
        raise EndedEarly(
            f"{diverged}; model and report are those of the best epoch before; {lower(config)}", NOT_FINITE
        )
    return evaluation


def _note_divergence(work: _Work, diverged: NotFinite) -> None:
    """Lets the run go on with a lower learning rate only, from the best epoch.

    After the model and the report of that epoch: a run that is killed before diverges and makes them again.
    """
    if work.cluster.chief:
        replace(work.run, diverged=diverged.step).save()


def _fit(work: _Work, resumed: State | None, uncut: ExitStack) -> None:
    config, chief, data, run = work.config, work.cluster.chief, work.data, work.run
    early = keras.callbacks.EarlyStopping(
        monitor="val_loss", min_delta=config.min_delta, patience=config.patience
    )
    history = HistoryFiles(run.folder if chief else None, resumed.history if resumed else ())
    calls: list[Any] = [early, history]
    # The chief's: workers that cut their blocks elsewhere would wait for each other for ever.
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
        [early],
        resumed,
        steps_per_epoch=data.steps_per_epoch,
        keep_meters=work.loop.keep_meters,
        every_steps=every_steps,
        minutes=config.checkpoint_minutes,
        check=work.lock.check if chief else lambda: None,
    )
    calls.append(saver)  # last, so that it holds what the others have made of the epoch

    def on_begin() -> None:
        if resumed:
            set_callback_state([early], resumed.callbacks)
            work.loop.model.stop_training = early.wait >= config.patience
        uncut.enter_context(signals.deferred())  # the data are open: from here on a signal waits for a save

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
    """Removes the checkpoints after the best epoch's: from there a run goes on whose loss was not finite."""
    steps = checkpoints.steps()
    checkpoints.drop_after(checkpoints.state(steps[-1]).best_step if steps else 0)


def _resuming(state: State, config: TrainConfig, steps_per_epoch: int) -> str:
    more = state.step - state.epoch * steps_per_epoch
    and_steps = f" and {more:,} of the next one's {steps_per_epoch:,} steps" if more else ""
    return f"resuming after epoch {state.epoch}{and_steps} of at most {config.epochs}"


def _precision(config: TrainConfig, there: Run | None, add: Sum, *, chief: bool) -> Precision:
    """Returns the precision that a run keeps from its first start, the same on all workers."""
    chosen = choose_precision(config.precision, gpu_capabilities(), cpu_flags())
    if config.precision != "auto":
        return chosen
    if there and there.precision:
        return Precision(there.precision, "chosen at the first start of this run")
    policies = list(POLICIES.values())
    (of_chief,) = add([policies.index(chosen.policy) * chief])
    if policies[of_chief] == chosen.policy:
        return chosen
    return Precision(policies[of_chief], "as the chief's hardware has it")


def _common(config: TrainConfig) -> Facts:
    """Returns the flags that all workers must be given alike."""
    return {name: value for name, value in config.to_json().items() if name not in _OWN_TO_A_WORKER}


def _resume(checkpoints: Checkpoints) -> State | None:
    steps = checkpoints.steps()
    return checkpoints.restore(steps[-1]) if steps else None


def _facts(
    config: TrainConfig, manifest: Manifest, strategy: Any, tier: Tier, precision: str, threads: int
) -> dict[str, str]:
    """Returns what a run is, in words: printed, in TensorBoard and in the report."""
    kept = f" in {folder_of(config.cache_dir)}" if tier.name == "disk" else ""
    demo = " (demo data: drawn, no patient's)" if manifest.name == DEMO_NAME else ""
    records = ", ".join(f"{name} {split.records:,}" for name, split in manifest.splits.items())
    weights = f", class weights {weights_in_words(manifest, config.copies)}" if config.class_weights else ""
    used = {"all": "", "one": "; one variant of each image an epoch", "none": "; originals only"}
    changed = f"; changed anew each epoch: {config.augment}" * (config.augment != "none")
    options = {name: getattr(config, name) for name in config.tuned}
    tuned = f"; by {PIPELINE_NAME}: {in_words(options)}" if options else ""
    shape = "x".join(map(str, manifest.image_shape))
    batch = f"global batch {config.global_batch_size}"
    given = "".join(f" {name}={value}" for name, value in config.model_args)
    rate = f"Adam {config.learning_rate:g}"
    if config.schedule != "constant":
        rate += f" by {config.schedule} over {config.epochs} epochs, {config.warmup_epochs} of warm-up"
    positive = positive_in_words(manifest.class_names, config.positive or manifest.positive)
    return {
        "data": f"{manifest.name}{demo}: {config.data_url or config.data}",
        "records": f"{records}; {shape}, {manifest.copies_in_words()}",
        **({POSITIVE_FACT: positive} if positive else {}),
        "model": f"{config.model}{given}, {rate}, {batch}{weights}",
        "strategy": f"{config.strategy}: {describe(strategy)}",
        "precision": precision,
        "threads": f"{threads} per process",
        "input": f"train from {tier}{kept}{used[config.copies]}{changed}{tuned}",
        "seed": f"{config.seed}{', deterministic' * config.deterministic}",
        "run": config.run_dir,
        "versions": f"tensorflow {tf.__version__}, keras {keras.__version__}",
    }
