"""Runs child processes for a launcher: passes on their output, notes their ends, and leaves no orphan.

One thread does everything: each line of output, each end and each signal wakes one `select`.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

LAST_LINES: Final = 20
_COLOURS: Final = (36, 33, 35, 32, 34, 31)
_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_READ: Final = 1 << 16


@dataclass
class Child:
    """A process that was started.

    Attributes:
        rank: rank of the process.
        process: the process, which leads its own session.
        log: file that gets all of its output; None: it prints to the launcher's own output.
        last: its last lines.
        code: its exit code, as `subprocess` gives it; None while it runs.
        ended: when it ended, in seconds since the epoch.
        rest: start of a line whose end has not been read yet.
    """

    rank: int
    process: subprocess.Popen[bytes]
    log: IO[bytes] | None
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    code: int | None = None
    ended: float = 0.0
    rest: bytes = b""


class Children:
    """The processes of one start of a command.

    Args:
        out: gets the rank and the text of each line that they print.
    """

    def __init__(self, out: Callable[[int, str], None]) -> None:
        self.all: list[Child] = []
        self._out = out
        self._selector = selectors.DefaultSelector()
        self._guardian = _Guardian()

    def start(
        self,
        rank: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        log: Path | None = None,
        cores: Sequence[int] = (),
    ) -> Child:
        """Starts a process.

        Args:
            rank: rank of the process.
            command: program and arguments.
            environment: the whole environment of the process.
            log: file to which all of its output is appended; None: it prints to the launcher's own output.
            cores: CPU cores that it may use; empty: those of the launcher.

        Raises:
            OSError: the process cannot be started.
        """
        parent = os.getpid()

        def prepare() -> None:  # runs in the child, before the command
            _LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            if cores:
                os.sched_setaffinity(0, cores)

        file = log.open("ab", buffering=0) if log else None
        process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL if file else None,
            stdout=subprocess.PIPE if file else None,
            stderr=subprocess.STDOUT if file else None,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509  # this process has one thread
        )
        self._guardian.watch(process.pid)
        child = Child(rank, process, file)
        self.all.append(child)
        if process.stdout:
            os.set_blocking(process.stdout.fileno(), False)
            self._selector.register(process.stdout, selectors.EVENT_READ, child)
        return child

    @property
    def running(self) -> list[Child]:
        """The processes that have not ended."""
        return [child for child in self.all if child.code is None]

    def wait(self, seconds: float, wakeup: int) -> None:
        """Waits until something happens; passes output on and notes which processes have ended.

        Args:
            seconds: the longest wait.
            wakeup: a descriptor that becomes readable at each signal, SIGCHLD included.
        """
        self._selector.register(wakeup, selectors.EVENT_READ)
        try:
            for key, _ in self._selector.select(max(0.0, seconds)):
                if key.data is None:
                    with suppress(BlockingIOError):
                        os.read(wakeup, _READ)
                else:
                    self._read(key.data)
        finally:
            self._selector.unregister(wakeup)
        for child in self.running:
            code = child.process.poll()
            if code is not None:
                child.code, child.ended = code, time.time()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to all running processes, then SIGCONT, so that suspended ones handle it too."""
        for child in self.running:
            with suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(child.process.pid, number)
                else:
                    child.process.send_signal(number)
                    child.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kills whatever still runs, reads the rest of the output, and closes all files."""
        for child in self.all:
            # The session may hold processes that the child started and left behind.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
            if child.process.stdout:
                self._read(child)
                if child.rest:
                    self._line(child, child.rest)
                child.process.stdout.close()
            if child.log:
                child.log.close()
        self._selector.close()
        self._guardian.close()

    def _read(self, child: Child) -> None:
        """Passes on what a child has printed so far."""
        pipe = child.process.stdout
        assert pipe is not None
        assert child.log is not None
        while True:
            try:
                data = os.read(pipe.fileno(), _READ)
            except BlockingIOError:
                return
            if not data:
                with suppress(KeyError):
                    self._selector.unregister(pipe)
                return
            child.log.write(data)
            *lines, child.rest = (child.rest + data).split(b"\n")
            for line in lines:
                self._line(child, line)

    def _line(self, child: Child, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        child.last.append(text)
        self._out(child.rank, text)


class Output:
    """Prints lines of several processes, each with its rank in front, coloured on a terminal."""

    def __init__(self, out: Any = None) -> None:
        self._out = out or sys.stdout
        self._coloured = self._out.isatty() and "NO_COLOR" not in os.environ

    def __call__(self, rank: int, line: str) -> None:
        """Prints a line; a training does not end because the reader of its output has left."""
        prefix = f"[{rank}]"
        if self._coloured:
            prefix = f"\033[{_COLOURS[rank % len(_COLOURS)]}m{prefix}\033[0m"
        with suppress(OSError, ValueError, UnicodeEncodeError):
            print(prefix, line, file=self._out, flush=True)


@contextmanager
def collect_signals() -> Iterator[tuple[list[signal.Signals], int]]:
    """Collects SIGTERM and SIGINT in a list; yields it with a descriptor that each signal makes readable."""
    received: list[signal.Signals] = []
    read, write = os.pipe()
    for descriptor in (read, write):
        os.set_blocking(descriptor, False)
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in (*numbers, signal.SIGCHLD)}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: received.append(signal.Signals(number)))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    descriptor = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield received, read
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


class _Guardian:
    """A process that ends the children, and whatever they started, when the launcher is killed."""

    def __init__(self) -> None:
        read, self._write = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._write)
            os._exit(_guard(read))
        os.close(read)

    def watch(self, pid: int) -> None:
        os.write(self._write, f"{pid}\n".encode())

    def close(self) -> None:
        """Ends the guardian before its pipe closes, so that it kills nobody."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)


def _guard(read: int) -> int:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    data = b""
    while part := os.read(read, _READ):
        data += part
    for word in data.split():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(int(word), signal.SIGKILL)
    return 0
