"""When a worker is lost, the others end with a line that names it and the exit code for "run all again"."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import tensorflow as tf

from tfrecords.command import PEER_LOST
from tfrecords.errors import EndedEarly
from trainer.workers.cluster import Cluster

# TensorFlow's collectives and its coordination service raise these when a peer is killed, frozen or cut off.
OF_A_LOST_PEER: Final = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
_TASK: Final = re.compile(r"/job:(\w+)/replica:\d+/task:(\d+)")
_PROBE_SECONDS: Final = 1.0


@contextmanager
def naming_lost_workers(cluster: Cluster) -> Iterator[None]:
    """Replaces TensorFlow's error about a lost peer by one line.

    Raises:
        EndedEarly: a worker is lost.
    """
    try:
        yield
    except OF_A_LOST_PEER as error:
        if len(cluster.names) == 1:
            raise
        raise EndedEarly(
            f"{_lost(cluster, str(error))} was lost ({type(error).__name__}); the last checkpoint is whole: "
            f"run all workers again to resume from it",
            PEER_LOST,
        ) from None


def _lost(cluster: Cluster, message: str) -> str:
    """Returns the workers that cannot be reached, or, if all can, those that TensorFlow's error names."""
    others = [rank for rank in range(len(cluster.names)) if rank != cluster.rank]
    gone = [rank for rank in others if not _answers(cluster.addresses[rank])]
    if not gone:  # a frozen process still accepts a connection
        named = {"chief" if job == "chief" else f"{job} {task}" for job, task in _TASK.findall(message)}
        gone = [rank for rank in others if cluster.names[rank] in named]
    if not gone and len(others) == 1:
        gone = others
    return ", ".join(map(cluster.describe, gone)) or "a worker"


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False
