"""A lock that lets one process at a time train in a run directory, on any shared disk.

The lock is a file that its holder rewrites every ten seconds. On the holder's machine its process id and
start time show whether it lives. On other machines the content must change, by the clock of the machine that
waits; so no two clocks are compared. The file system needs an atomic rename and link, nothing else.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tfrecords.errors import EndedEarly, InputError
from tfrecords.files.locks import wait_for_lock
from tfrecords.signals import STOPPED

LOCK_NAME: Final = "lock.json"
_REWRITE_SECONDS: Final = 10.0
_STALE_SECONDS: Final = 60.0  # a holder on another machine that has not rewritten it for so long is dead
_WAIT_SECONDS: Final = 90.0  # for a holder that lives: longer than _STALE_SECONDS, and than a run's stop
_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host: name of its machine.
        boot: the machine's boot id, with the id of its process namespace: each container of a machine counts
            its own processes.
        pid: of the process.
        started: when it started, in ticks since the boot.
        token: a random text that only this holder knows.
        beat: how often the holder has rewritten the lock.
    """

    host: str
    boot: str
    pid: int
    started: int
    token: str
    beat: int = 0

    @classmethod
    def here(cls) -> Self:
        """Returns this process, with a new token."""
        pid = os.getpid()
        return cls(socket.gethostname(), _boot(), pid, _started(pid), secrets.token_hex(8))

    @property
    def is_local(self) -> bool:
        """Whether it is, or was, a process of this machine and of this container."""
        return self.boot == _boot()

    @property
    def dead(self) -> bool:
        """Whether it was a process of this machine that has ended."""
        return self.is_local and _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class HeldError(InputError):
    """A living process holds the lock."""


class LockWatch:
    """Finds out whether a lock is free, by looking at it from time to time; see the module.

    Args:
        folder: the folder that is locked.
        stale: see `RunLock`.
    """

    def __init__(self, folder: Path, *, stale: float = _STALE_SECONDS) -> None:
        self._path, self._stale = folder / LOCK_NAME, stale
        self._seen: Holder | None = None
        self._changed = time.monotonic()

    def look(self) -> tuple[bool, Holder | None]:
        """Returns whether the lock is free, and its dead holder, if any: `known_dead` of a `RunLock`."""
        there, now = _read(self._path), time.monotonic()
        if there != self._seen:
            self._seen, self._changed = there, now
        return there is None or there.dead or now - self._changed >= self._stale, there


class RunLock:
    """The lock of a run directory, held inside `with`; makes the directory, and removes it if it stays empty.

    Args:
        folder: the run directory.
        log: called with a line that names the holder it waits for.
        wait: seconds to wait for a living holder.
        stale: seconds without a change after which a holder on another machine counts as dead.
        known_dead: a holder that is known to be dead.

    Raises:
        InputError: another process holds it, or the directory cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        log: Callable[[str], None] = print,
        *,
        wait: float = _WAIT_SECONDS,
        stale: float = _STALE_SECONDS,
        known_dead: Holder | None = None,
    ) -> None:
        self._known_dead = known_dead
        self._folder, self._path, self._log = folder, folder / LOCK_NAME, log
        self._wait, self._stale = wait, stale
        self._mine = Holder.here()
        self._made: list[Path] = []
        self._released = threading.Event()
        self._writing = threading.Lock()

    def __enter__(self) -> Self:
        try:
            self._make_folder()
            self._acquire()
        except BaseException as error:  # Ctrl-C too
            self._remove_folders()
            if not isinstance(error, OSError):
                raise
            raise InputError(f"--run_dir={self._folder}: cannot be written: {error.strerror}") from None
        threading.Thread(target=self._rewrite, name="lock", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Gives the lock back; call it before the process ends without leaving the `with` block."""
        self._released.set()
        with self._writing, suppress(OSError):
            if self._held():
                self._path.unlink()
        self._remove_folders()

    def check(self) -> None:
        """Checks that this process still holds the lock; call it before anything is published.

        Raises:
            EndedEarly: this process was suspended for so long that another one took the lock over.
        """
        if not self._held():
            there = _read(self._path)
            raise EndedEarly(
                f"--run_dir={self._folder}: {there or 'another process'} took this run over while this one "
                f"was suspended; the run goes on there, and this process writes nothing more",
                STOPPED,
            )

    def _held(self) -> bool:
        there = _read(self._path)
        return there is not None and there.token == self._mine.token

    def _make_folder(self) -> None:
        missing = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._made = missing

    def _remove_folders(self) -> None:
        """Removes the folders that were made for the lock alone, innermost first."""
        for path in self._made:
            try:
                path.rmdir()
            except OSError:  # it holds a run now
                return

    def _acquire(self) -> None:
        began = last_change = time.monotonic()
        seen: Holder | None = None
        said = False
        while True:
            if self._create():
                return
            there = _read(self._path)
            now = time.monotonic()
            if there is None:  # just released, or damaged by a crash of the machine
                if seen is None and now - last_change < 2:
                    time.sleep(_LOOK_SECONDS / 10)
                    continue
            elif there != seen:
                seen, last_change = there, now
            if there in (None, self._known_dead) or there.dead or now - last_change >= self._stale:
                if self._take_over(there):
                    return
                continue
            if now - began >= self._wait:
                raise HeldError(
                    f"--run_dir={self._folder}: {there} trains in it; wait for its end, end it, or choose "
                    f"another --run_dir (if that process is gone for good, remove {self._path})"
                )
            if not said and now - began > 1:
                self._log(f"waiting for {there}, which trains in {self._folder}: at most {self._wait:.0f} s")
                said = True
            time.sleep(_LOOK_SECONDS)

    def _create(self) -> bool:
        """Creates the lock file, whole, if there is none; returns whether it did."""
        temporary = self._write_temporary()
        try:
            os.link(temporary, self._path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _take_over(self, there: Holder | None) -> bool:
        """Replaces a dead holder by this process; returns False if another process was faster."""
        with _guard(self._folder):
            if _read(self._path) != there:
                return False
            self._write_temporary().replace(self._path)
        if there is not None and there.boot != _boot():
            time.sleep(
                _LOOK_SECONDS
            )  # another machine may have done the same: the last to write holds the lock
        return self._held()

    def _rewrite(self) -> None:
        beat = 0
        while not self._released.wait(_REWRITE_SECONDS):
            beat += 1
            with self._writing, suppress(OSError):  # a full disk is reported when other files are written
                if self._released.is_set() or not self._held():
                    return
                self._write_temporary(beat).replace(self._path)

    def _write_temporary(self, beat: int = 0) -> Path:
        temporary = self._path.with_name(f".{LOCK_NAME}.{self._mine.token}.tmp")
        temporary.write_text(json.dumps({**asdict(self._mine), "beat": beat}) + "\n")
        return temporary


def _read(path: Path) -> Holder | None:
    """Returns the holder; None if there is no lock, or it cannot be read."""
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        return Holder(**values)
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Lets one process of this machine at a time take over a lock.

    On a file system that cannot lock a folder (NFS), the token decides: it is read again afterwards.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _boot() -> str:
    """Returns the id of this machine's boot and of this process's namespace of process ids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> int:
    """Returns when a process started, in ticks since the boot; -1 if it does not exist or has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in ("Z", "X") else int(fields[19])
