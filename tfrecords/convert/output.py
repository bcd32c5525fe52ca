"""The output folder of a conversion: what is in it, what of that is kept, and what is removed."""

import json
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tfrecords.convert.changed import STAT_NAME, SourceFiles
from tfrecords.convert.locks import is_lock
from tfrecords.convert.shards import RESULT_SUFFIX, ShardJob
from tfrecords.duplicates.table import DUPLICATES_NAME
from tfrecords.errors import InputError
from tfrecords.files.atomic import create_atomically, write_atomically
from tfrecords.interop.index import INDEX_FOLDER, INDEX_SUFFIX
from tfrecords.interop.tfds import TFDS_NAMES
from tfrecords.manifest import MANIFEST_NAME, PIPELINE_NAME, SOURCES_NAME, Manifest
from tfrecords.sources.rejection import REJECTED_NAME

PLAN_NAME: Final = "plan.json"  # exists during a conversion: the plan that its shards are of
_SHOWN: Final = 10  # changed images that are named


def prepare(
    out: Path, plan: dict[str, Any], jobs: Sequence[ShardJob], sources: SourceFiles, *, overwrite: bool
) -> bool:
    """Prepares the output folder for this plan; returns whether the conversion is complete already.

    Raises:
        InputError: the folder holds something else, or a conversion of sources that have changed since, or it
            cannot be written.
    """
    try:
        found = [name for name in _names_in(out) if not is_lock(name)]
    except OSError as error:
        raise InputError(f"--out={out}: cannot be read: {error.strerror}") from None
    existing = _read_plan(out)
    leftovers = [name for name in found if is_ours(name) and name.endswith(".tmp")]
    if existing is None and len(leftovers) < len(found):
        raise InputError(
            f"--out={out}: is not empty ({', '.join(found[:3])}{', ...' * (len(found) > 3)}) and holds "
            f"no conversion; choose a new or empty folder"
        )
    if existing is not None and _continues(out, existing, plan, jobs, sources, overwrite=overwrite):
        _remove(out, leftovers)
        if MANIFEST_NAME in found:
            remove_progress_files(out)
            return True
    else:
        old = [name for name in found if is_ours(name) and name not in (PLAN_NAME, *leftovers)]
        if old and not overwrite:
            raise InputError(
                f"--out={out}: holds a conversion of other images or with other options; choose another "
                f"--out, or replace it with --overwrite"
            )
        if old:  # after a kill from here on, the folder holds no data set, but is known as a conversion's
            write_atomically(out / PLAN_NAME, b'{"plan": "being replaced"}')
        _remove(out, [MANIFEST_NAME, *old, *leftovers])
    write_atomically(out / PLAN_NAME, json.dumps(plan).encode())
    return False


def join(
    out: Path, plan: dict[str, Any], jobs: Sequence[ShardJob], sources: SourceFiles, task: tuple[int, int]
) -> bool:
    """Prepares the output folder for one task of a plan; returns whether the conversion is complete already.

    The first task writes the plan, and all others must have the same one. Only files of this task are
    changed, because other tasks run at the same time.

    Args:
        out: the folder.
        plan: content of plan.json.
        jobs: the shards of this task.
        sources: the source files of all tasks.
        task: (I, N).

    Raises:
        InputError: the folder holds something else, an image has changed since the first task began, or the
            folder cannot be written.
    """
    number, tasks = task
    try:
        found = [name for name in _names_in(out) if not is_lock(name)]
    except OSError as error:
        raise InputError(f"--out={out}: cannot be read: {error.strerror}") from None
    existing = _read_plan(out)
    leftovers = [name for name in found if is_ours(name) and name.endswith(".tmp")]
    if existing is None:
        if len(leftovers) < len(found):
            raise InputError(
                f"--out={out}: is not empty ({', '.join(found[:3])}{', ...' * (len(found) > 3)}) and holds "
                f"no conversion; choose a new or empty folder"
            )
        existing = _write_first_plan(out, plan | {"tasks": tasks}, number)
    if MANIFEST_NAME in found and existing["plan"] == plan["plan"]:
        Manifest.load(out)
        own = {image.source for job in jobs for image in job.images}
        if changed := sources.changed_since(out, existing, own):
            raise sources.refuse(out, changed)
        return True
    if MANIFEST_NAME in found or existing.get("layout") != plan["layout"]:
        raise InputError(
            f"--out={out}: holds a conversion of other images or with other options; choose another --out; "
            f"all tasks of a plan need the same images and options"
        )
    if existing.get("tasks", tasks) != tasks:
        raise InputError(
            f"--task={number}/{tasks}: {out} is written by {existing['tasks']} tasks; give the same number, "
            f"or finish it on one machine with the same command without --task"
        )
    if any(existing.get(name) != plan[name] for name in ("sizes", "mtimes")):
        raise InputError(
            f"--task={number}/{tasks}: images have other sizes or modification times than for the first "
            f"task. If each machine has its own copy, it must keep them (cp -p). If images were repaired, "
            f"run the command with --finish when no task runs: it removes their shards and names the tasks "
            f"to repeat"
        )
    mine = tuple(f".{job.name}." for job in jobs)
    _remove(out, [name for name in leftovers if name.startswith(mine)])
    return False


def tasks_of(out: Path) -> int | None:
    """Returns how many tasks write the conversion in a folder; None: it is not written by tasks."""
    return (_read_plan(out) or {}).get("tasks")


def _write_first_plan(out: Path, plan: dict[str, Any], number: int) -> dict[str, Any]:
    """Writes plan.json unless another task has written it, and returns its content."""
    # Task numbers tell the writers apart: by their locks, one process runs a task.
    create_atomically(out / PLAN_NAME, json.dumps(plan).encode(), writer=number)
    return _read_plan(out) or {}


def _continues(
    out: Path,
    existing: dict[str, Any],
    plan: dict[str, Any],
    jobs: Sequence[ShardJob],
    sources: SourceFiles,
    *,
    overwrite: bool,
) -> bool:
    """Returns whether the content of the folder is kept; removes shards of images that have changed since."""
    if (out / MANIFEST_NAME).exists():
        try:
            if existing["plan"] == plan["plan"]:
                Manifest.load(out)
        except InputError:
            if not overwrite:
                raise
            return False
        return _is_kept(out, existing, plan, sources, overwrite=overwrite)
    if existing.get("layout") != plan["layout"]:
        return False
    stale = _changed_shards(out, existing, plan, jobs, sources)
    _remove(out, [name + suffix for name in stale for suffix in ("", RESULT_SUFFIX)])
    _remove(out, [name for name in _names_in(out) if is_ours(name) and name.endswith(INDEX_SUFFIX)])
    return True


def _is_kept(
    out: Path, existing: dict[str, Any], plan: dict[str, Any], sources: SourceFiles, *, overwrite: bool
) -> bool:
    """Returns whether a finished conversion is kept: it has this plan, and the sources have not changed."""
    changed = sources.changed_since(out, existing)
    if changed and not overwrite:
        raise sources.refuse(out, changed)
    if changed or existing["plan"] != plan["plan"]:
        return False
    if changed is None and sources.check and not overwrite:
        raise sources.refuse_unknown(out)
    return changed is not None or not overwrite


def _changed_shards(
    out: Path,
    existing: dict[str, Any],
    plan: dict[str, Any],
    jobs: Sequence[ShardJob],
    sources: SourceFiles,
) -> list[str]:
    """Returns the shards with an image that has changed since the plan was made, and prints their number.

    An image counts as changed if its size or modification time is different. If only its change time or inode
    is, its content is compared.
    """
    before = zip(existing["sizes"], existing.get("mtimes", plan["mtimes"]), strict=True)
    now = zip(plan["sizes"], plan["mtimes"], strict=True)
    changed = {source for source, (a, b) in enumerate(zip(before, now, strict=True)) if a != b}
    changed |= sources.changed_under_way(out, existing, jobs, changed)
    if not changed:
        return []
    named = sorted(image.id for job in jobs for image in job.images if image.source in changed)
    stale = [job.name for job in jobs if any(image.source in changed for image in job.images)]
    print(
        f"{len(named)} image{'s'[: len(named) != 1]} changed since the conversion began: "
        f"{', '.join(named[:_SHOWN])}{', ...' * (len(named) > _SHOWN)}; {len(stale)} "
        f"shard{'s'[: len(stale) != 1]} with {'them' if len(named) > 1 else 'it'} "
        f"{'are' if len(stale) > 1 else 'is'} written anew",
        file=sys.stderr,
    )
    return stale


def remove_progress_files(out: Path) -> None:
    """Removes the files that only an unfinished conversion needs: the plan and the results of shards.

    Raises:
        InputError: a file cannot be removed.
    """
    _remove(out, [path.name for path in out.glob(f"*{RESULT_SUFFIX}") if is_ours(path.name)])
    _remove(out, [PLAN_NAME])


def _names_in(out: Path) -> list[str]:
    """Returns the sorted names of all files in the folder, those in its index folder as `index/NAME`."""
    folder = out / INDEX_FOLDER
    inside = list(folder.iterdir()) if folder.is_dir() else []
    return sorted(
        path.relative_to(out).as_posix() for path in [*out.iterdir(), *inside] if path != folder or not inside
    )


def _remove(out: Path, names: list[str]) -> None:
    for name in names:
        try:
            (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{out / name}: cannot be removed: {error.strerror}") from None
    with suppress(OSError):  # there is no such folder, or it holds other files
        (out / INDEX_FOLDER).rmdir()


def _read_plan(out: Path) -> dict[str, Any] | None:
    """Returns the plan of the conversion in a folder, finished or not; None: there is none."""
    for name in (MANIFEST_NAME, PLAN_NAME):
        try:
            content = json.loads((out / name).read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and "plan" in content else None
    return None


def is_ours(name: str) -> bool:
    """Returns whether a file name is one that conversions write; temporary names count too."""
    known = (
        MANIFEST_NAME, PLAN_NAME, SOURCES_NAME, STAT_NAME, REJECTED_NAME, DUPLICATES_NAME, PIPELINE_NAME,
        *TFDS_NAMES,
    )  # fmt: skip
    in_index = name.startswith(f"{INDEX_FOLDER}/")
    kind = re.escape(INDEX_SUFFIX) if in_index else f"({re.escape(RESULT_SUFFIX)})?"
    return bool(re.search(rf"\.tfrecord-\d{{5}}-of-\d{{5}}{kind}(\.\d+\.tmp)?$", name)) or any(
        re.fullmatch(rf"{re.escape(k)}|\.{re.escape(k)}\.\d+\.tmp", name) for k in known
    )
