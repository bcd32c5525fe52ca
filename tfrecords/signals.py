"""SIGTERM and Ctrl-C, heard by every command: at once, or between two steps of work that is not to be cut.

A handler of Python runs only when the main thread comes back to Python. So a thread of its own hears each
signal too: it ends the process where the main thread cannot. Nothing is lost by that, for what has its final
name is whole.
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

STOPPED: Final = 75  # by SIGTERM, or by a limit of the run's own
INTERRUPTED: Final = 130  # by Ctrl-C: 128 + SIGINT, as shells count

_CODES: Final = {signal.SIGTERM: STOPPED, signal.SIGINT: INTERRUPTED}
_SENTENCES: Final = {
    signal.SIGTERM: "stopped by SIGTERM: the same command again goes on from here",
    signal.SIGINT: "interrupted: the same command again goes on from here",
}
_AGAIN_SECONDS: Final = 1.0  # a second Ctrl-C that comes later than this is meant
_STUCK_SECONDS: Final = 3.0  # how long the main thread may take to hear a signal
_UNWIND_SECONDS: Final = 30.0  # and then to clean up


class Terminated(KeyboardInterrupt):
    """SIGTERM; what Ctrl-C's KeyboardInterrupt is for SIGINT."""


class _State:
    """What this process has heard."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None  # the signal that asks to stop
        self.handled = False  # whether the main thread knows
        self.deferring = 0  # how many blocks now ask not to be cut
        self.wakeup = -1  # the descriptor that the system's handler writes each signal to


_state = _State()


def listen() -> None:
    """Installs the handlers; a signal that the parent process has set to be ignored stays ignored.

    To be called again after a library has installed a handler of its own: TensorFlow's
    MultiWorkerMirroredStrategy does, and its handler swallows SIGTERM.
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
    """Lets a signal end the process at once, with its sentence, until `listen` is called.

    For a command that is still being imported, which takes seconds, and has begun nothing.
    """

    def end(number: int, _: FrameType | None) -> None:
        leave(_SENTENCES[signal.Signals(number)], _CODES[signal.Signals(number)])

    for number in _CODES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def heard() -> signal.Signals | None:
    """Returns the signal that asks this process to stop."""
    return _state.first


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal is only noted: `heard` says so, and the block ends itself when its work is saved.

    A second Ctrl-C, more than a second after the first, ends the process in spite of that.
    """
    _state.deferring += 1
    try:
        yield
    finally:
        _state.deferring -= 1


@contextmanager
def held() -> Iterator[None]:
    """Inside, signals wait: for a call that keeps Python from running, or that installs a handler of its own.

    Threads that are started inside never take a signal from the main thread, which would lose it.
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
    """Ends the process at once, with its last line: no thread of a library is waited for."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # the reader of a pipe has gone, or it was closed
            continue
    try:
        if message:
            os.write(2, f"{message}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(code)


def sentence(number: signal.Signals) -> str:
    """Returns the last line of a command that a signal has ended."""
    return _SENTENCES[number]


def _handle(number: int, _: FrameType | None) -> None:
    """Runs in the main thread."""
    again, _state.handled = _state.handled, True
    _state.first = _state.first or signal.Signals(number)
    if not again and not _state.deferring:
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _watch(read: int) -> None:
    """Runs in a thread of its own."""
    interrupted: float | None = None  # when the first Ctrl-C came
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
                    leave("interrupted twice: left at once; what was saved before is whole", INTERRUPTED)
                interrupted = interrupted or now


def _insist() -> None:
    """Ends the process if the main thread does not."""
    time.sleep(_STUCK_SECONDS)
    if _state.handled:
        time.sleep(_UNWIND_SECONDS)
    if _state.first and not _state.deferring:
        leave(_SENTENCES[_state.first], _CODES[_state.first])


def _start_thread(target: Callable[..., None], *arguments: object) -> None:
    """Starts a thread that takes no signal, so that the main thread gets all of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        threading.Thread(target=target, args=arguments, name="signals", daemon=True).start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
