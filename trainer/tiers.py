"""What a run reads, and from where: chosen at its first start, kept ever after."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_pipeline.dataset import epoch_steps, make_dataset, tier_of
from data_pipeline.options import Worker
from data_pipeline.tiers import device
from data_pipeline.tiers.choice import Machine, Tier
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.loop import Data
from trainer.workers.agreement import sum_over_workers


def choose_train_tier(
    config: TrainConfig, manifest: Manifest, strategy: Any, stored: Tier | None = None
) -> Tier:
    """Returns the tier of the train split; every worker must call it at the same time.

    A stream has another order than the other tiers, so with --cache=auto a run keeps the tier of its
    first start, whatever memory is free now, and if one worker must stream, all do.

    Args:
        config: of the run.
        manifest: of its data.
        strategy: that it trains under.
        stored: the tier of the run's first start; None: this is it.

    Raises:
        InputError: the devices cannot hold the split.
    """
    devices = strategy.extended.worker_devices
    machine = device.machine_of(devices, processes_here(strategy))
    tier = tier_of(manifest, "train", config.pipeline, machine)
    if stored and config.pipeline.cache == "auto":
        tier = stored
    # All workers have looked for a run before the chief, which waits here too, can make one.
    if sum_over_workers(strategy)([int(tier.name == "stream")])[0]:
        tier = replace(tier, name="stream")
    if tier.name == "device":
        device.require_room("train", tier.need, machine.device_free)
    return tier


def run_data(config: TrainConfig, manifest: Manifest, strategy: Any, tier: Tier) -> Data:
    """Returns what the loop of a run reads: each worker its part of every global batch."""
    directory, options = Path(config.data), config.pipeline

    def cache_of(split: str) -> str:
        if split == "train":
            return tier.cache
        return tier_of(manifest, split, options, Machine(processes_here(strategy))).cache

    def distributed(split: str, *, training: bool, start_step: int = 0) -> Any:
        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            count = context.num_input_pipelines
            worker = Worker(context.input_pipeline_id, count, context.num_replicas_in_sync // count)
            dataset = make_dataset(
                directory,
                manifest,
                split,
                replace(options, cache=cache_of(split)),
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
        table=lambda: distributed_table(config, manifest, strategy, tier),
    )


def processes_here(strategy: Any) -> int:
    """Returns how many workers of the strategy's cluster are on this machine, by their host names."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return 1
    cluster = resolver.cluster_spec()
    hosts = [address.rsplit(":", 1)[0] for job in cluster.jobs for address in cluster.job_tasks(job)]
    mine = cluster.task_address(resolver.task_type, resolver.task_id).rsplit(":", 1)[0]
    return hosts.count(mine)


def distributed_table(config: TrainConfig, manifest: Manifest, strategy: Any, tier: Tier) -> Any:
    """Returns the train split in the memory of each replica's device, or None for another tier.

    Returns:
        by name `image` uint8 [N, H, W, C] and `label` int32 [N], of each replica its own.

    Raises:
        InputError: a shard is missing, cut or damaged, or a device has too little memory.
    """
    if tier.name != "device":
        return None
    devices = strategy.extended.worker_devices  # of this process
    tables = device.load(Path(config.data), manifest, "train", devices)
    return strategy.experimental_distribute_values_from_function(
        lambda context: tables[context.replica_id_in_sync_group % len(devices)]
    )
