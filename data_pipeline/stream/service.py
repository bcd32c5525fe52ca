"""tf.data service: other processes, on this machine or on others, parse and decode the batches.

A dispatcher has a fixed list of W workers. Each worker reads the whole stream of undecoded records, but
parses and decodes only every W-th batch, by its place in the list. So the service spreads decoding and
parsing, not reading: it is for data whose decoding makes the training wait. Every worker must see the shards
under the path that the trainer uses.

Order and number of batches are exact. By static sharding batch n belongs to the worker at place n mod W. The
trainer reads each worker's batches as a stream of their own and takes one of each in turn. So it gets the
same batches in the same order as without a service, from any step and with any number of workers, and a
resumed run is the same to the bit. (Dynamic sharding, the other policy that splits the work, gives no order
and loses the batches of a worker that dies; coordinated reads skip a slow worker.)

Each batch carries its number, and a batch out of turn ends the training with an error, so no batch is lost or
doubled silently. A worker that dies ends the training too. TensorFlow would wait for it for a long time, so
when no batch has come for a while, the trainer sends each worker a small request and names those that do not
answer. A restarted worker begins anew, so a training cannot continue with it: restart the worker and give the
same command again; training resumes from the last checkpoint, with the same outcome. Training needs the
dispatcher only at its start. The trainer itself makes the batches of validation, which is a single pass.

TensorFlow's servers have no authentication and no encryption: use loopback or a private network.
"""

import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import tensorflow as tf

from data_pipeline.stream.generated import generated
from tfrecords.errors import InputError

_service = tf.data.experimental.service
_HINT: Final = tf.data.experimental.SHARD_HINT  # each worker puts its place and the number of workers here
_FAR: Final = 1 << 40

# Seconds. A lost worker ends the training after the sum of the second and the third; a slow worker answers.
_TIMEOUT: Final = 10  # to reach the dispatcher
_SILENCE: Final = 5  # without a batch, until each worker gets a request
_PATIENCE: Final = 30  # for all workers to answer, also on busy machines

_ASKED_AGAIN: Final = 4  # between two requests, while a worker has not answered

_RESUME: Final = "then the same command again goes on from the last checkpoint"


def loss_in(text: str) -> str | None:
    """Returns the message about a lost service in the text of a TensorFlow error; None if it has none."""
    found = re.search(rf"--data_service=\S+: .*?{_RESUME}", text, re.DOTALL)
    # TensorFlow's assertions escape quotes and line ends as C does.
    return re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), found[0]) if found else None


def parsed_elsewhere(
    elements: Any,
    parse: Callable[..., dict[str, Any]],
    address: str,
    *,
    silence: float = _SILENCE,
    patience: float = _PATIENCE,
) -> Any:
    """Maps an endless dataset by the workers of a service and keeps its order.

    If a worker is lost, reading the result raises a TensorFlow error; `loss_in` reads its text.

    Args:
        elements: the dataset, endless, in the same order in every process.
        parse: makes an element of the result, a dict of tensors; it must hold no large tensor itself.
        address: address of the dispatcher, "grpc://HOST:PORT".
        silence: seconds without an element after which each worker gets a request.
        patience: seconds in which the workers must answer.

    Raises:
        InputError: the dispatcher cannot be reached, or has no fixed list of workers, or one is missing.
    """
    workers = count_workers(address)
    config = tf.data.Options()
    config.deterministic = True

    def share(place: Any) -> Any:
        numbered = elements.enumerate().shard(workers, place)
        return numbered.map(lambda n, element: (n, parse(*element)), num_parallel_calls=tf.data.AUTOTUNE)

    def lane(place: int) -> Any:
        """Returns the batches of one worker, in order; on the other workers the dataset is empty."""
        mine = tf.data.Dataset.range(workers).shard(_HINT, _HINT).filter(lambda own: own == place)
        made = mine.flat_map(share).with_options(config)
        # Not compressed: the trainer's cores must be spared.
        return made.apply(_service.distribute(_service.ShardingPolicy.HINT, address, compression=None))

    turns = tf.data.Dataset.range(_FAR)
    merged = tf.data.Dataset.choose_from_datasets(
        [lane(place) for place in range(workers)],
        turns.map(lambda turn: turn % workers),
        stop_on_empty_dataset=True,
    )
    message = (
        f"--data_service={address}: a worker or the dispatcher died or was started again, and batches are "
        f"missing; see that all workers run, {_RESUME}"
    )
    lost = tf.data.Dataset.range(1).map(lambda _: _fail(merged.element_spec, message))
    numbered = tf.data.Dataset.zip(turns, merged.concatenate(lost))
    checked = numbered.map(lambda turn, element: _expected(turn, element, message))

    def ask() -> None:
        try:
            count_workers(address, patience=patience)
        except InputError as error:
            raise InputError(f"{error}; {_RESUME}") from None

    return _watched(checked, silence, ask, message)


def _expected(turn: Any, numbered: tuple[Any, dict[str, Any]], message: str) -> dict[str, Any]:
    number, element = numbered
    with tf.control_dependencies([tf.debugging.assert_equal(number, turn, message)]):
        return tf.nest.map_structure(tf.identity, element)


def _fail(spec: Any, message: str) -> Any:
    """Raises where a worker's batches end."""
    with tf.control_dependencies([tf.debugging.Assert(tf.constant(False), [message])]):
        return tf.nest.map_structure(lambda part: tf.zeros(part.shape, part.dtype), spec)


def _watched(dataset: Any, silence: float, ask: Callable[[], None], message: str) -> Any:
    """Returns the dataset; calls `ask` when none of its elements has come for `silence` seconds.

    Nothing can end the wait for a lost worker, so a thread waits, and each batch passes through Python once,
    which costs about a millisecond of CPU time. `message` is the error for a dispatcher that was restarted
    and no longer knows what is read.
    """
    names, spec = zip(*dataset.element_spec.items(), strict=True)

    def elements() -> Iterator[Any]:
        made: queue.Queue[Any] = queue.Queue(maxsize=1)
        ended = threading.Event()

        def put(element: Any) -> None:
            while not ended.is_set():
                with suppress(queue.Full):
                    made.put(element, timeout=1)
                    return

        def read() -> None:
            try:
                for element in dataset.as_numpy_iterator():
                    put([element[name] for name in names])
                    if ended.is_set():
                        return
            except Exception as error:  # the consumer of the queue raises it
                put(error)

        threading.Thread(target=read, daemon=True).start()
        try:
            while True:
                try:
                    element = made.get(timeout=silence)
                except queue.Empty:
                    ask()
                    continue
                if isinstance(element, Exception):
                    raise InputError(message) if "dispatcher restart" in str(element) else element
                yield element
        finally:
            ended.set()

    return generated(elements, spec, _FAR).map(lambda *element: dict(zip(names, element, strict=True)))


def count_workers(address: str, *, patience: float = 60) -> int:
    """Waits until all workers of a service answer, and returns their number.

    Args:
        address: address of the dispatcher.
        patience: seconds in which the workers must answer.

    Raises:
        InputError: the dispatcher cannot be reached, or has no fixed list of workers, or one is missing.
    """
    _reach(address)
    end = time.monotonic() + patience
    answers: queue.Queue[Any] = queue.Queue()
    places: set[int] = set()
    workers, again = 0, 0.0
    while not workers or len(places) < workers:
        now = time.monotonic()
        if now > end:
            silent = " and ".join(f"number {place + 1}" for place in range(workers) if place not in places)
            which = (
                f"{silent} of the {workers} workers"
                if silent
                else "any of the workers (one may hold up the rest)"
            )
            raise InputError(
                f"--data_service={address}: no answer from {which} that the dispatcher's --workers names; "
                f"start all that do not run"
            )
        if now > again:  # a job that is older than a worker may never reach that worker
            threading.Thread(target=_ask, args=(address, answers), daemon=True).start()
            again = now + _ASKED_AGAIN
        with suppress(queue.Empty):
            found = answers.get(timeout=0.5)
            if isinstance(found, tf.errors.OpError):
                raise InputError(
                    f"--data_service={address}: has no fixed list of workers "
                    f"({found.message.splitlines()[0]}); start it with python -m data_pipeline.serve "
                    f"--role=dispatcher --workers=HOST:PORT,HOST:PORT"
                )
            place, workers = found
            places.add(place)
    return workers


def _ask(address: str, answers: "queue.Queue[Any]") -> None:
    """Puts (place, number of workers) of each worker that answers, or an error; it may wait forever."""
    # The first two numbers in the share of each worker: they differ by the number of workers.
    probe = tf.data.Dataset.range(_FAR).shard(_HINT, _HINT).batch(2).take(1)
    job = _service.distribute(_service.ShardingPolicy.HINT, address, compression=None)
    try:
        for first, second in probe.apply(job).as_numpy_iterator():
            answers.put((int(first), int(second - first)))
    except tf.errors.OpError as error:
        answers.put(error)


def _reach(address: str) -> None:
    """Raises InputError if no dispatcher answers; TensorFlow itself would try for hours without a message."""
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=_TIMEOUT).close()
    except OSError as error:
        raise InputError(
            f"--data_service={address}: no dispatcher answers there ({error}); start it with\n"
            f"  python -m data_pipeline.serve --role=dispatcher --port={parts.port} "
            f"--workers=HOST:PORT,HOST:PORT"
        ) from None
