"""A contender in a process of its own, timed for as long as it is told, as often as it is told."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Row = dict[str, float]

_WARM_SECONDS = 0.2  # before each timed stretch: buffers that filled while it waited count for nothing
_BLOCK_SECONDS = 0.05  # of one call of a Take, so that the clock is read seldom
_TICK = os.sysconf("SC_CLK_TCK")


class Contender:
    """One contender: it is made and warmed up for an epoch in a process that then waits.

    Args:
        make: (source) -> Take; is pickled.
        source: its argument.
        epoch: images to warm up with.
    """

    def __init__(self, make: Callable[[Any], Callable[[int], int]], source: Any, epoch: int) -> None:
        self._errors = tempfile.NamedTemporaryFile(suffix=".log")  # noqa: SIM115  # until it has ended
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self._errors.name, make, source, epoch)
        self._process = context.Process(target=_serve, args=arguments)
        self._process.start()
        theirs.close()

    def answer(self) -> Any:
        """Waits for what the process says next."""
        try:
            return self._pipe.recv()
        except EOFError:
            text = Path(self._errors.name).read_text(errors="replace")
            raise RuntimeError(f"failed:\n{text[-4000:]}") from None

    def timed(self, seconds: float) -> Row:
        """Returns images/s, CPU us/image and peak MB of so many seconds."""
        self._pipe.send(seconds)
        return self.answer()

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def interleaved(
    makes: Mapping[str, Callable[[Any], Callable[[int], int]]],
    source: Any,
    epoch: int,
    repeats: int,
    seconds: float,
) -> dict[str, list[Row]]:
    """Times contenders one after the other, all of them in each repeat."""

    def started(name: str) -> Contender:
        contender = Contender(makes[name], source, epoch)
        try:
            contender.answer()
        except RuntimeError as error:
            contender.close()
            raise RuntimeError(f"{name}: {error}") from None
        return contender

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the start is not timed
        contenders = dict(zip(makes, pool.map(started, makes), strict=True))
    try:
        rows: dict[str, list[Row]] = {name: [] for name in makes}
        for _ in range(repeats):
            for name, contender in contenders.items():
                rows[name].append(contender.timed(seconds))
    finally:
        for contender in contenders.values():
            contender.close()
    return rows


def _serve(pipe: Any, errors: str, make: Any, source: Any, epoch: int) -> None:
    with Path(errors).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    multiprocessing.set_start_method("fork", force=True)  # Linux's default, which the peers count on
    take, images = make(source), 0
    while images < epoch:
        images += take(1)
    block = _block(take)
    pipe.send("ready")
    while True:
        try:
            seconds = pipe.recv()
        except EOFError:
            return
        _run(take, block, _WARM_SECONDS)
        used = _cpu_seconds()
        images, elapsed = _run(take, block, seconds)
        pipe.send(
            {
                "images_per_second": images / elapsed,
                "cpu_us_per_image": (_cpu_seconds() - used) / images * 1e6,
                "peak_mb": _peak_bytes() / 1e6,
            }
        )


def _block(take: Callable[[int], int]) -> int:
    """Returns how many batches to take at once."""
    batches = 1
    while True:
        started = time.perf_counter()
        take(batches)
        if time.perf_counter() - started > _BLOCK_SECONDS:
            return batches
        batches *= 2


def _run(take: Callable[[int], int], block: int, seconds: float) -> tuple[int, float]:
    started, images = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds:
        images += take(block)
    return images, elapsed


def _children() -> list[int]:
    found, waiting = [], [os.getpid()]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").iterdir():
            new = [int(pid) for pid in (task / "children").read_text().split()]
            found += new
            waiting += new
    return found


def _cpu_seconds() -> float:
    """Returns user and system time of this process and of the workers it has."""
    ticks = 0
    for pid in _children():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return time.process_time() + ticks / _TICK


def _peak_bytes() -> int:
    """Returns this process's peak, and what its workers have that is theirs alone."""
    status = Path("/proc/self/status").read_text()
    kilobytes = int(status.partition("VmHWM:")[2].split()[0])
    for pid in _children():
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                kilobytes += int(line.split()[1])
    return kilobytes << 10
