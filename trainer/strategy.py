"""Devices to a `tf.distribute` strategy."""

import json
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrecords.errors import InputError
from trainer.config import TrainConfig


def make_strategy(config: TrainConfig) -> Any:
    """Returns the strategy; must be called before anything else has used a device.

    Raises:
        InputError: a device that is not there, or `multi_worker` without a usable TF_CONFIG.
    """
    if config.logical_cpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(config.logical_cpus)]
        tf.config.set_logical_device_configuration(cpu, parts)
        tf.config.set_visible_devices([], "GPU")  # the CPU is what is to be tried
    for gpu in tf.config.get_visible_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    if config.strategy == "multi_worker":
        _check_cluster(os.environ.get("TF_CONFIG", ""))
        _keep_own_devices(config)
        return tf.distribute.MultiWorkerMirroredStrategy()
    names = _device_names(config)
    if config.strategy == "mirrored":
        return tf.distribute.MirroredStrategy(names)
    return tf.distribute.OneDeviceStrategy(names[0])


def is_chief(strategy: Any) -> bool:
    """Returns whether this process writes: worker 0, or the one named chief."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "chief" or (not has_chief and resolver.task_id == 0)


def check_agreement(strategy: Any, value: int, what: str) -> None:
    """Waits for all workers and checks that they hold the same number.

    A worker that leaves while others still work would count as crashed, so they part here too.

    Raises:
        InputError: the workers' numbers differ.
    """

    @tf.function
    def sums(mine: Any) -> Any:
        def add() -> Any:
            return tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, tf.stack([mine, mine * mine])
            )

        return strategy.experimental_local_results(strategy.run(add))[0]

    count = strategy.num_replicas_in_sync
    total, squares = (int(value) for value in sums(tf.constant(value, tf.int64)))
    if total * total != count * squares:  # Cauchy and Schwarz: equal only if all are; all workers see it
        raise InputError(
            f"the workers disagree on {what}: {value} here, {total / count:g} on average; --run_dir must be "
            f"one folder that all of them see, on a shared disk"
        )


def chief_decides(strategy: Any, *, chief: bool) -> Callable[[int], int]:
    """Returns a function that every worker must call at the same time and that gives the chief's number.

    With one process it costs nothing; else it is a collective.

    Args:
        strategy: of the run.
        chief: whether this process is the chief.
    """
    if strategy.cluster_resolver is None or not strategy.cluster_resolver.task_type:
        return int

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64)])
    def sums(mine: Any) -> Any:
        def add() -> Any:
            own = tf.stack([mine, tf.ones_like(mine)]) * int(chief)
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

        return strategy.experimental_local_results(strategy.run(add))[0]

    def of_chief(value: int) -> int:
        total, replicas = (int(each) for each in sums(tf.constant(value, tf.int64)))
        return total // replicas  # each of the chief's replicas has added its number

    return of_chief


def describe(strategy: Any) -> str:
    """Returns the strategy in words, for the line a run starts with."""
    replicas = strategy.num_replicas_in_sync
    names = sorted({device.split("device:")[-1] for device in strategy.extended.worker_devices})
    workers = max(1, replicas // max(1, len(strategy.extended.worker_devices)))
    return f"{replicas} replica{'s' * (replicas > 1)} ({', '.join(names)})" + (
        f" on {workers} workers" if workers > 1 else ""
    )


def _device_names(config: TrainConfig) -> list[str]:
    kind = "GPU" if tf.config.get_visible_devices("GPU") else "CPU"
    found = tf.config.list_logical_devices(kind)
    wanted = config.devices or range(len(found))
    for index in wanted:
        if index >= len(found):
            more = " (--logical_cpus=N splits a CPU)" if kind == "CPU" else ""
            raise InputError(
                f"--devices={','.join(map(str, config.devices))}: no {kind} {index}; there are "
                f"{len(found)}: {', '.join(str(i) for i in range(len(found)))}{more}"
            )
    return [f"{kind}:{index}" for index in wanted]


def _keep_own_devices(config: TrainConfig) -> None:
    gpus = tf.config.get_visible_devices("GPU")
    if config.devices:
        if max(config.devices) >= len(gpus):
            raise InputError(f"--devices={config.devices}: this machine has {len(gpus)} GPUs")
        tf.config.set_visible_devices([gpus[index] for index in config.devices], "GPU")


def _check_cluster(text: str) -> None:
    example = (
        '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": "worker", "index": 0}}'
    )
    fix = f"set it on every machine, with its own index, as\n  TF_CONFIG='{example}'"
    if not text:
        raise InputError(f"--strategy=multi_worker: the environment has no TF_CONFIG; {fix}")
    try:
        value = json.loads(text)
        tasks = value["cluster"][value["task"]["type"]]
        index = int(value["task"]["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"TF_CONFIG={text!r} cannot be used ({error!r}); {fix}") from None
    if not 0 <= index < len(tasks):
        raise InputError(f"TF_CONFIG: task index {index}, but the cluster has {len(tasks)} such tasks; {fix}")
