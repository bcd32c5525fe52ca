"""A pool of processes that work on items, report progress, and end with their parent.

A process that is killed may hold a lock that it shares with the others. They would then wait for ever, with
the signals blocked that could end them. So the parent never waits for such a lock, and when a process was
killed, it kills the others.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.context import SpawnContext, SpawnProcess
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tfrecords.errors import InputError

_POLL_SECONDS: Final = 0.1

Item = TypeVar("Item")
Result = TypeVar("Result")
Count = Callable[[int], object]
Task = Callable[[Item, Count], Result]


def nothing(_: Any) -> None:
    """Ignores its argument."""


class _Context(SpawnContext):
    """Keeps the processes that it starts, so that one killed right after its start is noticed too."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802  # a class there
        process = SpawnProcess(*args, **options)
        self._made.append(process)
        return process

    @property
    def started(self) -> list[SpawnProcess]:
        """All started processes, also those that have ended."""
        return [process for process in self._made if process.pid is not None]


class Pool:
    """Processes that are started for the first run with two or more items, and end with the `with` block.

    Args:
        workers: how many processes; 1: no other process, this one does the work.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None
        self._context = _Context()
        self._done: Any = None  # shared memory: what all tasks have counted since the start
        self._stop: Any = None
        self._runs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._stop.value = True
            self._executor.shutdown(wait=False, cancel_futures=True)
            while left := [process for process in self._context.started if process.is_alive()]:
                self._kill_if_one_was()
                wait_for_any([process.sentinel for process in left])
            self._executor.shutdown()

    def run(
        self,
        prepare: Callable[[], Task[Item, Result]],
        items: Sequence[Item],
        *,
        progress: Count = nothing,
        take: Callable[[Result], object] = nothing,
        join: bool = False,
    ) -> list[Result]:
        """Returns the task's result for each item, in order.

        Args:
            prepare: called once in each process; returns the task; picklable.
            items: picklable; the task is called with an item and a function that counts finished work.
            progress: called in this process with what was counted since its last call.
            take: called in this process with each result as soon as it is there, in any order; an exception
                that it raises ends the run.
            join: whether this process works too, on items that no other has begun: useful for short work,
                while the other processes are still starting.
        """
        if self.workers == 1 or len(items) <= 1:
            return self._here(prepare, items, progress, take)
        self._runs += 1
        try:
            return self._apart(prepare, items, progress, take, join=join)
        except BrokenProcessPool:
            raise InputError(
                f"--workers={self.workers}: one of these processes was killed, most likely because memory "
                f"was short (see the system's log); give a smaller --workers and run the same command again"
            ) from None

    def _apart(
        self,
        prepare: Callable[[], Task[Item, Result]],
        items: Sequence[Item],
        progress: Count,
        take: Callable[[Result], object],
        *,
        join: bool,
    ) -> list[Result]:
        seen: int = self._done.get_obj().value if self._done else 0  # None before the first run
        # Submitted items are never cancelled: if a process dies then, the executor fails in its own thread.
        most = 2 * self.workers if join else len(items)
        task = prepare() if join else None
        left = deque(range(len(items)))
        begun: dict[Future[Any], int] = {}
        results: dict[int, Result] = {}
        while left or begun:
            numbers = [left.popleft() for _ in range(min(len(left), most - len(begun)))]
            begun |= zip(self._submit(prepare, [items[n] for n in numbers]), numbers, strict=True)
            if task and left:
                number = left.pop()
                results[number] = task(items[number], progress)
                take(results[number])
            finished, _ = wait(begun, 0 if left else _POLL_SECONDS)
            if wait_for_any([process.sentinel for process in self._context.started], 0):
                self._kill_if_one_was()
            seen = self._tell(seen, progress)
            for future in finished:
                number = begun.pop(future)
                results[number] = future.result()
                take(results[number])
        return [results[number] for number in range(len(items))]

    @staticmethod
    def _here(
        prepare: Callable[[], Task[Item, Result]],
        items: Sequence[Item],
        progress: Count,
        take: Callable[[Result], object],
    ) -> list[Result]:
        results: list[Result] = []
        if items:
            task = prepare()
            for item in items:
                results.append(task(item, progress))
                take(results[-1])
        return results

    def _tell(self, seen: int, progress: Count) -> int:
        done: int = self._done.get_obj().value  # without the lock
        progress(done - seen)
        return done

    def _submit(self, prepare: Callable[[], Any], items: Sequence[Any]) -> list[Future[Any]]:
        if self._executor is None:
            self._done, self._stop = self._context.Value("q", 0), self._context.RawValue("b", False)
            self._executor = ProcessPoolExecutor(
                self.workers, self._context, _start_worker, (self._done, self._stop)
            )
        # Workers inherit that Ctrl-C and SIGTERM are blocked: the parent handles both.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            return [self._executor.submit(_work, self._runs, prepare, item) for item in items]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _kill_if_one_was(self) -> None:
        """Kills all processes if one of them has ended with an error."""
        processes = self._context.started
        if any(not process.is_alive() and process.exitcode != 0 for process in processes):
            for process in processes:
                process.kill()


_tasks: dict[int, Any] = {}  # in a worker: the task of the current run
_done: Any = None  # in a worker: the shared count; set when it starts
_stop: Any = None


def _start_worker(done: Any, stop: Any) -> None:
    global _done, _stop  # an executor's initializer can pass shared memory only by globals
    _done, _stop = done, stop
    parent = multiprocessing.parent_process()
    if parent is not None:  # a worker must end when its parent was killed
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _work(run: int, prepare: Callable[[], Any], item: Any) -> Any:
    if run not in _tasks:
        _tasks.clear()
        _tasks[run] = prepare()
    return _tasks[run](item, _count)


def _count(number: int) -> None:
    if _stop.value:
        raise KeyboardInterrupt
    with _done.get_lock():
        _done.value += number
