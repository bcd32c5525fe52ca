"""Finds the source files that have changed since they were converted.

A file is unchanged while its size, modification time, change time and inode are. If one of them differs, the
content is compared with the digest in `sources.stat`, the record of the sources beside the manifest. So a
copied or touched image counts as unchanged. A replaced one is found, even if it has the same size and its
modification time was set back, because programs cannot set the change time.

The record holds numbers of sources, not names. If there is a key, the digests are keyed with it.
"""

import hashlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tfrecords.convert.shards import DIGEST_BYTES, RESULT_SUFFIX, ShardJob, ShardResult, file_digest
from tfrecords.errors import InputError
from tfrecords.files.atomic import replace_atomically, write_atomically
from tfrecords.manifest import Manifest
from tfrecords.sources.listing import Listing
from tfrecords.sources.privacy import GroupKey

STAT_NAME: Final = "sources.stat"
_STATUS: Final = {"size": "sizes", "mtime": "mtimes", "ctime": "ctimes", "inode": "inodes"}  # in plan.json
_ROW: Final = np.dtype([*((name, "<u8") for name in _STATUS), ("digest", "u1", (DIGEST_BYTES,))])
_SHOWN: Final = 10  # changed images named in an error
_READERS: Final = 8  # threads
_TASK: Final = 64  # files per task of a thread
_LONG: Final = 1000  # files from which on there is a progress bar

Rows = npt.NDArray[Any]  # of _ROW, [sources]


@dataclass(frozen=True)
class SourceFiles:
    """The source files of a conversion in their present state.

    Attributes:
        listing: the sources.
        plan: content of plan.json.
        key: the key of the digests, if there is one.
        check: whether every file is read, also those that look unchanged.
    """

    listing: Listing
    plan: Mapping[str, Any]
    key: GroupKey | None
    check: bool

    def changed(
        self, record: bytes | None, existing: Mapping[str, Any], own: Collection[int] | None = None
    ) -> tuple[list[int] | None, bytes | None]:
        """Compares the files with those of a finished conversion.

        Args:
            record: content of its sources.stat; None: there is no such file.
            existing: content of its manifest.json.
            own: numbers of the sources to compare; None: all.

        Returns:
            the numbers of the sources with changed content; None if the record is missing, or is of another
            data set or other options. And an updated record, if a file's status has changed but no content;
            else None.
        """
        before = _parse(record, existing)
        if before is None or before[0] != self.plan["layout"] or len(before[1]) != len(self.plan["sizes"]):
            return None, None
        old, now = before[1], self._rows()
        touched = np.zeros(len(now), bool) | self.check
        for name in _STATUS:
            touched |= old[name] != now[name]
        if own is not None:
            touched &= np.isin(np.arange(len(now)), list(own))
        now["digest"] = old["digest"]
        other = touched & (old["size"] != now["size"])
        unsure = np.flatnonzero(touched & ~other).tolist()
        for number, digest in zip(unsure, self._digests(unsure), strict=True):
            now["digest"][number] = np.frombuffer(self._keyed(digest), np.uint8)
        other |= (old["digest"] != now["digest"]).any(1)
        is_stale = touched.any() and not other.any() and own is None and (now != old).any()
        return np.flatnonzero(other).tolist(), self._rendered(now, existing["sha256"]) if is_stale else None

    def changed_since(
        self, out: Path, existing: Mapping[str, Any], own: Collection[int] | None = None
    ) -> list[int] | None:
        """Does what `changed` does for an output folder, and updates its record."""
        path = out / STAT_NAME
        changed, updated = self.changed(path.read_bytes() if path.is_file() else None, existing, own)
        if updated is not None:
            with suppress(OSError):  # then the next call compares again
                replace_atomically(path, updated)
        return changed

    def changed_under_way(
        self, out: Path, existing: Mapping[str, Any], jobs: Sequence[ShardJob], known: Collection[int]
    ) -> set[int]:
        """Returns the sources of finished shards that have changed, without those already known.

        Only files are read whose change time or inode differs from the plan, for example copies for several
        machines.

        Args:
            out: folder of an unfinished conversion.
            existing: content of its plan.json.
            jobs: all shards of the plan.
            known: numbers of the sources whose size or modification time has changed.
        """
        names = [_STATUS[name] for name in ("ctime", "inode")]
        now = zip(*(self.plan[name] for name in names), strict=True)
        before = zip(*(existing.get(name, self.plan[name]) for name in names), strict=True)
        touched = {n for n, (a, b) in enumerate(zip(before, now, strict=True)) if a != b or self.check}
        touched -= set(known)
        read: dict[int, str] = {}
        for job in jobs if touched else ():
            own = [(place, i.source) for place, i in enumerate(job.images) if i.source in touched]
            digests = _digests_in_result(out, job) if own else []
            read |= {source: digests[place] for place, source in own if place < len(digests)}
        numbers = sorted(read)
        found = zip(numbers, self._digests(numbers), strict=True)
        return {number for number, digest in found if digest.hex() != read[number]}

    def keep(
        self, out: Path, manifest: Manifest, jobs: Sequence[ShardJob], results: Sequence[ShardResult]
    ) -> None:
        """Writes sources.stat; files that were read for no shard are read now.

        Args:
            out: folder of the data set.
            manifest: of the data set, as it will be saved.
            jobs: all shards of the plan.
            results: of each shard.

        Raises:
            InputError: it cannot be written.
        """
        rows = self._rows()
        known = np.zeros(len(rows), bool)
        for job, result in zip(jobs, results, strict=True):
            for image, digest in zip(job.images, result.digests, strict=True):
                rows["digest"][image.source] = np.frombuffer(self._keyed(bytes.fromhex(digest)), np.uint8)
                known[image.source] = True
        missing = np.flatnonzero(~known).tolist()
        for number, data in zip(missing, self._digests(missing), strict=True):
            rows["digest"][number] = np.frombuffer(self._keyed(data), np.uint8)
        write_atomically(out / STAT_NAME, self._rendered(rows, manifest.sha256))

    def refuse(self, out: Path | str, changed: Sequence[int]) -> InputError:
        """Returns the error for a conversion whose sources have changed since."""
        named = ", ".join(self.listing.sources[number].shown for number in changed[:_SHOWN])
        one = len(changed) == 1
        return InputError(
            f"--out={out}: holds a conversion of these images, but {len(changed)} of "
            f"{len(self.listing.sources)} {'has' if one else 'have'} changed since: "
            f"{named}{', ...' * (len(changed) > _SHOWN)}; restore {'it' if one else 'them'}, choose another "
            f"--out, or give --overwrite to write all shards anew"
        )

    def refuse_unknown(self, out: Path | str) -> InputError:
        """Returns the error for a check without a record of the sources."""
        return InputError(
            f"--check_sources: {out} has no record of its sources ({STAT_NAME}), so they cannot be compared; "
            f"leave the flag out, or convert again with --overwrite, which makes a record"
        )

    def _rows(self) -> Rows:
        rows = np.zeros(len(self.listing.sources), _ROW)
        for name, plural in _STATUS.items():
            rows[name] = np.array(self.plan[plural], np.int64).view(np.uint64)
        return rows

    def _rendered(self, rows: Rows, manifest: str) -> bytes:
        data = rows.tobytes()
        head = {
            "manifest": manifest,
            "layout": self.plan["layout"],
            "row": [*(f"{name} uint64" for name in _STATUS), f"digest {DIGEST_BYTES} bytes"],
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        return json.dumps(head).encode() + b"\n" + data

    def _keyed(self, digest: bytes) -> bytes:
        if self.key is None or not any(digest):
            return digest
        key = hashlib.blake2b(self.key.secret, person=b"content").digest()
        return hashlib.blake2b(digest, key=key, digest_size=DIGEST_BYTES).digest()

    def _digests(self, numbers: Sequence[int]) -> list[bytes]:
        """Returns the digest of each file, zeros if it cannot be read; reads several at once."""
        paths = [f"{self.listing.root}/{self.listing.sources[number].path}" for number in numbers]
        tasks = [paths[start : start + _TASK] for start in range(0, len(paths), _TASK)]
        is_terminal = sys.stderr.isatty()
        bar = tqdm(
            total=len(paths),
            unit=" images",
            desc="comparing",
            mininterval=0.1 if is_terminal else 10,
            disable=len(paths) < _LONG,
        )
        found: list[bytes] = []
        pool = ThreadPoolExecutor(_READERS)
        try:
            for part in pool.map(_digests, tasks):
                found += part
                bar.update(len(part))
        finally:
            bar.close()
            pool.shutdown(wait=False, cancel_futures=True)
        return found


def rebind_record(out: Path, before: Manifest, after: Manifest) -> None:
    """Makes the record of the sources valid for a manifest that is about to replace another.

    It stays valid for the old manifest, so that nothing is lost if the process is killed between the two.

    Raises:
        InputError: the record cannot be written.
    """
    path = out / STAT_NAME
    if path.is_file() and (record := rebound_record(path.read_bytes(), before, after)) is not None:
        write_atomically(path, record)


def rebound_record(record: bytes, before: Manifest, after: Manifest) -> bytes | None:
    """Returns a record that is valid for two manifests; None if it is not valid for the first."""
    if _parse(record, {"sha256": before.sha256}) is None:
        return None
    head, _, data = record.partition(b"\n")
    manifests = {"manifest": after.sha256, "manifest_before": before.sha256}
    return json.dumps({**json.loads(head), **manifests}).encode() + b"\n" + data


def record_notes(out: Path, manifest: Manifest) -> tuple[str, ...]:
    """Returns a note, if a finished conversion has no record of its sources."""
    path = out / STAT_NAME
    if _parse(path.read_bytes() if path.is_file() else None, {"sha256": manifest.sha256}) is not None:
        return ()
    return (no_record_note(),)


def no_record_note() -> str:
    """Returns the note about a missing record of the sources."""
    return (
        f"there is no record of the sources ({STAT_NAME}), so only their sizes were compared; --overwrite "
        f"converts again and makes a record"
    )


def _parse(record: bytes | None, existing: Mapping[str, Any]) -> tuple[str, Rows] | None:
    """Returns the layout and the rows of a record; None: it is missing, damaged, or of another data set."""
    head, _, data = (record or b"").partition(b"\n")
    try:
        values = json.loads(head)
        manifests = (values["manifest"], values.get("manifest_before"))
        if existing["sha256"] not in manifests or values["sha256"] != hashlib.sha256(data).hexdigest():
            return None
        return str(values["layout"]), np.frombuffer(data, _ROW)
    except (ValueError, KeyError, TypeError):
        return None


def _digests_in_result(out: Path, job: ShardJob) -> list[str]:
    """Returns the digests in the result of a shard; []: there is no such result."""
    try:
        return list(json.loads((out / (job.name + RESULT_SUFFIX)).read_bytes())["digests"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _digests(paths: Sequence[str]) -> list[bytes]:
    found = []
    for path in paths:
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - a Path takes as long
                found.append(file_digest(file.read()))
        except OSError:
            found.append(bytes(DIGEST_BYTES))
    return found
