"""Ends a job for good: its tasks save and leave, and its script does not go on."""

from launch.slurm.asking import must, remembered
from launch.slurm.folder import JobFolder

_GOES_ON = {
    "CONFIGURING",
    "COMPLETING",
    "PENDING",
    "REQUEUED",
    "RESIZING",
    "RUNNING",
    "SIGNALING",
    "STAGE_OUT",
    "SUSPENDED",
}


def cancel(folder: JobFolder) -> str:
    """Cancels a job and returns what was done.

    Raises:
        LaunchError: Slurm does not answer.
    """
    number = folder.current
    alive = [each for each in remembered(number) if each.get("JobState", "") in _GOES_ON]
    if not alive:
        return f"job {number} has ended already: python -m launch.slurm status {folder.job}"
    must(["scancel", str(number)], f"job {number} cannot be cancelled")
    return (
        f"job {number} is cancelled: its tasks are told to save, and have as long as the site allows "
        f"(KillWait); the same command again goes on from there"
    )
