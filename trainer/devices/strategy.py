"""Makes the `tf.distribute` strategy of a run from its devices."""

from functools import partial
from typing import Any, Final

import tensorflow as tf
from tensorflow.python.eager.context import context

from tfrecords import signals
from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.workers.cluster import cluster_of

_KEYS_OF_A_STRATEGY: Final = 100_000
_CONNECT_SECONDS: Final = 60  # enough: all workers have met before TensorFlow connects them


def make_strategy(config: TrainConfig, threads: int = 0) -> Any:
    """Returns the strategy; must be called before anything else has used a device.

    Args:
        config: of the run.
        threads: number of TensorFlow's threads within an operation, and across operations; 0: TensorFlow's
            default.

    Raises:
        InputError: a device does not exist, or TF_CONFIG is missing or unusable with `multi_worker`.
    """
    use_threads(threads)
    if config.logical_cpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(config.logical_cpus)]
        tf.config.set_logical_device_configuration(cpu, parts)
        tf.config.set_visible_devices([], "GPU")  # logical_cpus is for a try on the CPU
    for gpu in tf.config.get_visible_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    if config.strategy == "multi_worker":
        cluster_of(config.strategy)  # checks TF_CONFIG
        _keep_own_devices(config)
        return _connected()
    names = _device_names(config)
    if config.strategy == "mirrored":
        strategy = tf.distribute.MirroredStrategy(names)
        # TensorFlow numbers the collectives of each strategy from its class's base. Those of a second
        # training in this process must not be taken for those of the first. A private attribute, tried with
        # TensorFlow 2.21; test_levers trains several times in a process.
        type(strategy)._collective_key_base += _KEYS_OF_A_STRATEGY
        return strategy
    return tf.distribute.OneDeviceStrategy(names[0])


def use_threads(threads: int) -> None:
    """Sets TensorFlow's threads within an operation, and across operations; 0: TensorFlow's default.

    The bits of a result depend on them. To be called before anything has used a device.

    Raises:
        RuntimeError: a device was used, with another number of threads.
    """
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def describe(strategy: Any) -> str:
    """Returns the strategy in words, for the first lines of a run."""
    replicas = strategy.num_replicas_in_sync
    names = sorted({device.split("device:")[-1] for device in strategy.extended.worker_devices})
    workers = max(1, replicas // max(1, len(strategy.extended.worker_devices)))
    return f"{replicas} replica{'s' * (replicas > 1)} ({', '.join(names)})" + (
        f" on {workers} workers" if workers > 1 else ""
    )


def _connected() -> Any:
    """Returns the strategy over all workers; they must call this at about the same time.

    TensorFlow blocks Python until all workers are connected, for an hour at most, and installs a handler that
    swallows SIGTERM. So the time is limited here (by a private method, as the constructor takes no limit;
    tried with TensorFlow 2.21), and signals are held until our handlers are back.
    """
    own = context()
    own.configure_coordination_service = partial(
        own.configure_coordination_service, cluster_register_timeout_in_ms=1000 * _CONNECT_SECONDS
    )
    with signals.held():
        return tf.distribute.MultiWorkerMirroredStrategy()


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
            raise InputError(
                f"--devices={','.join(map(str, config.devices))}: no GPU {max(config.devices)}; this machine "
                f"has {len(gpus)}, counted from 0"
            )
        tf.config.set_visible_devices([gpus[index] for index in config.devices], "GPU")
