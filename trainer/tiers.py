"""Chooses the tier of a run's train split at its first start, and makes the datasets that the run reads."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_pipeline.dataset import epoch_steps, make_dataset, tier_of
from data_pipeline.options import Worker
from data_pipeline.sampling.shares import fields_for, shares_of
from data_pipeline.sampling.weights_file import content_sha256, read_weights
from data_pipeline.tiers.choice import AUTO, ChosenTier
from data_pipeline.tiers.device_tables import machine_of
from data_pipeline.tiers.registry import STREAM_TIER
from data_pipeline.tiers.tier import HeldTier, Machine
from tfrecords.folds.folded import folded
from tfrecords.folds.held_out import Fold
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.loop import Data
from trainer.workers.agreement import sum_over_workers


def with_weights_file(config: TrainConfig) -> TrainConfig:
    """Returns the configuration with the hash of its --sampling=FILE.csv, by which a resumed run knows it.

    Raises:
        InputError: the file cannot be used; see `read_weights`.
    """
    path = config.pipeline.weights_file
    if path:
        read_weights(path)
    return config.changed(sampling_sha256=content_sha256(path) if path else "")


def with_fold(
    config: TrainConfig, manifest: Manifest, log: Callable[[str], None]
) -> tuple[TrainConfig, Manifest]:
    """Returns configuration and manifest with the data set of --fold in the place of the conversion.

    Raises:
        InputError: the conversion cannot be divided so, or the fold's data set cannot be written.
    """
    if not config.fold or config.fold_of:
        return config, manifest
    folder, of_fold = folded(
        Path(config.data), manifest, Fold.parse(config.fold), cache_dir=config.pipeline.cache_dir, log=log
    )
    return config.changed(data=str(folder), fold_of=config.data), of_fold


def choose_train_tier(
    config: TrainConfig, manifest: Manifest, strategy: Any, stored: ChosenTier | None = None
) -> ChosenTier:
    """Returns the tier of the train split; all workers must call this at the same time.

    A stream has another order than the other tiers. So with --cache=auto a run keeps the tier of its first
    start, whatever memory is free now, and if one worker must stream, all workers do.

    Args:
        config: of the run.
        manifest: of its data.
        strategy: that it trains under.
        stored: the tier of the run's first start; None: this is it.

    Raises:
        InputError: the devices cannot hold the split, or no tier can and --sampling needs one that does.
    """
    devices = strategy.extended.worker_devices
    machine = machine_of(devices, processes_here(strategy))
    if stored and config.pipeline.cache == AUTO:
        chosen = stored
    else:
        chosen = tier_of(manifest, "train", config.pipeline, machine, training=True)
    # The chief waits here too, so all workers have looked for a run before the chief can make one.
    if sum_over_workers(strategy)([int(chosen.streams)])[0]:
        chosen = replace(chosen, name=STREAM_TIER.name)
    chosen.tier.require_room("train", chosen.need, machine)
    return chosen


def run_data(config: TrainConfig, manifest: Manifest, strategy: Any, chosen: ChosenTier) -> Data:
    """Returns the datasets that the loop of a run reads; each worker gets its part of every global batch.

    Raises:
        InputError: the file of --sampling does not name just the images of the train split.
    """
    directory, options = Path(config.data), config.pipeline
    if options.weights_file and isinstance(chosen.tier, HeldTier):
        # Now, before the run writes anything; this reads the shards once more, if the tier is not "disk".
        fields = fields_for(options.sampling)
        columns = chosen.tier.load(directory, manifest, "train", fields, options.cache_dir)
        shares_of(options.sampling, columns, "train")

    def tier_name(split: str) -> str:
        if split == "train":
            return chosen.name
        return tier_of(manifest, split, options, Machine(processes_here(strategy))).name

    def distributed(split: str, *, training: bool, start_step: int = 0) -> Any:
        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = context.num_input_pipelines
            worker = Worker(context.input_pipeline_id, count, context.num_replicas_in_sync // count)
            dataset = make_dataset(
                directory,
                manifest,
                split,
                replace(
                    options, cache=tier_name(split), sampling=options.sampling if training else "natural"
                ),
                training=training,
                start_step=start_step,
                worker=worker,
            )
            return dataset if training else dataset.repeat()

        return strategy.distribute_datasets_from_function(of_worker)

    return Data(
        train=lambda start: distributed("train", training=True, start_step=start),
        val=lambda: distributed("val", training=False),
        steps_per_epoch=epoch_steps(manifest, "train", options, training=True),
        val_steps=epoch_steps(manifest, "val", options, training=False),
        global_batch_size=options.global_batch_size,
        table=lambda: distributed_table(config, manifest, strategy, chosen),
    )


def processes_here(strategy: Any) -> int:
    """Returns the number of workers in the strategy's cluster that have the host name of this one."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return 1
    cluster = resolver.cluster_spec()
    hosts = [address.rsplit(":", 1)[0] for job in cluster.jobs for address in cluster.job_tasks(job)]
    mine = cluster.task_address(resolver.task_type, resolver.task_id).rsplit(":", 1)[0]
    return hosts.count(mine)


def distributed_table(config: TrainConfig, manifest: Manifest, strategy: Any, chosen: ChosenTier) -> Any:
    """Returns the train split in the memory of each replica's device; None unless the tier is `on_device`.

    Returns:
        for each replica its own `image` uint8 [N, H, W, C] and `label` int32 [N], by name.

    Raises:
        InputError: a shard is missing, cut or damaged, or a device has too little memory.
    """
    devices = strategy.extended.worker_devices  # of this process
    tables = chosen.tier.tables(Path(config.data), manifest, "train", devices)
    if tables is None:
        return None
    return strategy.experimental_distribute_values_from_function(
        lambda context: tables[context.replica_id_in_sync_group % len(devices)]
    )
