"""tf.data service: batches that other processes, on this machine or others, parse and decode.

A dispatcher knows a fixed list of workers. Each worker reads the stream of undecoded records, keeps every
W-th batch of it (W workers, by its place in the list) and parses and decodes these alone. So the service
spreads decoding and parsing, not reading: it is for data whose decoding starves the training, and every
worker must see the shards under the path that the trainer uses.

Order and number are exact. By static sharding batch n belongs to the worker at place n mod W alone; the
trainer reads each worker's batches as a stream of their own, and takes one of each in turn. So it gets the
very batches, in the very order, that it would have made itself, from any step, with any number of workers,
and a resumed run is the same to the bit. (Dynamic sharding, the other policy that splits the work, gives no
order and loses batches of a worker that dies; coordinated reads pass over a worker that is slow.)

Each batch carries its number, and one out of turn ends the training with an error: nothing is lost or
doubled without a word. When a worker dies, training waits for it, perhaps for ever: end it, start the
worker, and give the same command again; it goes on from the last checkpoint. The dispatcher must live as
long as the training. Validation, a single pass, is made by the trainer itself.

TensorFlow's servers have no authentication and no encryption: loopback, or a private network.
"""

import socket
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import tensorflow as tf

from tfrecords.errors import InputError

_service = tf.data.experimental.service
_HINT: Final = tf.data.experimental.SHARD_HINT  # each worker puts its place and their number here
_TIMEOUT: Final = 10  # seconds to reach the dispatcher
_FAR: Final = 1 << 40

LOST_WORKER: Final = (
    "--data_service: a worker died or was started again, and its batches are missing; see that all workers "
    "run, then give the same command again: it goes on from the last checkpoint"
)


def parsed_elsewhere(elements: Any, parse: Callable[..., dict[str, Any]], address: str) -> Any:
    """Maps an endless dataset by the workers of a service, in order.

    Args:
        elements: the dataset, endless, in the same order in every process.
        parse: what makes an element of the result, tensors in a dict; it must hold no large tensor.
        address: of the dispatcher, "grpc://HOST:PORT".

    Raises:
        InputError: the dispatcher cannot be reached, or has no fixed list of workers.
    """
    workers = count_workers(address)
    config = tf.data.Options()
    config.deterministic = True

    def share(place: Any) -> Any:
        numbered = elements.enumerate().shard(workers, place)
        return numbered.map(lambda n, element: (n, parse(*element)), num_parallel_calls=tf.data.AUTOTUNE)

    def lane(place: int) -> Any:
        """The batches of one worker, in order: for the others it is empty."""
        mine = tf.data.Dataset.range(workers).shard(_HINT, _HINT).filter(lambda own: own == place)
        made = mine.flat_map(share).with_options(config)
        # Not compressed: the trainer's cores are those to spare.
        return made.apply(_service.distribute(_service.ShardingPolicy.HINT, address, compression=None))

    turns = tf.data.Dataset.range(_FAR)
    merged = tf.data.Dataset.choose_from_datasets(
        [lane(place) for place in range(workers)],
        turns.map(lambda turn: turn % workers),
        stop_on_empty_dataset=True,
    )
    lost = tf.data.Dataset.range(1).map(lambda _: _fail(merged.element_spec))
    return tf.data.Dataset.zip(turns, merged.concatenate(lost)).map(_expected)


def _expected(turn: Any, numbered: tuple[Any, dict[str, Any]]) -> dict[str, Any]:
    number, element = numbered
    with tf.control_dependencies([tf.debugging.assert_equal(number, turn, LOST_WORKER)]):
        return tf.nest.map_structure(tf.identity, element)


def _fail(spec: Any) -> Any:
    """Raises where a worker's batches end."""
    with tf.control_dependencies([tf.debugging.Assert(tf.constant(False), [LOST_WORKER])]):
        return tf.nest.map_structure(lambda part: tf.zeros(part.shape, part.dtype), spec)


def count_workers(address: str, *, patience: float = 60) -> int:
    """Waits until all workers of a service are there, and returns how many they are.

    Args:
        address: of the dispatcher.
        patience: seconds.

    Raises:
        InputError: the dispatcher cannot be reached, or has no fixed list of workers, or one is missing.
    """
    _reach(address)
    # Of each worker the first two numbers of its share: they differ by the number of workers.
    probe = tf.data.Dataset.range(_FAR).shard(_HINT, _HINT).batch(2).take(1)
    end = time.monotonic() + patience
    while True:
        try:
            job = _service.distribute(_service.ShardingPolicy.HINT, address, compression=None)
            found = list(probe.apply(job).as_numpy_iterator())
        except tf.errors.OpError as error:
            raise InputError(
                f"--data_service={address}: has no fixed list of workers ({error.message.splitlines()[0]}); "
                f"start it with python -m data_pipeline.serve --role=dispatcher --workers=HOST:PORT,HOST:PORT"
            ) from None
        workers = int(found[0][1] - found[0][0])
        if len(found) == workers:
            return workers
        if time.monotonic() > end:
            raise InputError(
                f"--data_service={address}: {len(found)} of its {workers} workers are there; start them all"
            )
        time.sleep(0.5)


def _reach(address: str) -> None:
    """TensorFlow itself tries for hours, and says nothing."""
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=_TIMEOUT).close()
    except OSError as error:
        raise InputError(
            f"--data_service={address}: no dispatcher answers there ({error}); start it with\n"
            f"  python -m data_pipeline.serve --role=dispatcher --port={parts.port} "
            f"--workers=HOST:PORT,HOST:PORT"
        ) from None
