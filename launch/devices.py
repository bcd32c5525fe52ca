"""The GPUs of a machine, divided among the processes on it."""

import shutil
import subprocess
from collections.abc import Mapping

from launch.cluster import shares
from launch.command import LaunchError


def divided_gpus(count: int, each: int | None, environment: Mapping[str, str]) -> tuple[str | None, ...]:
    """Returns CUDA_VISIBLE_DEVICES of each process; None leaves it as it is.

    Raises:
        LaunchError: there are not so many GPUs.
    """
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if each is None and given is not None:
        return (None,) * count
    gpus = [name for name in given.split(",") if name] if given is not None else _gpus()
    if each is None:
        return tuple(",".join(share) for share in shares(gpus, count)) if gpus else (None,) * count
    if each * count > len(gpus):
        raise LaunchError(
            f"--devices_per_process={each}: {count} processes need {each * count} GPUs; there are {len(gpus)}"
        )
    return tuple(",".join(gpus[rank * each : (rank + 1) * each]) for rank in range(count))


def _gpus() -> list[str]:
    """Returns the indices of this machine's GPUs, as its driver counts them."""
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))]
