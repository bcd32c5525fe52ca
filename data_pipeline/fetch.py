"""Fetches a data set behind a URL once, into a checked cache: s3://, gs://, https:// and others.

The cache has a folder for each data set, named by the SHA-256 in its manifest. So the same data behind two
URLs are fetched once, and changed data are fetched again. A shard gets its name only when all its bytes are
on the disk and have the manifest's SHA-256. So after a kill, a file with a shard's name and size is complete,
and an incomplete one continues from its last byte.

If several processes start together, one fetches and the others wait for it. A data set is locked while a
process that reads it lives. To make room, the cache removes other data sets, the least recently used first.
The secrets in a URL (user, password, query) are used to fetch, and never shown or stored.
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

_THREADS: Final = 8  # shards fetched at once, because a store limits the speed of each connection
_BLOCK: Final = 8 << 20  # bytes per request


def end_process() -> None:
    """Ends a process at once; after reading with tensorflow-io 0.37.1, its S3 client aborts a normal end."""
    command.end()


def resolve_data(
    data: str, splits: Collection[str], *, cache_dir: str = "", limit: int = 0, check: bool = False
) -> Path:
    """Returns the folder of a data set; a URL is fetched first. Arguments and errors as `fetched`."""
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
    """Returns the local folder of a remote data set; fetches what is missing.

    Args:
        url: of the folder with manifest.json.
        splits: names of the needed splits; a name that the data set does not have is ignored.
        cache_dir: the folder of the cache; None: the user's cache folder.
        limit: bytes that all data sets in the cache may take; 0: no limit but the disk.
        check: whether shards that were fetched before are hashed again.

    Raises:
        InputError: fsspec is not installed, the URL cannot be read, a shard is missing or differs from the
            manifest, or there is not enough room.
    """
    source = _Source.of(url)
    data = source.read(MANIFEST_NAME)
    manifest = Manifest.from_bytes(data, f"{source.shown}/{MANIFEST_NAME}")
    shards = [s for name, split in manifest.splits.items() if name in splits for s in split.shards]
    if odd := [shard.name for shard in shards if not is_shard(shard.name)]:
        raise InputError(f"{source.shown}/{MANIFEST_NAME}: {odd[0]!r} is not a shard's name; convert again")
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
    """A folder behind a URL.

    Attributes:
        files: its fsspec file system.
        base: its path there.
        query: the query of the URL, appended to the path of each file.
        shown: the URL without secrets.
        secret: whether the URL has secrets.
    """

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
        """Returns the bytes of a file from start to stop; None: from its start, or to its end."""
        try:
            data = self.files.cat_file(f"{self.base}/{name}{self.query}", start=start, end=stop)
        except FileNotFoundError:
            fix = "restore it there" if is_shard(name) else "give --data the URL of a converted data set"
            raise InputError(f"{self.shown}/{name}: is not there; {fix}") from None
        except Exception as error:  # each file system raises exceptions of its own library
            # The text of the error may contain the URL with its secrets.
            why = type(error).__name__ + ("" if self.secret else f": {error}")
            raise InputError(
                f"{self.shown}/{name}: cannot be read ({why}); check address and credentials. The same "
                f"command again goes on from here"
            ) from None
        # A server that does not support ranges sends the whole file.
        is_whole = start is not None and stop is not None and len(data) > stop - start
        return bytes(data[start:] if is_whole else data)


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
            mininterval=0.1 if sys.stderr.isatty() else 10,  # seconds; fewer lines in a log file
            disable=not shards,
        ) as bar,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        try:
            for _ in pool.map(lambda shard: _fetch_shard(source, shard, folder, bar.update, stop), shards):
                pass
        except BaseException:
            stop.set()  # otherwise the other threads would fetch their shards to the end
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
    if found != shard.sha256 and kept:  # a loss of power may have damaged the part that was kept
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
    """Continues a file from its byte `kept`; returns the SHA-256 of the whole file."""
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
    """Removes data sets that no process reads, least recently used first, until the missing shards fit."""
    home = folder.parent
    sizes = {path: _size(path) for path in home.iterdir() if path.is_dir()}
    parts = sum(path.stat().st_size for path in folder.glob(".*.part"))
    need = sum(shard.bytes for shard in missing) - parts

    def room() -> int:
        free = shutil.disk_usage(home).free
        return min(free, limit - sum(sizes.values())) if limit else free

    others = sorted((path for path in sizes if path != folder), key=_last_use)
    if room() + sum(sizes[path] for path in others) >= need:  # otherwise removing would not help
        for path in others:
            if room() >= need:
                return
            if _removed(path):
                del sizes[path]
    if room() < need:
        most = f"--cache_limit_mb={limit >> 20}" if limit else "the disk"
        raise InputError(
            f"{shown}: {need / 1e6:,.1f} MB are to be fetched, and {most} leaves {max(0, room()) / 1e6:,.1f} "
            f"MB in {home} beside the data sets in use; make room, give a larger --cache_limit_mb or "
            f"another --cache_dir"
        )


def _removed(folder: Path) -> bool:
    """Removes a data set, unless a process reads it; returns whether it did."""
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
