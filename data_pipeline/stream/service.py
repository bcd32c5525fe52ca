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
doubled without a word. A worker that dies ends it too: TensorFlow would wait for it for long, so when no
batch has come for a while, every worker is asked for something small, and one that does not answer is named.
A worker that was started again begins anew, so it cannot be gone on with. Start it, and give the same command
again: training goes on from the last checkpoint, to the same end. The dispatcher is needed when training
starts; once it runs, it goes on without. Validation, a single pass, is made by the trainer itself.

TensorFlow's servers have no authentication and no encryption: loopback, or a private network.
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
_HINT: Final = tf.data.experimental.SHARD_HINT  # each worker puts its place and their number here
_FAR: Final = 1 << 40

# Seconds. A lost worker ends training after the sum of the last two; one that is slow only answers.
_TIMEOUT: Final = 10  # to reach the dispatcher
_SILENCE: Final = 5  # without a batch, until the workers are asked whether they are there
_PATIENCE: Final = 30  # for all of them to answer, on machines that have much else to do

_ASKED_AGAIN: Final = 4  # after the last time, while one has not answered

_RESUME: Final = "then the same command again goes on from the last checkpoint"


def loss_in(text: str) -> str | None:
    """Returns what a TensorFlow error's text says of a lost service, None if it says nothing of it."""
    found = re.search(rf"--data_service=\S+: .*?{_RESUME}", text, re.DOTALL)
    # An assertion of TensorFlow writes quotes and line ends as C does.
    return re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), found[0]) if found else None


def parsed_elsewhere(
    elements: Any,
    parse: Callable[..., dict[str, Any]],
    address: str,
    *,
    silence: float = _SILENCE,
    patience: float = _PATIENCE,
) -> Any:
    """Maps an endless dataset by the workers of a service, in order.

    Where a worker is lost, reading the result raises a TensorFlow error for `loss_in`.

    Args:
        elements: the dataset, endless, in the same order in every process.
        parse: what makes an element of the result, tensors in a dict; it must hold no large tensor.
        address: of the dispatcher, "grpc://HOST:PORT".
        silence: seconds without an element, after which the workers are asked whether they are there.
        patience: seconds they have to answer.

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
    """Returns a dataset with `ask` called when none of its elements has come for `silence` seconds.

    What waits for a lost worker cannot be ended, so it is a thread that waits, and a batch passes through
    Python once, at about a millisecond's CPU time. `message` is said of a dispatcher that has forgotten what
    is read.
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
            except Exception as error:  # raised where the element is waited for
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
    """Waits until all workers of a service answer, and returns how many they are.

    Args:
        address: of the dispatcher.
        patience: seconds.

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
        if now > again:  # a job from before a worker was there may never reach it
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
    """Puts (place, number of workers) of each worker that answers, or an error; it may wait for ever."""
    # Of each worker the first two numbers of its share: they differ by the number of workers.
    probe = tf.data.Dataset.range(_FAR).shard(_HINT, _HINT).batch(2).take(1)
    job = _service.distribute(_service.ShardingPolicy.HINT, address, compression=None)
    try:
        for first, second in probe.apply(job).as_numpy_iterator():
            answers.put((int(first), int(second - first)))
    except tf.errors.OpError as error:
        answers.put(error)


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
