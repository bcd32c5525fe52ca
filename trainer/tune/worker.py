"""A worker of a search: takes the next execution that nobody works on, runs it in a process, and repeats.

Workers coordinate by the journal and by claims (locks) in the search's folder alone. So they may come and go,
on any machine that sees the folder.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tfrecords import signals
from tfrecords.command import BAD_INPUT, INTERRUPTED, NOT_FINITE, STOPPED
from tfrecords.errors import EndedEarly, InputError
from trainer.lock import HeldError, LockWatch, RunLock
from trainer.tune import process
from trainer.tune.order import ENDED, End, Next, Order
from trainer.tune.search import Search
from trainer.tune.show.overview import DONE, FAILED
from trainer.tune.state import claim_name
from trainer.tune.trials import Starts, epochs_done, run_dir

_LOOK_SECONDS: Final = 0.5
_MOST_KILLED: Final = 3  # a trial that is killed so often without a newer checkpoint has failed
_MOST_STARTS: Final = 20  # likewise for starts: a trial may kill its worker, too
_LAST_LINES: Final = 30  # of what a failed run printed, kept in the journal
_CODES: Final = {signal.SIGTERM: STOPPED, signal.SIGINT: INTERRUPTED}


class Worker:
    """Works on a search until nothing is left to do.

    Args:
        folder: of the search.
        log: called with a line for each thing that it does.
        max_minutes: minutes after which it saves and stops; 0: never.
    """

    def __init__(self, folder: Path, log: Callable[[str], None] = print, *, max_minutes: float = 0) -> None:
        self._folder, self._log = folder, log
        self._until = time.monotonic() + 60 * max_minutes if max_minutes else float("inf")
        self._max_minutes = max_minutes
        self._watches: dict[str, LockWatch] = {}

    def work(self) -> None:
        """Works until the search is over and concluded.

        Raises:
            EndedEarly: this worker was stopped; its trial is saved.
            InputError: too many trials have failed, or the search cannot be read or written.
        """
        with signals.deferred():
            while True:
                self._leave_if_told()
                search = Search.load(self._folder)
                order = search.order(search.journal.read())
                if self._one_thing(search, order):
                    continue
                if order.next == Next.TOO_MANY_FAILED:
                    raise InputError(_too_many(search, order))
                if order.next == Next.OVER and concluded(search, order):
                    return
                time.sleep(_LOOK_SECONDS)

    def _one_thing(self, search: Search, order: Order) -> bool:
        """Does one thing that no other worker is doing; returns False if there is nothing to do."""
        if order.next in (Next.ASK, Next.WAIT):
            executions = range(search.options.executions_per_trial)
            for number in order.open:
                trial = order.trials[number]
                for execution in () if trial.state(len(executions)) else executions:
                    if execution in trial.ends:
                        continue
                    if not self._free(run_dir(search, number, execution)):
                        continue  # its process still runs, though its worker may be gone
                    with ExitStack() as claim:
                        if self._claimed(claim, search, claim_name(number, execution)):
                            return self._execution(search, number, execution)
        with ExitStack() as claim:
            if order.next == Next.ASK and self._claimed(claim, search, process.ASK):
                self._run(search, process.ASK)
                return True
            over = order.next == Next.OVER and not concluded(search, order)
            if over and self._claimed(claim, search, process.CONCLUDE):
                self._run(search, process.CONCLUDE)
                return True
        return False

    def _free(self, folder: Path) -> bool:
        """Returns whether no living process trains in a run directory."""
        return self._watches.setdefault(str(folder), LockWatch(folder)).look()[0]

    def _claimed(self, claim: ExitStack, search: Search, name: str) -> bool:
        """Takes a claim if it is free."""
        watch = self._watches.setdefault(name, LockWatch(search.claim(name)))
        free, dead = watch.look()
        if not free:
            return False
        try:
            claim.enter_context(RunLock(search.claim(name), lambda _: None, wait=0, known_dead=dead))
        except HeldError:
            return False
        return True

    def _execution(self, search: Search, number: int, execution: int) -> bool:
        """Runs an execution of a trial until it ends or this worker is stopped."""
        order = search.order(search.journal.read())
        if execution in order.trials[number].ends:  # it ended before this worker had the claim
            return True
        folder = run_dir(search, number, execution)
        folder.parent.mkdir(parents=True, exist_ok=True)
        log_file = folder.with_suffix(".log")
        starts = Starts(search.claim(claim_name(number, execution)), folder)
        starts.begin(time.time())
        if starts.starts > _MOST_STARTS:
            why = (
                f"was started {_MOST_STARTS} times without saving anything new; its worker is lost each time"
            )
            self._failed(search, number, execution, starts.seconds, f"{why}\n{_last_lines(log_file)}")
            return True
        how = f"goes on after {starts.saved}" if starts.saved else "begins"
        self._log(f"trial {number}, execution {execution}: {how}")
        began = time.monotonic()
        code = self._child(
            process.command(process.EXECUTION, search.folder, number, execution, starts.seconds), log_file
        )
        seconds = time.monotonic() - began
        if code == 0:
            self._log(f"trial {number}, execution {execution}: done")
            return True
        starts.end(seconds, killed=code < 0)
        self._leave_if_told()
        if code in (STOPPED, INTERRUPTED):  # somebody stopped this trial only: it is continued
            return True
        if code == BAD_INPUT and not _works_here(search):
            raise InputError(
                f"trial {number}: {_last_lines(log_file).rpartition('error: ')[2]}\nNo trial of this "
                f"search was finished on this machine yet: check the machine, the data and the flags; the "
                f"trial waits"
            )
        if code < 0 and starts.killed < _MOST_KILLED:
            self._log(f"trial {number}: ended by signal {-code}; it goes on from its last checkpoint")
            return True
        self._failed(search, number, execution, starts.seconds, _why(code, log_file))
        return True

    def _failed(self, search: Search, number: int, execution: int, seconds: float, message: str) -> None:
        epochs = epochs_done(search, number, [execution])
        end = End(FAILED, None, epochs, seconds, message)
        with search.journal.lease() as lease:
            if execution not in search.order(lease.events).trials[number].ends:
                lease.append([process.ended(number, execution, end)])
        self._log(f"trial {number}: failed: {message.splitlines()[0]}")
        process.write_table(search)

    def _run(self, search: Search, what: str) -> None:
        """Runs a process that is no trial, to its end.

        Raises:
            EndedEarly: it ended with another exit code than 0.
        """
        log_file = search.folder / "logs" / f"{what}.log"
        log_file.parent.mkdir(exist_ok=True)
        began = log_file.stat().st_size if log_file.exists() else 0
        code = self._child(process.command(what, search.folder), log_file)
        if code == 0:
            return
        self._leave_if_told()
        if code < 0:
            self._log(f"{what}: ended by signal {-code}; it is restarted")
            return
        with log_file.open("rb") as file:
            file.seek(began)
            text = file.read().decode(errors="replace").strip()
        if code == BAD_INPUT:
            raise InputError(text.rpartition("error: ")[2])
        raise EndedEarly(text, code)

    def _child(self, command: list[str], log_file: Path) -> int:
        """Runs a process to its end and returns its exit code; passes on a signal that stops this worker."""
        with log_file.open("ab") as file:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        told = False
        try:
            while (code := child.poll()) is None:
                if not told and (number := self._stop()):
                    child.send_signal(number)
                    told = True
                time.sleep(0.05)
            return code
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()

    def _stop(self) -> signal.Signals | None:
        """Returns the signal that this worker must stop for, if there is one."""
        return signals.heard() or (signal.SIGTERM if time.monotonic() >= self._until else None)

    def _leave_if_told(self) -> None:
        if not (number := self._stop()):
            return
        if number == signals.heard():
            raise EndedEarly(signals.sentence(number), _CODES[number])
        raise EndedEarly(
            f"stopped by --max_minutes={self._max_minutes:g}: the same command again goes on from here",
            STOPPED,
        )


def concluded(search: Search, order: Order) -> bool:
    """Returns whether a finished search has its final model as its options now want it."""
    there = order.concluded
    if there is None or there["trials"] != len(order.trials):
        return False
    return search.options.final in ("none", there["final"])


def _works_here(search: Search) -> bool:
    """Returns whether a trial was finished on this machine; then a failure is not the machine's fault."""
    return any(
        event["event"] == ENDED and event["state"] == DONE and event["host"] == socket.gethostname()
        for event in search.journal.read()
    )


def _why(code: int, log_file: Path) -> str:
    """Returns what went wrong: one line, then the last lines that the run printed."""
    lines = _last_lines(log_file)
    if code < 0:
        name = signal.Signals(-code).name
        memory = ": most likely it ran out of memory" if -code == signal.SIGKILL else ""
        return f"ended {_MOST_KILLED} times by {name} without saving anything new{memory}\n{lines}"
    if code == NOT_FINITE:
        return f"diverged: {lines.splitlines()[-1] if lines else 'its loss is not finite'}"
    last = lines.splitlines()[-1] if lines else ""
    return f"{last or 'it printed nothing'} (exit code {code})\n{lines}"


def _last_lines(log_file: Path) -> str:
    try:
        with log_file.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 16)))
            lines = file.read().decode(errors="replace").rstrip().splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LAST_LINES:])


def _too_many(search: Search, order: Order) -> str:
    failed = [trial for trial in order.trials if trial.state(search.options.executions_per_trial) == FAILED]
    last = next(end.message for end, _ in failed[-1].ends.values() if end.state == FAILED)
    return (
        f"{len(failed)} trials have failed, more than --max_failures={search.options.most_failures}; the "
        f"last is trial {failed[-1].number}: {last.splitlines()[0]}\nFix the cause and begin in another "
        f"--search_dir, or give a higher --max_failures to go on; they are listed in "
        f"{search.folder / process.CSV_NAME}"
    )
