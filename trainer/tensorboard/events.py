"""Event files: scalars are appended; a resumed run first removes the points that it will write again.

They are written with TensorBoard's own messages, but not with its writer: where TensorFlow is installed, that
one imports it, which takes seconds, and it has a thread.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.scalar import summary_v2
from tensorboard.plugins.text import summary_v2 as text_summary

from tfrecords.errors import InputError
from tfrecords.files.atomic import replace_atomically
from tfrecords.records import frame, read_records

_PREFIX: Final = "events.out.tfevents."
_VERSION: Final = "brain.Event:2"  # tensorflow/core/util/events_writer.h


class Keep(Protocol):
    """Whether the point of a tag at a step stays."""

    def __call__(self, tag: str, step: int) -> bool: ...  # noqa: D102


class ScalarFile:
    """Appends scalars to a new event file; the file is made with the first of them.

    Each call of `write` has reached the system when it returns, so a process that is killed loses none.

    Args:
        folder: the folder of a TensorBoard run; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one point for each tag.

        Raises:
            InputError: the file cannot be written.
        """
        event = event_pb2.Event(wall_time=time.time(), step=step)
        for tag, value in values.items():
            event.summary.value.extend(summary_v2.scalar_pb(tag, value).value)
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = (self._folder / new_name("scalars")).open("xb")
                self._file.write(frame(version_event().SerializeToString()))
            self._file.write(frame(event.SerializeToString()))
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"{self._folder}: scalars cannot be written: {error.strerror}; make room, then the same "
                f"command again resumes"
            ) from None

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def write_text(folder: Path, tag: str, text: str) -> None:
    """Writes a text in Markdown, in place of the one that is there if it differs.

    Raises:
        InputError: it cannot be written.
    """
    write_summary(folder, tag, text_summary.text_pb(tag, text), lambda s: s.value[0].tensor.string_val[0])


def write_summary(folder: Path, kind: str, summary: Any, content: Callable[[Any], Any]) -> None:
    """Writes an event file that holds one summary, in place of those of its kind that say something else.

    Args:
        folder: the folder of a TensorBoard run; made if it is not there.
        kind: how the name of the file ends.
        summary: what to write.
        content: summary -> what it says; if the file that is there says the same, nothing is written.

    Raises:
        InputError: it cannot be written.
    """
    there = event_files(folder, kind)
    old = [event.summary for path in there for event in read_events(path) if event.summary.value]
    if len(there) == len(old) == 1 and content(old[0]) == content(summary):
        return
    events = (version_event(), event_pb2.Event(wall_time=time.time(), step=0, summary=summary))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Until it is whole its name is not that of an event file, so that nobody reads half of it.
        data = b"".join(frame(event.SerializeToString()) for event in events)
        replace_atomically(folder / new_name(kind), data)
        for path in there:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}; make room") from None


def new_name(kind: str) -> str:
    """Returns a new name for an event file; names sort by the time they were made at.

    TensorBoard reads the files of a folder in the order of their names, and never goes back to one.
    """
    now = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
    return f"{_PREFIX}{now}.{kind}"


def event_files(folder: Path, kind: str = "") -> list[Path]:
    """Returns the event files of a folder, of one kind or of all, in the order in which they were made."""
    return sorted(folder.glob(f"{_PREFIX}*{'.' * bool(kind)}{kind}"))


def version_event() -> Any:
    """Returns the event that every event file starts with."""
    return event_pb2.Event(wall_time=time.time(), file_version=_VERSION)


def read_events(path: Path) -> Iterator[Any]:
    """Yields the events of a file up to the first that is cut or damaged, as TensorBoard does."""
    try:
        for record in read_records(path):
            yield event_pb2.Event.FromString(record)
    except InputError:
        return


def drop_points(folder: Path, keep: Keep) -> None:
    """Removes points from the event files of a folder.

    A file that loses a point is written anew, atomically; one that loses all of them is removed. What a
    killed process has left of a half-written event goes as well.

    Args:
        folder: the folder of a TensorBoard run; need not be there.
        keep: which points stay.

    Raises:
        InputError: a file cannot be written.
    """
    for path in event_files(folder):
        events, dropped = [], False
        for event in read_events(path):
            kept = [value for value in event.summary.value if keep(value.tag, event.step)]
            if len(kept) < len(event.summary.value):
                dropped = True
                if not kept:
                    continue
                summary = [type(value).FromString(value.SerializeToString()) for value in kept]
                del event.summary.value[:]
                event.summary.value.extend(summary)
            events.append(event)
        data = b"".join(frame(event.SerializeToString()) for event in events)
        try:
            if not any(len(event.summary.value) for event in events) and dropped:
                path.unlink()
            elif dropped or len(data) < path.stat().st_size:
                replace_atomically(path, data)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written: {error.strerror}; make room, then the same command again resumes"
            ) from None
