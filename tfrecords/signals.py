"""SIGTERM and Ctrl-C: every command stops at once, or between two steps of work that must not be cut.

A signal handler of Python runs only when the main thread is in Python code. So a second thread receives each
signal too, and ends the process if the main thread cannot. Nothing is lost, because files with their final
names are complete.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

STOPPED: Final = 75  # stopped by SIGTERM, or by a limit of the run itself
INTERRUPTED: Final = 130  # stopped by Ctrl-C: 128 + SIGINT, the code that shells give

_CODES: Final = {signal.SIGTERM: STOPPED, signal.SIGINT: INTERRUPTED}
_SENTENCES: Final = {
    signal.SIGTERM: "stopped by SIGTERM: the same command again goes on from here",
    signal.SIGINT: "interrupted: the same command again goes on from here",
}
_AGAIN_SECONDS: Final = 1.0  # an earlier second Ctrl-C is ignored: it may come from the same key press
_STUCK_SECONDS: Final = 3.0  # how long the main thread may take to handle a signal
_UNWIND_SECONDS: Final = 30.0  # and then to clean up and exit


class Terminated(KeyboardInterrupt):
    """Raised for SIGTERM, as KeyboardInterrupt is for Ctrl-C."""


class _State:
    """The signals that this process received."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None  # the signal that asks to stop
        self.handled = False  # whether the handler ran in the main thread
        self.deferring = 0  # how many `deferred` blocks are active
        self.wakeup = -1  # the descriptor that Python writes each signal's number to


_state = _State()


def listen() -> None:
    """Installs the handlers; a signal that the parent process ignores stays ignored.

    To be called again after a library has installed a handler of its own. TensorFlow's
    MultiWorkerMirroredStrategy does so, and its handler ignores SIGTERM.
    """
    for number in _CODES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    if _state.wakeup < 0:
        read, _state.wakeup = os.pipe()
        os.set_blocking(_state.wakeup, False)
        _start_thread(_watch, read)
    signal.set_wakeup_fd(_state.wakeup, warn_on_full_buffer=False)


def listen_first() -> None:
    """Lets a signal end the process at once, with its message, until `listen` is called.

    For the seconds in which a command is imported and has not begun any work.
    """

    def end(number: int, _: FrameType | None) -> None:
        leave(_SENTENCES[signal.Signals(number)], _CODES[signal.Signals(number)])

    for number in _CODES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def heard() -> signal.Signals | None:
    """Returns the signal that asked this process to stop, if any did."""
    return _state.first


@contextmanager
def deferred() -> Iterator[None]:
    """Inside the block, a signal is only recorded; the block asks `heard` and ends after saving its work.

    A second Ctrl-C, more than a second after the first, ends the process at once.
    """
    _state.deferring += 1
    try:
        yield
    finally:
        _state.deferring -= 1


@contextmanager
def held() -> Iterator[None]:
    """Inside the block, signals are held back: for calls that block Python, or that install a handler.

    Threads that are started inside never receive a signal in place of the main thread.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(_CODES))
    listening = signal.getsignal(signal.SIGTERM) is _handle
    try:
        yield
    finally:
        if listening:
            listen()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave(message: str, code: int) -> NoReturn:
    """Prints the last line and ends the process at once, without waiting for threads of libraries."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (
            OSError,
            ValueError,
            AttributeError,
        ):  # the reader of the pipe has left, or the stream is closed
            continue
    try:
        if message:
            os.write(2, f"{message}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(code)


def sentence(number: signal.Signals) -> str:
    """Returns the last line that a command prints when a signal ends it."""
    return _SENTENCES[number]


def _handle(number: int, _: FrameType | None) -> None:
    """Runs in the main thread."""
    again, _state.handled = _state.handled, True
    _state.first = _state.first or signal.Signals(number)
    if not again and not _state.deferring:
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _watch(read: int) -> None:
    """Runs in a thread of its own."""
    interrupted: float | None = None  # time of the first Ctrl-C, seconds
    while True:
        for number in os.read(read, 64):
            if number not in _CODES:
                continue
            first, _state.first = _state.first is None, _state.first or signal.Signals(number)
            if (first or not _state.handled) and not _state.deferring:
                _start_thread(_insist)
            if number == signal.SIGINT:
                now = time.monotonic()
                if interrupted is not None and now - interrupted > _AGAIN_SECONDS:
                    leave(
                        "interrupted twice: stopped at once; what was saved before is complete", INTERRUPTED
                    )
                interrupted = interrupted or now


def _insist() -> None:
    """Ends the process if the main thread does not end it in time."""
    time.sleep(_STUCK_SECONDS)
    if _state.handled:
        time.sleep(_UNWIND_SECONDS)
    if _state.first and not _state.deferring:
        leave(_SENTENCES[_state.first], _CODES[_state.first])


def _start_thread(target: Callable[..., None], *arguments: object) -> None:
    """Starts a thread that receives no signals, so that the main thread receives all of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        threading.Thread(target=target, args=arguments, name="signals", daemon=True).start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
