"""Makes a dataset from a Python iterator; the dataset's iterators can be dropped at any moment.

`numpy_function` and `from_generator` call Python from a thread of TensorFlow. If an iterator is dropped
during such a call, its destructor holds the interpreter's lock and waits for the call, while the call waits
for the lock: a deadlock (seen with TensorFlow 2.21). So here no thread of TensorFlow runs Python. The
iterator sends a request through one queue and waits for the answer in another; this wait ends when the
iterator is dropped. A Python thread answers, and makes the next element while the last one is in use.

Each iterator of the dataset has its own queue for answers; it gets the handle of that queue and its number.
"""

import atexit
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

_LIVE: Final = 4  # iterators of one dataset at the same time; each may hold one element made ahead
_UNBOUNDED: Final = -1  # a queue's capacity
_CPU: Final = "/device:CPU:0"

Arrays = Sequence[npt.NDArray[Any]]
_running: weakref.WeakSet["_Maker"] = weakref.WeakSet()
_left: "SimpleQueue[_Maker | None]" = SimpleQueue()  # makers whose dataset is gone; None: Python ends


def generated(make: Callable[[], Iterator[Arrays]], spec: Sequence[tf.TensorSpec], count: int) -> Any:
    """Returns a dataset of an iterator's first elements; each pass makes a new iterator.

    Args:
        make: returns an iterator over tuples of arrays, which runs in its own thread. Arrays of uint8 that
            start at a multiple of 64 bytes are not copied, so nothing may change them afterwards.
        spec: dtype and shape of each array.
        count: number of elements in a pass; the iterator must have at least so many.

    Returns:
        a dataset of tuples. If the iterator raises, the dataset raises a TensorFlow error of the same text.
    """
    maker = _Maker(make, [one.dtype for one in spec])
    requests, seats = maker.requests, maker.seats

    def element(number: Any, answers: Any) -> tuple[Any, ...]:
        with tf.control_dependencies([requests.enqueue(number)]):
            error, *made = tf.raw_ops.QueueDequeueV2(handle=answers, component_types=maker.dtypes)
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(error, ""), [error])]):
            return tuple(tf.ensure_shape(one, its.shape) for one, its in zip(made, spec, strict=True))

    def one_pass(_: Any) -> tf.data.Dataset:
        number, answers = seats.dequeue()
        return tf.data.Dataset.range(count).map(lambda _: element(number, answers))

    dataset = tf.data.Dataset.range(1).flat_map(one_pass)
    # An iterator keeps its dataset alive, and a dataset keeps the datasets from which it was made.
    weakref.finalize(dataset, _left.put, maker).atexit = False
    maker.start()
    _start_closing()
    return dataset


@dataclass
class _Pass:
    """One iterator over the dataset: the queue of its answers, their iterator, and the next answer."""

    answers: tf.queue.FIFOQueue
    made: Iterator[Arrays] | None = None
    ahead: list[Any] | None = None


class _Maker(Thread):
    """Answers the requests of all iterators of one dataset.

    Attributes:
        requests: queue of int64 scalars: the number of an iterator that asks for its next element.
        seats: queue of (int64 number, resource): the number of the next iterator and its queue of answers.
        dtypes: dtypes of an answer, which is the text of an error, "" for none, and the arrays.
    """

    def __init__(self, make: Callable[[], Iterator[Arrays]], dtypes: Sequence[Any]) -> None:
        super().__init__(name="generated", daemon=True)
        self._make, self.dtypes = make, [tf.string, *dtypes]
        with tf.init_scope(), tf.device(_CPU):
            self.requests = tf.queue.FIFOQueue(_UNBOUNDED, [tf.int64], [()])
            self.seats = tf.queue.FIFOQueue(_UNBOUNDED, [tf.int64, tf.resource], [(), ()])
        self._passes: OrderedDict[int, _Pass] = OrderedDict()
        self._next = 0
        self._seat()
        _running.add(self)

    def _seat(self) -> None:
        """Makes a seat for one more iterator; the one whose last request is the oldest loses its seat."""
        with tf.init_scope(), tf.device(_CPU):
            answers = tf.queue.FIFOQueue(_UNBOUNDED, self.dtypes)
            self.seats.enqueue([tf.constant(self._next, tf.int64), answers.queue_ref])
        self._passes[self._next] = _Pass(answers)
        self._next += 1
        if len(self._passes) > _LIVE + 1:
            _, oldest = self._passes.popitem(last=False)
            oldest.answers.close()  # if it asks again, it gets an error

    def run(self) -> None:
        """Answers until the queue of requests is closed."""
        with tf.device(_CPU):
            while True:
                try:
                    number = int(self.requests.dequeue())
                except tf.errors.OpError:
                    return
                asked = self._passes.get(number)
                if asked is None:
                    continue
                self._passes.move_to_end(number)
                if asked.made is None:
                    asked.made = self._make()
                    self._seat()
                answer = asked.ahead or self._made(asked.made)
                asked.ahead = None
                asked.answers.enqueue(answer)
                del answer  # it belongs to TensorFlow now
                asked.ahead = self._made(asked.made)

    def _made(self, elements: Iterator[Arrays]) -> list[Any]:
        """Returns the next answer."""
        try:
            return [tf.constant(""), *map(_tensor, next(elements))]
        except StopIteration:
            error = "all elements have been given"
        except Exception as raised:  # the dataset raises it
            error = str(raised) or repr(raised)
        return [tf.constant(error), *(tf.zeros([0], dtype) for dtype in self.dtypes[1:])]

    def close(self) -> None:
        """Lets the thread end."""
        self.requests.close(cancel_pending_enqueues=True)


def _tensor(array: npt.NDArray[Any]) -> Any:
    """Returns an array as a tensor; an aligned array of uint8 is not copied.

    dlpack would not copy either, but the thread that drops the tensor would take the interpreter's lock: the
    same deadlock. With a tensor's own constructor the next call of Python frees the array.
    """
    if array.dtype == np.uint8:
        return type(tf.constant(0))(array, _CPU, None)  # ops.EagerTensor; tried with TensorFlow 2.21
    return tf.constant(array)


@cache
def _start_closing() -> Thread:
    """Starts, once, the thread that closes makers whose dataset is gone; returns it.

    Garbage collection may run anywhere, also while TensorFlow holds a lock or traces a function. An operation
    of TensorFlow at such a place would wait forever.
    """

    def close() -> None:
        while (maker := _left.get()) is not None:
            maker.close()

    thread = Thread(target=close, name="closing", daemon=True)
    thread.start()
    return thread


@atexit.register
def _end_all() -> None:
    """Ends the threads while Python can still run them: a thread that runs later would crash the process."""
    if _start_closing.cache_info().currsize:
        _left.put(None)
        _start_closing().join()
    for maker in list(_running):
        maker.close()
    for maker in list(_running):
        if maker.is_alive():
            maker.join()
