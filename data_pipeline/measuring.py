"""What work costs: images/s, CPU time of all threads and memory; how batches are drawn as training does."""

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

_CALL_SECONDS: Final = 0.05  # of one call into TensorFlow at least, so that the call itself costs nothing
_SAMPLE_SECONDS: Final = 0.01  # between two looks at the memory in use


@dataclass(frozen=True)
class Cost:
    """What a number of images took.

    Attributes:
        images: how many.
        seconds: of wall time.
        cpu_seconds: of all threads of this process, in user and kernel mode.
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
    """Runs `work`, which returns the number of images it was for."""
    started, cpu = time.perf_counter(), _cpu_seconds()
    images = work()
    return Cost(images, time.perf_counter() - started, _cpu_seconds() - cpu)


def median_cost(costs: Sequence[Cost]) -> tuple[float, float]:
    """Returns the medians of images/s and of CPU microseconds an image, each for itself."""
    return (
        statistics.median(cost.images_per_second for cost in costs),
        statistics.median(cost.cpu_us_per_image for cost in costs),
    )


class PeakMemory:
    """Looks at the resident memory of this process while a block runs; `grown` is in bytes.

    Memory that was freed before but not given back to the system is used again without growing.
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
        device: where each batch goes to; None leaves it where it is.
        arrive: what is done with a batch there; by default it is copied.
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
            return batch  # else a copy that nobody needs would be left out

        self._draw = tf.function(draw)

    def draw(self, batches: int) -> None:
        """Draws a number of batches."""
        # The first element's value is waited for: a device works behind the program's back.
        tf.nest.flatten(self._draw(tf.constant(batches)))[0].numpy()

    def draw_for(self, seconds: float) -> Cost:
        """Draws batches for about that long and returns what they cost."""

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
    """Returns what measures the memory's limit: `numpy.take` of random rows into a preallocated batch.

    Args:
        image_bytes: of one image.
        records: in the array that rows are taken from.
        batch: rows taken by one call.
    """
    random = np.random.default_rng(0)
    rows = np.zeros((records, image_bytes), np.uint8)
    rows[:] = 1  # so that each page is there
    out = np.empty((batch, image_bytes), np.uint8)
    order = random.integers(0, records, (max(1, min(records, 1 << 16) // batch), batch))

    def measure(seconds: float) -> Cost:
        def work() -> int:
            end, taken = time.perf_counter() + seconds, 0
            while time.perf_counter() < end:
                for index in order:
                    # "clip" writes straight into `out`; "raise" would copy once more.
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
