"""Divides the GPUs of a machine among its processes."""

import shutil
import subprocess
from collections.abc import Mapping

from launch.cluster import shares
from launch.command import LaunchError


def divided_gpus(count: int, each: int | None, environment: Mapping[str, str]) -> tuple[str | None, ...]:
    """Returns CUDA_VISIBLE_DEVICES of each process; None leaves the variable unchanged.

    Args:
        count: number of processes.
        each: GPUs of each process; None divides all of them evenly.
        environment: where CUDA_VISIBLE_DEVICES may be set already.

    Raises:
        LaunchError: there are too few GPUs.
    """
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if each is None and given is not None:
        return (None,) * count
    gpus = [name for name in given.split(",") if name] if given is not None else _gpus()
    if each is None:
        return tuple(",".join(share) for share in shares(gpus, count)) if gpus else (None,) * count
    if each * count > len(gpus):
        raise LaunchError(
            f"--devices_per_process={each}: {count} processes need {each * count} GPUs, and there are "
            f"{len(gpus)}; start fewer processes, or give each fewer GPUs"
        )
    return tuple(",".join(gpus[rank * each : (rank + 1) * each]) for rank in range(count))


def _gpus() -> list[str]:
    """Returns the indices of this machine's GPUs, in the order of the driver."""
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))]
