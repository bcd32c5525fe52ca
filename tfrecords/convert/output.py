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

PLAN_NAME: Final = "plan.json"  # there while a conversion is under way: whose shards these are
_SHOWN: Final = 10  # changed images that are named


def prepare(
    out: Path, plan: dict[str, Any], jobs: Sequence[ShardJob], sources: SourceFiles, *, overwrite: bool
) -> bool:
    """Makes the output folder ready for this plan; returns whether it is complete already.

    Raises:
        InputError: the folder holds something else, or what was made of sources that have changed since, or
            it cannot be written.
    """
    try:
        found = [name for name in _names_in(out) if not is_lock(name)]
    except OSError as error:
        raise InputError(f"--out={out}: cannot be read: {error.strerror}") from None
    there = _plan_in(out)
    leftovers = [name for name in found if is_ours(name) and name.endswith(".tmp")]
    if there is None and len(leftovers) < len(found):
        raise InputError(
            f"--out={out}: is not empty ({', '.join(found[:3])}{', ...' * (len(found) > 3)}) and holds "
            f"no conversion; choose a new or empty folder"
        )
    if there is not None and _goes_on(out, there, plan, jobs, sources, overwrite=overwrite):
        _remove(out, leftovers)
        if MANIFEST_NAME in found:
            remove_journal(out)
            return True
    else:
        old = [name for name in found if is_ours(name) and name not in (PLAN_NAME, *leftovers)]
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


def join(
    out: Path, plan: dict[str, Any], jobs: Sequence[ShardJob], sources: SourceFiles, task: tuple[int, int]
) -> bool:
    """Makes the output folder ready for one of the tasks of a plan; returns whether it is complete already.

    The first task to come leaves the plan, and every other one must have the same. Only what belongs to
    this task is touched, for the others are at work.

    Args:
        out: the folder.
        plan: content of plan.json.
        jobs: of this task.
        sources: of all tasks.
        task: (I, N).

    Raises:
        InputError: the folder holds something else, an image changed since the first task came, or the
            folder cannot be written.
    """
    number, tasks = task
    try:
        found = [name for name in _names_in(out) if not is_lock(name)]
    except OSError as error:
        raise InputError(f"--out={out}: cannot be read: {error.strerror}") from None
    there = _plan_in(out)
    leftovers = [name for name in found if is_ours(name) and name.endswith(".tmp")]
    if there is None:
        if len(leftovers) < len(found):
            raise InputError(
                f"--out={out}: is not empty ({', '.join(found[:3])}{', ...' * (len(found) > 3)}) and holds "
                f"no conversion; choose a new or empty folder"
            )
        there = _leave_plan(out, plan | {"tasks": tasks}, number)
    if MANIFEST_NAME in found and there["plan"] == plan["plan"]:
        Manifest.load(out)
        own = {image.source for job in jobs for image in job.images}
        if changed := sources.changed_since(out, there, own):
            raise sources.refuse(out, changed)
        return True
    if MANIFEST_NAME in found or there.get("layout") != plan["layout"]:
        raise InputError(
            f"--out={out}: holds a conversion of other images or with other options; choose another --out; "
            f"all tasks of a plan need the same images and options"
        )
    if there.get("tasks", tasks) != tasks:
        raise InputError(
            f"--task={number}/{tasks}: the plan in {out} is written by {there['tasks']} tasks; take the same "
            f"number, or finish it on one machine with the same command without --task"
        )
    if any(there.get(name) != plan[name] for name in ("sizes", "mtimes")):
        raise InputError(
            f"--task={number}/{tasks}: images have other sizes or modification times than when the first "
            f"task came; a copy for each machine must keep them (cp -p), and after a repair of images run "
            f"--finish when no task is at work: it drops their shards and names the tasks to run again"
        )
    mine = tuple(f".{job.name}." for job in jobs)
    _remove(out, [name for name in leftovers if name.startswith(mine)])
    return False


def tasks_of(out: Path) -> int | None:
    """Returns how many tasks write the plan in a folder, or None where none do."""
    return (_plan_in(out) or {}).get("tasks")


def _leave_plan(out: Path, plan: dict[str, Any], number: int) -> dict[str, Any]:
    """Writes plan.json unless another task was first, and returns what is there."""
    # Task numbers tell the writers apart: by their locks, one process runs a task.
    create_atomically(out / PLAN_NAME, json.dumps(plan).encode(), writer=number)
    return _plan_in(out) or {}


def _goes_on(
    out: Path,
    there: dict[str, Any],
    plan: dict[str, Any],
    jobs: Sequence[ShardJob],
    sources: SourceFiles,
    *,
    overwrite: bool,
) -> bool:
    """Returns whether what the folder holds is kept; drops shards of images that were changed since."""
    if (out / MANIFEST_NAME).exists():
        try:
            if there["plan"] == plan["plan"]:
                Manifest.load(out)
        except InputError:
            if not overwrite:
                raise
            return False
        return _is_of(out, there, plan, sources, overwrite=overwrite)
    if there.get("layout") != plan["layout"]:
        return False
    stale = _stale(out, there, plan, jobs, sources)
    _remove(out, [name + suffix for name in stale for suffix in ("", RESULT_SUFFIX)])
    _remove(out, [name for name in _names_in(out) if is_ours(name) and name.endswith(INDEX_SUFFIX)])
    return True


def _is_of(
    out: Path, there: dict[str, Any], plan: dict[str, Any], sources: SourceFiles, *, overwrite: bool
) -> bool:
    """Returns whether a finished conversion is of this plan and of what the sources are now."""
    changed = sources.changed_since(out, there)
    if changed and not overwrite:
        raise sources.refuse(out, changed)
    if changed or there["plan"] != plan["plan"]:
        return False
    if changed is None and sources.check and not overwrite:
        raise sources.refuse_unknown(out)
    return changed is not None or not overwrite


def _stale(
    out: Path,
    there: dict[str, Any],
    plan: dict[str, Any],
    jobs: Sequence[ShardJob],
    sources: SourceFiles,
) -> list[str]:
    """Returns the shards with an image that is not what it was when the plan was made, and says so.

    An image is taken for changed if its size or its modification time differs; if only its change time or
    its inode does, its content decides.
    """
    before = zip(there["sizes"], there.get("mtimes", plan["mtimes"]), strict=True)
    now = zip(plan["sizes"], plan["mtimes"], strict=True)
    changed = {source for source, (a, b) in enumerate(zip(before, now, strict=True)) if a != b}
    changed |= sources.changed_under_way(out, there, jobs, changed)
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


def remove_journal(out: Path) -> None:
    """Removes what only an unfinished conversion needs: the plan and what each shard's work found.

    Raises:
        InputError: a file cannot be removed.
    """
    _remove(out, [path.name for path in out.glob(f"*{RESULT_SUFFIX}") if is_ours(path.name)])
    _remove(out, [PLAN_NAME])


def _names_in(out: Path) -> list[str]:
    """Returns the sorted names of all in the folder; of what is in the index folder, `index/NAME`."""
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
    with suppress(OSError):  # there are none, or something of another's is in it
        (out / INDEX_FOLDER).rmdir()


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


def is_ours(name: str) -> bool:
    """Returns whether a file name is one that conversions write, temporary ones too."""
    known = (
        MANIFEST_NAME, PLAN_NAME, SOURCES_NAME, STAT_NAME, REJECTED_NAME, DUPLICATES_NAME, PIPELINE_NAME,
        *TFDS_NAMES,
    )  # fmt: skip
    in_index = name.startswith(f"{INDEX_FOLDER}/")
    kind = re.escape(INDEX_SUFFIX) if in_index else f"({re.escape(RESULT_SUFFIX)})?"
    return bool(re.search(rf"\.tfrecord-\d{{5}}-of-\d{{5}}{kind}(\.\d+\.tmp)?$", name)) or any(
        re.fullmatch(rf"{re.escape(k)}|\.{re.escape(k)}\.\d+\.tmp", name) for k in known
    )
