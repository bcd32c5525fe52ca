"""Measures images/s, CPU time of all threads and memory, and draws batches as training does."""

import os
import resource
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import tensorflow as tf

_CALL_SECONDS: Final = 0.05  # least time of one call into TensorFlow, so that the call itself costs nothing
_SAMPLE_SECONDS: Final = 0.01  # between two samples of the memory in use


@dataclass(frozen=True)
class Cost:
    """Time that a number of images took.

    Attributes:
        images: number of images.
        seconds: wall time.
        cpu_seconds: CPU time of all threads of this process, in user and kernel mode.
    """

    images: int
    seconds: float
    cpu_seconds: float

    @property
    def images_per_second(self) -> float:
        """By wall time."""
        return self.images / self.seconds

    @property
    def cpu_us_per_image(self) -> float:
        """CPU microseconds an image."""
        return self.cpu_seconds / self.images * 1e6


def timed(work: Callable[[], int]) -> Cost:
    """Runs `work`, which returns the number of images that it handled, and returns its cost."""
    started, cpu = time.perf_counter(), _cpu_seconds()
    images = work()
    return Cost(images, time.perf_counter() - started, _cpu_seconds() - cpu)


def median_cost(costs: Sequence[Cost]) -> tuple[float, float]:
    """Returns the median of images/s and the median of CPU microseconds an image."""
    return (
        statistics.median(cost.images_per_second for cost in costs),
        statistics.median(cost.cpu_us_per_image for cost in costs),
    )


class PeakMemory:
    """Samples the resident memory of this process while a block runs; `grown` is in bytes.

    Memory that was freed before but not given back to the system is reused and does not count.
    """

    grown = 0

    def __enter__(self) -> Self:
        self._first = self._peak = _resident_bytes()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self.grown = max(self._peak, _resident_bytes()) - self._first

    def _watch(self) -> None:
        while not self._end.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, _resident_bytes())


class BatchReader:
    """Draws batches the way a training step gets them: inside a `tf.function`, onto the step's device.

    Args:
        dataset: endless; batches of `images` images, with static shapes.
        images: in a batch.
        device: device to which each batch goes; None: it stays where it is.
        arrive: what the device does with a batch; by default it copies it.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        images: int,
        device: str | None = None,
        arrive: Callable[[Any], Any] = lambda batch: tf.nest.map_structure(tf.identity, batch),
    ) -> None:
        self._batches, self._images, self._calls = iter(dataset), images, 1

        def take() -> Any:
            batch = next(self._batches)
            if device is None:
                return batch
            with tf.device(device):
                return arrive(batch)

        def draw(count: Any) -> Any:
            batch = take()
            for _ in tf.range(count - 1):
                batch = take()
            return batch  # else TensorFlow would leave the copy out

        self._draw = tf.function(draw)

    def draw(self, batches: int) -> None:
        """Draws a number of batches."""
        # Waits for the value of the first element, because a device works asynchronously.
        tf.nest.flatten(self._draw(tf.constant(batches)))[0].numpy()

    def draw_for(self, seconds: float) -> Cost:
        """Draws batches for about so many seconds and returns their cost."""

        def work() -> int:
            end, drawn, now = time.perf_counter() + seconds, 0, time.perf_counter()
            while now < end:
                self.draw(self._calls)
                drawn += self._calls
                before, now = now, time.perf_counter()
                if now - before < _CALL_SECONDS:
                    self._calls *= 2
            return drawn * self._images

        return timed(work)


def copy_limit(image_bytes: int, records: int, batch: int) -> Callable[[float], Cost]:
    """Returns a function that measures the limit of the memory: `numpy.take` into a preallocated batch.

    Args:
        image_bytes: bytes of one image.
        records: rows of the array from which random rows are taken.
        batch: rows that one call takes.
    """
    random = np.random.default_rng(0)
    rows = np.zeros((records, image_bytes), np.uint8)
    rows[:] = 1  # so that the system allocates each page
    out = np.empty((batch, image_bytes), np.uint8)
    order = random.integers(0, records, (max(1, min(records, 1 << 16) // batch), batch))

    def measure(seconds: float) -> Cost:
        def work() -> int:
            end, taken = time.perf_counter() + seconds, 0
            while time.perf_counter() < end:
                for index in order:
                    # "clip" writes straight into `out`; "raise" would make another copy.
                    np.take(rows, index, axis=0, out=out, mode="clip")
                taken += order.size
            return taken

        return timed(work)

    return measure


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
