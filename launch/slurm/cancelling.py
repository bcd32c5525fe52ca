"""Ends a job for good: its tasks save and end, and its script does not continue."""

from launch.slurm.commands import ENDED_STATES, show_job, slurm_output
from launch.slurm.folder import JobFolder


def cancel(folder: JobFolder) -> str:
    """Cancels a job and returns a sentence that says what was done.

    Raises:
        LaunchError: Slurm does not answer.
    """
    number = folder.current
    if all(each.get("JobState") in ENDED_STATES for each in show_job(number)):
        return f"job {number} has ended already: python -m launch.slurm status {folder.job}"
    slurm_output(["scancel", str(number)], f"job {number} cannot be cancelled")
    return (
        f"job {number} is cancelled: its tasks are told to save, and have as much time as the site allows "
        f"(KillWait); the same command continues from there"
    )
