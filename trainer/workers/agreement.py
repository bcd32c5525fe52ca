"""What several workers decide together: collectives over a few whole numbers."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import tensorflow as tf

from tfrecords.errors import InputError
from trainer.workers.lost import OF_A_LOST_PEER

Sum = Callable[[Sequence[int]], list[int]]


def sum_over_workers(strategy: Any) -> Sum:
    """Returns a function that gives the sums of the workers' numbers.

    Every worker must call it at the same time, with as many numbers. With one process it costs nothing; else
    it is a collective.
    """
    if strategy.cluster_resolver is None or not strategy.cluster_resolver.task_type:
        return list
    replicas = len(strategy.extended.worker_devices)  # of this process; each adds its worker's numbers

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def sums(mine: Any) -> Any:
        def add() -> Any:
            own = mine * 1  # an argument itself lies on no device of the replica
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

        return strategy.experimental_local_results(strategy.run(add))[0]

    def over_workers(values: Sequence[int]) -> list[int]:
        return [int(value) // replicas for value in sums(tf.constant(values, tf.int64))]

    return over_workers


def part(add: Sum) -> None:
    """Lets a worker leave once all others have the result of the collective before: call it before you raise.

    Who has a result first would leave while others still wait for their share of it, and count as lost.
    """
    with suppress(*OF_A_LOST_PEER):  # who is faster out of this one than another into it harms nobody
        add([0])


def check_agreement(strategy: Any, value: int, what: str) -> None:
    """Waits for all workers and checks that they hold the same number.

    Raises:
        InputError: the workers' numbers differ.
    """
    add = sum_over_workers(strategy)
    workers, total, squares = add([1, value, value * value])
    if total * total != workers * squares:  # Cauchy and Schwarz: equal only if all are; all workers see it
        part(add)
        raise InputError(
            f"the workers disagree on {what}: {value} here, {total / workers:g} on average; --run_dir must "
            f"be one folder that all of them see, on a shared disk"
        )
