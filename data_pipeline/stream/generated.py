"""A dataset whose elements are made by Python, and whose iterators can be dropped at any moment.

`numpy_function` and `from_generator` call Python from a thread of TensorFlow. Where an iterator is dropped
while such a call is under way, its destructor waits for the call and keeps the interpreter's lock, and the
call waits for the lock: both wait for ever (seen with TensorFlow 2.21). So here no thread of TensorFlow runs
Python. It asks through a queue and waits for the answer in another queue, and such a wait ends when the
iterator does. A thread of Python answers, and makes the next element while the last one is used.

Each iterator of the dataset has a queue of its own for its answers, whose handle it is given with its number.
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

_LIVE: Final = 4  # iterators of one dataset at the same time; each may hold an element that is made ahead
_UNBOUNDED: Final = -1  # a queue's capacity
_CPU: Final = "/device:CPU:0"

Arrays = Sequence[npt.NDArray[Any]]
_running: weakref.WeakSet["_Maker"] = weakref.WeakSet()
_left: "SimpleQueue[_Maker | None]" = SimpleQueue()  # those whose dataset is gone; None: Python ends


def generated(make: Callable[[], Iterator[Arrays]], spec: Sequence[tf.TensorSpec], count: int) -> Any:
    """Returns a dataset of the first elements that an iterator gives; each pass makes an iterator anew.

    Args:
        make: () -> an iterator over tuples of arrays. It runs in a thread of its own. Arrays of uint8 that
            start at a multiple of 64 bytes are used where they lie: they must not be changed any more.
        spec: dtype and shape of each array.
        count: elements of a pass; `make` must give so many.

    Returns:
        a dataset of tuples. An exception of the iterator ends it with a TensorFlow error of the same text.
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
    # An iterator keeps its dataset, and a dataset those that it was made of.
    weakref.finalize(dataset, _left.put, maker).atexit = False
    maker.start()
    _start_closing()
    return dataset


@dataclass
class _Pass:
    """One iterator over the dataset: where its answers go, what makes them, and the next of them."""

    answers: tf.queue.FIFOQueue
    made: Iterator[Arrays] | None = None
    ahead: list[Any] | None = None


class _Maker(Thread):
    """Answers the requests of all iterators of one dataset.

    Attributes:
        requests: int64 scalars, the number of the iterator that asks for its next element.
        seats: (int64 number, resource), what the next iterator is given to ask by.
        dtypes: of an answer: the text of an error, "" for none, and the arrays.
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
        """Makes room for one more iterator; the one that has not asked for longest loses its own."""
        with tf.init_scope(), tf.device(_CPU):
            answers = tf.queue.FIFOQueue(_UNBOUNDED, self.dtypes)
            self.seats.enqueue([tf.constant(self._next, tf.int64), answers.queue_ref])
        self._passes[self._next] = _Pass(answers)
        self._next += 1
        if len(self._passes) > _LIVE + 1:
            _, oldest = self._passes.popitem(last=False)
            oldest.answers.close()  # should it ask again, it is told

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
                del answer  # it is TensorFlow's now
                asked.ahead = self._made(asked.made)

    def _made(self, elements: Iterator[Arrays]) -> list[Any]:
        """Returns the next answer."""
        try:
            return [tf.constant(""), *map(_tensor, next(elements))]
        except StopIteration:
            error = "all elements have been given"
        except Exception as raised:  # it is raised where the element is waited for
            error = str(raised) or repr(raised)
        return [tf.constant(error), *(tf.zeros([0], dtype) for dtype in self.dtypes[1:])]

    def close(self) -> None:
        """Lets the thread end."""
        self.requests.close(cancel_pending_enqueues=True)


def _tensor(array: npt.NDArray[Any]) -> Any:
    """Returns an array as a tensor; one of uint8 is not copied if it is aligned.

    dlpack would not copy either, but takes the interpreter's lock in whichever thread drops the tensor: the
    same deadlock. A tensor's own constructor leaves the array to the next call of Python.
    """
    if array.dtype == np.uint8:
        return type(tf.constant(0))(array, _CPU, None)  # ops.EagerTensor; tried with TensorFlow 2.21
    return tf.constant(array)


@cache
def _start_closing() -> Thread:
    """Starts the thread that closes what is left, once, and returns it.

    Garbage is collected anywhere, also where TensorFlow holds a lock or traces a function: an operation of
    TensorFlow there would wait for ever.
    """

    def close() -> None:
        while (maker := _left.get()) is not None:
            maker.close()

    thread = Thread(target=close, name="closing", daemon=True)
    thread.start()
    return thread


@atexit.register
def _end_all() -> None:
    """Ends the threads while Python can still run them: one that would run later ends the process badly."""
    if _start_closing.cache_info().currsize:
        _left.put(None)
        _start_closing().join()
    for maker in list(_running):
        maker.close()
    for maker in list(_running):
        if maker.is_alive():
            maker.join()
