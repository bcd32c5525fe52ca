"""The folder that a conversion writes: whose it is, what of it is kept, and that one works at a time."""

import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from tfrecords.errors import InputError
from tfrecords.manifest import MANIFEST_NAME, SOURCES_NAME, Manifest, write_atomically
from tfrecords.shards import ShardJob

PLAN_NAME: Final = "plan.json"  # there while a conversion is under way: whose shards these are
LOCK_NAME: Final = "convert.lock"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Makes the folder and keeps other conversions out of it.

    The system frees the lock of a process that ends in any way, so what a dead one of this host left
    is taken over. A lock of another host is never taken: over a network file system nobody can tell
    whether it lives.

    Raises:
        InputError: another conversion is at work, or the folder cannot be made.
    """
    path, host = out / LOCK_NAME, socket.gethostname()
    with _open_lock(out, path) as file:
        file.seek(0)
        holder = file.read().strip()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except BlockingIOError:
            there = False
        if not there:  # held, or given up and removed between two lines above
            raise InputError(
                f"--out={out}: another conversion is at work there ({holder}); wait for it, or choose "
                f"another --out"
            )
        if holder and not holder.startswith(f"host {host},"):
            raise InputError(
                f"{path}: left by a conversion on another machine ({holder}); if it does not run any more, "
                f"remove this file and run the same command again"
            )
        file.truncate(0)
        file.write(f"host {host}, process {os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _open_lock(out: Path, path: Path) -> TextIO:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise InputError(f"--out={out}: cannot be made or written: {error.strerror}") from None


def prepare(out: Path, plan: dict[str, Any], jobs: Sequence[ShardJob], *, overwrite: bool) -> bool:
    """Makes the output folder ready for this plan; returns whether it is complete already.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    try:
        found = sorted(path.name for path in out.iterdir() if path.name != LOCK_NAME)
    except OSError as error:
        raise InputError(f"--out={out}: cannot be read: {error.strerror}") from None
    there = _plan_in(out)
    leftovers = [name for name in found if _is_ours(name) and name.endswith(".tmp")]
    if there is None and len(leftovers) < len(found):
        raise InputError(
            f"--out={out}: is not empty ({', '.join(found[:3])}{', ...' * (len(found) > 3)}) and holds "
            f"no conversion; choose a new or empty folder"
        )
    if there is not None and _goes_on(out, there, plan, jobs, overwrite=overwrite):
        _remove(out, leftovers)
        if MANIFEST_NAME in found:
            _remove(out, [PLAN_NAME])
            return True
    else:
        old = [name for name in found if _is_ours(name) and name not in (PLAN_NAME, *leftovers)]
        if old and not overwrite:
            raise InputError(
                f"--out={out}: holds a conversion of other images or with other options; choose another "
                f"--out, or replace it with --overwrite"
            )
        if old:  # killed from here on, the folder holds no data set, and it is still known as ours
            write_atomically(out / PLAN_NAME, b'{"plan": "being replaced"}')
        _remove(out, [MANIFEST_NAME, *old, *leftovers])
    write_atomically(out / PLAN_NAME, json.dumps(plan).encode())
    return False


def _goes_on(
    out: Path, there: dict[str, Any], plan: dict[str, Any], jobs: Sequence[ShardJob], *, overwrite: bool
) -> bool:
    """Returns whether what the folder holds is kept; drops shards of images that were changed since."""
    if (out / MANIFEST_NAME).exists():
        if there["plan"] != plan["plan"]:
            return False
        try:
            Manifest.load(out)
        except InputError:
            if not overwrite:
                raise
            return False
        return True
    if there.get("layout") != plan["layout"]:
        return False
    sizes = zip(there["sizes"], plan["sizes"], strict=True)
    changed = {source for source, (before, now) in enumerate(sizes) if before != now}
    _remove(out, [j.name for j in jobs if changed & {image.source for image in j.images}])
    return True


def _remove(out: Path, names: list[str]) -> None:
    for name in names:
        try:
            (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{out / name}: cannot be removed: {error.strerror}") from None


def _plan_in(out: Path) -> dict[str, Any] | None:
    """Returns the plan of the conversion in a folder, finished or under way, or None."""
    for name in (MANIFEST_NAME, PLAN_NAME):
        try:
            content = json.loads((out / name).read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and "plan" in content else None
    return None


def _is_ours(name: str) -> bool:
    known = (MANIFEST_NAME, PLAN_NAME, SOURCES_NAME)
    return bool(re.search(r"\.tfrecord-\d{5}-of-\d{5}(\.\d+\.tmp)?$", name)) or any(
        re.fullmatch(rf"{re.escape(k)}|\.{re.escape(k)}\.\d+\.tmp", name) for k in known
    )
