"""From where a run reads its train split: chosen at its first start, kept ever after."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from data_pipeline.dataset import tier_of
from data_pipeline.tiers import device
from data_pipeline.tiers.choice import Tier
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.run import CONFIG_NAME, Run


def choose_train_tier(config: TrainConfig, manifest: Manifest, strategy: Any) -> Tier:
    """Returns the tier of the train split; every worker must call it at the same time.

    A stream has another order than the other tiers, so with --cache=auto a run keeps the tier of its
    first start, whatever memory is free now, and if one worker must stream, all do.

    Raises:
        InputError: the run's configuration is damaged, or the devices cannot hold the split.
    """
    folder = Path(config.run_dir)
    devices = strategy.extended.worker_devices
    machine = device.machine_of(devices, processes_here(strategy))
    tier = tier_of(manifest, "train", config.pipeline, machine)
    stored = Run.load(folder).tier if (folder / CONFIG_NAME).exists() else None
    if stored and config.cache == "auto":
        tier = stored
    # All workers have looked for a run before the chief, which waits here too, can make one.
    if _any_worker(strategy, tier.name == "stream"):
        tier = replace(tier, name="stream")
    if tier.name == "device":
        device.require_room("train", tier.need, machine.device_free)
    return tier


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


def _any_worker(strategy: Any, value: bool) -> bool:
    """Returns whether the value is true for any worker."""
    if strategy.cluster_resolver is None or not strategy.cluster_resolver.task_type:
        return value

    @tf.function
    def total(mine: Any) -> Any:
        def add() -> Any:
            own = mine * 1  # an argument itself lies on no device of the replica
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

        return strategy.experimental_local_results(strategy.run(add))[0]

    return int(total(tf.constant(int(value)))) > 0
