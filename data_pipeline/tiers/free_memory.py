"""The memory that this process may still take: what the machine has free, or less if a cgroup limits it."""

from pathlib import Path, PurePosixPath
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup")

_LIMITS: Final = (  # of cgroup versions 2 and 1: limit, use, and in memory.stat what can be given back
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(
    cgroup: Path = _CGROUP, meminfo: Path = Path("/proc/meminfo"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """Returns the bytes that this process may still take: what the machine or the cgroup has, if less.

    A limit holds for all groups below it, so the limits of all ancestors count, in both versions.

    Args:
        cgroup: where cgroups are mounted.
        meminfo: the kernel's account of the machine's memory.
        own: the groups of this process.
    """
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) << 10
    left = [_free_in(group) for group in _memory_groups(cgroup, own)]
    return min([free, *(size for size in left if size is not None)])


def _memory_groups(cgroup: Path, own: Path) -> list[Path]:
    """Returns the folders of this process's memory groups and of all their ancestors.

    In a container the path may be that of the host; then only the mounted root exists.
    """
    groups = own.read_text().splitlines() if own.exists() else []
    folders = {cgroup, cgroup / "memory"}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2; "unified" where version 1 is mounted beside it
            roots = [cgroup, cgroup / "unified"]
        elif "memory" in controllers.split(","):
            roots = [cgroup / "memory"]
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        folders |= {root / part for root in roots for part in (inner, *inner.parents)}
    return sorted(folders)


def _free_in(group: Path) -> int | None:
    """Returns the bytes left below the limit of a memory group, None where it has none."""
    for limit_name, used_name, cached in _LIMITS:
        try:
            limit = (group / limit_name).read_text().strip()
            used = int((group / used_name).read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except OSError:  # the other version, the root group, or a group of another process
            continue
        if limit != "max":
            # Cached pages of files read earlier are given back on demand, as MemAvailable assumes too.
            return max(0, int(limit) - used + int(stat[cached]))
    return None
