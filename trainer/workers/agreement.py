"""Decisions of all workers together, by collectives over a few whole numbers."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import tensorflow as tf

from tfrecords.errors import InputError
from trainer.workers.lost import OF_A_LOST_PEER

Sum = Callable[[Sequence[int]], list[int]]


def sum_over_workers(strategy: Any) -> Sum:
    """Returns a function that returns the sums of the workers' numbers.

    All workers must call it at the same time, with the same count of numbers. It is a collective, except with
    one process, where it costs nothing.
    """
    if strategy.cluster_resolver is None or not strategy.cluster_resolver.task_type:
        return list
    replicas = len(strategy.extended.worker_devices)  # of this process; each adds its worker's numbers

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def sums(mine: Any) -> Any:
        def add() -> Any:
            own = mine * 1  # the argument itself is on no device of the replica
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

        return strategy.experimental_local_results(strategy.run(add))[0]

    def over_workers(values: Sequence[int]) -> list[int]:
        return [int(value) // replicas for value in sums(tf.constant(values, tf.int64))]

    return over_workers


def synchronise_before_exit(add: Sum) -> None:
    """Waits until all workers have the result of the last collective; call it before you raise.

    Without it, the worker that has the result first would exit while others still wait for their part of the
    result, and would count as lost.
    """
    with suppress(*OF_A_LOST_PEER):  # a worker may exit before another enters this call: no result is lost
        add([0])


def check_agreement(strategy: Any, value: int, what: str) -> None:
    """Waits for all workers and checks that they have the same number.

    Raises:
        InputError: the workers' numbers differ.
    """
    add = sum_over_workers(strategy)
    workers, total, squares = add([1, value, value * value])
    if total * total != workers * squares:  # Cauchy-Schwarz: equal only if all values are
        synchronise_before_exit(add)
        raise InputError(
            f"the workers disagree on {what}: {value} here, {total / workers:g} on average; --run_dir must "
            f"be one folder that all of them see, on a shared disk"
        )
