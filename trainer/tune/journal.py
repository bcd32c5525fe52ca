"""The journal of a search: one line for each trial that was proposed and each execution that ended.

An event counts once it is on disk. Only the holder of the lease appends; anyone may read at any time. An
incomplete last line is ignored, and the next holder of the lease removes it.
"""

import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tfrecords.errors import InputError
from tfrecords.files.atomic import sync, sync_open_file
from trainer.lock import RunLock

Event = Mapping[str, Any]
_NAME: Final = "journal.jsonl"
_SUM: Final = "crc32"
_FOR_EVER: Final = float("inf")  # a lease is held for seconds only, and a dead holder is noticed


class Journal:
    """The journal in a folder of its own.

    Args:
        folder: of the journal; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / _NAME

    def read(self) -> list[Event]:
        """Returns all events, in the order in which they were appended.

        Raises:
            InputError: a line is damaged.
        """
        return self._read()[0]

    @contextmanager
    def lease(self) -> Iterator["Lease"]:
        """Waits until nobody else appends, then gives the right to append inside `with`.

        Raises:
            InputError: the folder cannot be written, or a line is damaged.
        """
        with RunLock(self._folder, lambda _: None, wait=_FOR_EVER) as lock:
            events, size = self._read()
            yield Lease(self._path, events, size, lock)

    def _read(self) -> tuple[list[Event], int]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return [], 0
        events: list[Event] = []
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            event = _parsed(line)
            if event is None:
                raise InputError(
                    f"{self._path}, line {number}: is damaged, so what this search has done is not known; "
                    f"copy the file back from a backup, or begin in another --search_dir"
                )
            events.append(event)
        return events, len(whole)


class Lease:
    """The right to append to the journal.

    Attributes:
        events: all events of the journal; `append` adds to them.
    """

    def __init__(self, path: Path, events: list[Event], size: int, lock: RunLock) -> None:
        self.events = events
        self._path, self._size, self._lock = path, size, lock

    def append(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Appends events, each with the present time; they are on disk when this returns.

        Raises:
            EndedEarly: this process stood still for so long that another took the lease over.
            InputError: the disk is full.
        """
        stamped = [{**event, "at": round(time.time(), 3)} for event in events]
        data = b"".join(_line(event) for event in stamped)
        self._lock.check()
        new = not self._path.exists()
        try:
            with self._path.open("r+b" if not new else "xb") as file:
                file.truncate(self._size)  # removes an incomplete line that a kill left
                file.seek(self._size)
                file.write(data)
                sync_open_file(file)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror}; make room") from None
        if new:
            sync(self._path.parent)
        self._size += len(data)
        self.events += stamped


def _line(event: Mapping[str, Any]) -> bytes:
    text = json.dumps(event)
    return json.dumps({**event, _SUM: zlib.crc32(text.encode())}).encode() + b"\n"


def _parsed(line: bytes) -> Event | None:
    """Returns the event of a line; None if it is damaged."""
    try:
        values: dict[str, Any] = json.loads(line)
        crc32 = values.pop(_SUM)
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return values if crc32 == zlib.crc32(json.dumps(values).encode()) else None
