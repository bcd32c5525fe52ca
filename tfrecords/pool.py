"""Items worked on by several processes that end with their parent, and tell how far they are."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Any, Final, TypeVar

_POLL_SECONDS: Final = 0.1

Item = TypeVar("Item")
Result = TypeVar("Result")
Count = Callable[[int], object]
Task = Callable[[Item, Count], Result]


def run_tasks(
    prepare: Callable[[], Task[Item, Result]], items: Sequence[Item], *, workers: int, progress: Count
) -> list[Result]:
    """Returns the task's result for each item, in order.

    Args:
        prepare: called once in each process, returns the task; picklable.
        items: picklable; the task is called with one and with a function that counts what is done.
        workers: processes; 1 works in this one.
        progress: called here with what was counted since its last call.
    """
    if workers == 1 or len(items) <= 1:
        task = prepare() if items else None
        return [task(item, progress) for item in items] if task else []
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("q", 0), context.Event()
    arguments = (prepare, done, stop)
    with ProcessPoolExecutor(min(workers, len(items)), context, _start_worker, arguments) as pool:
        try:
            # Workers start with Ctrl-C blocked and inherit that: it is the parent's to handle.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures = [pool.submit(_work, item) for item in items]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            seen, waiting = 0, set(futures)
            while waiting:
                finished, waiting = wait(waiting, _POLL_SECONDS)
                progress(done.value - seen)
                seen = done.value
                for future in finished:
                    future.result()
            return [future.result() for future in futures]
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_task: Any = None  # of this process, with its share of the progress; set when a worker starts
_done: Any = None
_stop: Any = None


def _start_worker(prepare: Callable[[], Any], done: Any, stop: Any) -> None:
    global _task, _done, _stop  # the one way to hand shared memory to a pool's worker
    _task, _done, _stop = prepare(), done, stop
    parent = multiprocessing.parent_process()
    if parent is not None:  # a worker whose parent was killed must not linger
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _work(item: Any) -> Any:
    return _task(item, _count)


def _count(number: int) -> None:
    if _stop.is_set():
        raise KeyboardInterrupt
    with _done.get_lock():
        _done.value += number
