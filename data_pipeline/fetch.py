"""Data behind a URL, s3://, gs://, https:// or another of fsspec's: fetched once into a checked cache.

The cache is a folder of data sets, each under the hash that its manifest carries, so the same data under
two URLs is fetched once, and changed data is other data. A shard gets its name when all its bytes are on
disk and their SHA-256 is the manifest's: what has a shard's name and size is whole, whenever a fetch was
killed. What was cut off goes on from its last byte.

Processes that start together fetch once: one does, the others wait for it. A data set that a process
reads is locked as long as the process lives; the cache makes room by the others, least recently used
first. What is secret in a URL, user, password and query, is used to fetch and is never shown or kept.
"""

import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tqdm import tqdm

from tfrecords import command
from tfrecords.errors import InputError
from tfrecords.files.atomic import file_sha256, publish, write_atomically
from tfrecords.files.cache import user_cache
from tfrecords.files.locks import file_lock, share_until_exit, try_lock
from tfrecords.files.urls import has_secrets, is_remote, open_url, without_secrets
from tfrecords.manifest import MANIFEST_NAME, Manifest, Shard, is_shard

_THREADS: Final = 8  # shards fetched at once: a store's speed is for each connection
_BLOCK: Final = 8 << 20  # bytes asked for at once


def end_process() -> None:
    """Ends a process that read with tensorflow-io 0.37.1, whose S3 client aborts a normal end."""
    command.end()


def resolve_data(
    data: str, splits: Collection[str], *, cache_dir: str = "", limit: int = 0, check: bool = False
) -> Path:
    """Returns the folder of a data set, `fetched` if a URL names it: with its arguments and errors."""
    if not is_remote(data):
        return Path(data)
    return fetched(data, splits, cache_dir=Path(cache_dir) if cache_dir else None, limit=limit, check=check)


def fetched(
    url: str,
    splits: Collection[str],
    *,
    cache_dir: Path | None = None,
    limit: int = 0,
    check: bool = False,
) -> Path:
    """Returns the local folder of a remote data set; fetches what is not there yet.

    Args:
        url: of the folder with manifest.json.
        splits: names of those that are needed; one that the data set does not have needs nothing.
        cache_dir: where data sets are kept; None: the user's cache folder.
        limit: bytes that all data sets there may take; 0: what the disk has.
        check: whether to hash again what was fetched before.

    Raises:
        InputError: fsspec is not installed, the place cannot be read, a shard there is missing or is not
            what the manifest says, or there is no room.
    """
    source = _Source.of(url)
    data = source.read(MANIFEST_NAME)
    manifest = Manifest.from_bytes(data, f"{source.shown}/{MANIFEST_NAME}")
    shards = [s for name, split in manifest.splits.items() if name in splits for s in split.shards]
    if odd := [shard.name for shard in shards if not is_shard(shard.name)]:
        raise InputError(f"{source.shown}/{MANIFEST_NAME}: {odd[0]!r} is no shard's name; convert again")
    home = (cache_dir or user_cache()).absolute() / "remote"
    folder = home / json.loads(data)["sha256"]
    try:
        home.mkdir(parents=True, exist_ok=True)
        share_until_exit(_lock_of(folder))  # this process reads the data set
        if check:
            _drop_damaged(folder, shards)
        if _missing(folder, shards) or not (folder / MANIFEST_NAME).exists():
            with _one_at_a_time(home):
                missing = _missing(folder, shards)
                _make_room(folder, missing, limit, source.shown)
                folder.mkdir(exist_ok=True)
                _fetch(source, missing, folder)
                write_atomically(folder / MANIFEST_NAME, data)
    except OSError as error:
        raise InputError(
            f"{home}: cannot be written: {error.strerror or error}; make room, or name another --cache_dir. "
            f"The same command again goes on from here"
        ) from None
    return folder


@dataclass(frozen=True)
class _Source:
    """A folder behind a URL: its file system, its path there, what follows a file's name, its public name."""

    files: Any
    base: str
    query: str
    shown: str
    secret: bool

    @classmethod
    def of(cls, url: str) -> Self:
        shown = without_secrets(url)
        bare, mark, query = url.partition("?")
        files, base = open_url(bare)
        return cls(files, base, mark + query, shown, has_secrets(url))

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Returns a file's bytes from start to stop, or to its end where the server knows no ranges."""
        try:
            data = self.files.cat_file(f"{self.base}/{name}{self.query}", start=start, end=stop)
        except FileNotFoundError:
            fix = "restore it there" if is_shard(name) else "--data is the folder that a conversion made"
            raise InputError(f"{self.shown}/{name}: is not there; {fix}") from None
        except Exception as error:  # each file system raises what its library does
            # The text may hold the URL as it was asked for.
            why = type(error).__name__ + ("" if self.secret else f": {error}")
            raise InputError(
                f"{self.shown}/{name}: cannot be read ({why}); check address and credentials. The same "
                f"command again goes on from here"
            ) from None
        whole = start is not None and stop is not None and len(data) > stop - start
        return bytes(data[start:] if whole else data)


def _missing(folder: Path, shards: Sequence[Shard]) -> list[Shard]:
    def is_there(shard: Shard) -> bool:
        path = folder / shard.name
        return path.exists() and path.stat().st_size == shard.bytes

    return [shard for shard in shards if not is_there(shard)]


def _drop_damaged(folder: Path, shards: Sequence[Shard]) -> None:
    for shard in shards:
        path = folder / shard.name
        if path.exists() and file_sha256(path) != shard.sha256:
            path.unlink()


def _fetch(source: _Source, shards: Sequence[Shard], folder: Path) -> None:
    stop = threading.Event()
    with (
        tqdm(
            total=sum(shard.bytes for shard in shards),
            unit="B",
            unit_scale=True,
            desc=f"fetching {source.shown}",
            mininterval=0.1 if sys.stderr.isatty() else 10,  # a log file gets a line now and then
            disable=not shards,
        ) as bar,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        try:
            for _ in pool.map(lambda shard: _fetch_shard(source, shard, folder, bar.update, stop), shards):
                pass
        except BaseException:
            stop.set()  # else the other threads would fetch their shards to the end
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_shard(
    source: _Source,
    shard: Shard,
    folder: Path,
    advance: Callable[[int], Any],
    stop: threading.Event,
) -> None:
    part = folder / f".{shard.name}.part"
    kept = part.stat().st_size if part.exists() else 0
    found = _download(source, shard, part, kept, advance, stop)
    if found != shard.sha256 and kept:  # a machine that lost power may have lost some of what was kept
        part.unlink()
        found = _download(source, shard, part, 0, advance, stop)
    if stop.is_set():
        return
    if found != shard.sha256:
        part.unlink()
        raise InputError(
            f"{source.shown}/{shard.name}: is not what was converted: SHA-256 {found}, the manifest says "
            f"{shard.sha256}; restore it there"
        )
    publish(part, folder / shard.name)


def _download(
    source: _Source,
    shard: Shard,
    part: Path,
    kept: int,
    advance: Callable[[int], Any],
    stop: threading.Event,
) -> str:
    """Goes on with a file from its byte `kept`, to disk; returns the SHA-256 of all of it."""
    digest = hashlib.sha256()
    with part.open("a+b") as file:
        file.seek(0)
        while block := file.read(_BLOCK):
            digest.update(block)
        advance(kept)
        at = kept
        while at < shard.bytes and not stop.is_set():
            block = source.read(shard.name, at, min(at + _BLOCK, shard.bytes))
            if not block:
                raise InputError(
                    f"{source.shown}/{shard.name}: has {at} bytes, the manifest says {shard.bytes}; restore "
                    f"it there"
                )
            file.write(block)
            digest.update(block)
            at += len(block)
            advance(len(block))
    return digest.hexdigest()


def _make_room(folder: Path, missing: Sequence[Shard], limit: int, shown: str) -> None:
    """Removes data sets that nobody reads, least recently used first, until the missing shards fit."""
    home = folder.parent
    sizes = {path: _size(path) for path in home.iterdir() if path.is_dir()}
    parts = sum(path.stat().st_size for path in folder.glob(".*.part"))
    need = sum(shard.bytes for shard in missing) - parts

    def room() -> int:
        free = shutil.disk_usage(home).free
        return min(free, limit - sum(sizes.values())) if limit else free

    others = sorted((path for path in sizes if path != folder), key=_last_use)
    if room() + sum(sizes[path] for path in others) >= need:  # else nothing is removed in vain
        for path in others:
            if room() >= need:
                return
            if _removed(path):
                del sizes[path]
    if room() < need:
        most = f"--cache_limit_mb={limit >> 20}" if limit else "the disk"
        raise InputError(
            f"{shown}: {need / 1e6:,.1f} MB are to be fetched, and {most} leaves {max(0, room()) / 1e6:,.1f} "
            f"MB in {home}, data sets in use aside; make room, give a larger --cache_limit_mb or another "
            f"--cache_dir"
        )


def _removed(folder: Path) -> bool:
    """Removes a data set unless a process reads it."""
    with _lock_of(folder).open("w") as lock:
        if not try_lock(lock):
            return False
        shutil.rmtree(folder)
    return True


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _last_use(folder: Path) -> float:
    lock = _lock_of(folder)
    return lock.stat().st_mtime if lock.exists() else 0


def _one_at_a_time(home: Path) -> AbstractContextManager[None]:
    """Lets one process at a time fetch and make room."""

    def on_wait() -> None:
        print(f"{home}: waiting for a process that fetches", file=sys.stderr)

    return file_lock(home / "lock", on_wait=on_wait)
