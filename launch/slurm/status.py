"""Describes the state of a job: from its folder, and from Slurm as long as Slurm knows the job."""

from collections.abc import Sequence
from typing import Final

from launch.command import LaunchError
from launch.slurm.commands import accounting_state, show_job
from launch.slurm.folder import BATCH_LOG, JobFolder, Part

_LAST_LINES: Final = 5
# What Slurm's reasons mean; other reasons are shown as they are.
_REASONS: Final = {
    "BeginTime": "it was requeued; Slurm starts it again after two minutes",
    "Dependency": "it waits for the jobs of --after",
    "DependencyNeverSatisfied": "a job of --after failed",
    "JobHeldUser": "it is held; scontrol release JOB lets it start",
    "Priority": "jobs with a higher priority come first",
    "QOSMaxJobsPerUserLimit": "you have reached the limit of running jobs",
    "Resources": "it waits for free nodes",
}


def describe(folder: JobFolder) -> str:
    """Returns the state of a job in a few lines of text."""
    lines = [f"job {folder.job} ({folder.name})", f"  made by: {folder.made_by}"]
    if folder.current != folder.job:
        lines.append(f"  continues as job {folder.current}")
    try:
        shown = show_job(folder.current)
        lines += _of_slurm(folder.current, shown)
    except LaunchError as error:
        lines.append(f"  Slurm: {error}")
    if len(folder.parts) > 1 or folder.parts[0].index is not None:
        lines += _of_array(folder.parts)
    else:
        lines += _of_part(folder.parts[0], folder.processes)
    lines.append(f"  folder: {folder.path}")
    return "\n".join(lines)


def _of_slurm(job: int, shown: Sequence[dict[str, str]]) -> list[str]:
    if not shown:
        kept = accounting_state(job)
        return [f"  Slurm: {kept}" if kept else "  Slurm: no longer knows the job; it has ended"]
    lines = []
    for each in shown:
        index = each.get("ArrayTaskId")
        text = each.get("JobState", "?")
        reason = each.get("Reason", "")
        if reason not in {"None", ""}:
            text += f" ({_REASONS.get(reason, reason)})"
        if each.get("NodeList") not in {None, "", "(null)"}:
            text += f" on {each['NodeList']}"
        if text.startswith("RUNNING"):
            text += f", {each.get('RunTime', '?')} of {each.get('TimeLimit', '?')}"
        if int(each.get("Restarts", "0") or 0):
            text += f", requeued {each['Restarts']} times"
        lines.append(f"  Slurm: {f'task {index}: ' if index else ''}{text}")
    return lines


def _of_part(part: Part, processes: int) -> list[str]:
    state = part.text("state")
    if not state:
        return [
            f"  script: has not started; if Slurm says that it runs, check that its nodes see {part.folder}, "
            f"and read {BATCH_LOG} there"
        ]
    lines = [f"  script: {state}"]
    if part.starts > 1:
        lines.append(f"  starts: {part.starts}")
    if progress := part.text("progress"):
        lines.append(f"  saved: {progress}")
    ends = part.ends
    if ends:
        codes = ", ".join(f"rank {end['rank']}: {end['code']}" for end in ends[:8])
        more = f" and {len(ends) - 8} more" if len(ends) > 8 else ""
        lines.append(
            f"  ended: {len(ends)} of {processes} tasks (exit codes, in the order of their ends: "
            f"{codes}{more})"
        )
        failed = [end for end in ends if end["code"]]
        if failed:
            first = failed[0]
            lines.append(
                f"  first failure: rank {first['rank']} on {first['host']} {first['how']}; its last lines:"
            )
            lines += [f"    {line}" for line in first["last_lines"][-_LAST_LINES:]]
    return lines


def _of_array(parts: Sequence[Part]) -> list[str]:
    states: dict[str, list[int]] = {}
    for part in parts:
        text = part.text("state") or "not started"
        kind = text.partition(",")[0]
        states.setdefault(kind, []).append(part.index or 0)
    return [f"  {len(indices)} tasks {kind}: {_short(indices)}" for kind, indices in sorted(states.items())]


def _short(indices: Sequence[int]) -> str:
    """Returns indices in short form: 0-4,7."""
    spans: list[list[int]] = []
    for index in sorted(indices):
        if spans and index == spans[-1][1] + 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)
