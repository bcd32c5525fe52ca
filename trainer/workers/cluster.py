"""Reads and checks TF_CONFIG: the workers of a training by rank, and the rank of this process."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tfrecords.errors import InputError
from trainer.config import TrainConfig

# Flags that may differ between the workers of a run, as their machines need it.
_OWN_TO_A_WORKER: Final = frozenset(
    {
        *("data", "data_url", "data_service", "run_dir", "cache", "cache_dir", "ram_budget", "tuned"),
        *("fold_of", "devices", "prefetch", "parallel_reads", "threads", "threads_per_process"),
        *("keep", "checkpoint_steps", "checkpoint_minutes", "max_minutes", "log_steps", "profile_steps"),
    }
)

_EXAMPLE: Final = (
    '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": "worker", "index": 0}}'
)
_FIX: Final = (
    f"let python -m launch.local or launch.worker set it, or set it on every machine, with its own index, "
    f"as\n  TF_CONFIG='{_EXAMPLE}'"
)
_TRAINING_JOBS: Final = ("chief", "worker")  # in the order of ranks


@dataclass(frozen=True)
class Cluster:
    """The processes that train together.

    Attributes:
        names: the name of each by rank, as TF_CONFIG has it: "worker 1".
        addresses: (host, port) of each by rank.
        rank: of this process; 0 is the chief, the only one that writes.
    """

    names: tuple[str, ...]
    addresses: tuple[tuple[str, int], ...]
    rank: int

    @property
    def chief(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def describe(self, rank: int) -> str:
        """Returns a worker's name with its address, as `worker 1 (host1:12345)`."""
        host, port = self.addresses[rank]
        return f"{self.names[rank]} ({host}:{port})"


ALONE: Final = Cluster(("this process",), (("localhost", 0),), 0)


def cluster_of(strategy: str, environment: Mapping[str, str] = os.environ) -> Cluster:
    """Returns the cluster of TF_CONFIG for --strategy=multi_worker, and this process alone for the others.

    Raises:
        InputError: TF_CONFIG is missing, or cannot be used.
    """
    if strategy != "multi_worker":
        return ALONE
    text = environment.get("TF_CONFIG", "")
    if not text:
        raise InputError(f"--strategy=multi_worker: the variable TF_CONFIG is not set; {_FIX}")
    try:
        value = json.loads(text)
        jobs, kind, index = _jobs(value["cluster"]), value["task"]["type"], _index(value["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, ValueError) else repr(error)
        raise InputError(f"TF_CONFIG={text!r} cannot be used ({why}); {_FIX}") from None
    if other := sorted(jobs.keys() - set(_TRAINING_JOBS)):
        raise InputError(
            f"TF_CONFIG: has the jobs {', '.join(map(repr, other))}; only chief and worker are allowed: "
            f"all processes train, without parameter servers and evaluators; {_FIX}"
        )
    if kind not in jobs:
        raise InputError(
            f"TF_CONFIG: the type of this task is {kind!r}, but the cluster has "
            f"{', '.join(map(repr, jobs))}; {_FIX}"
        )
    if not 0 <= index < len(jobs[kind]):
        raise InputError(
            f"TF_CONFIG: this task has the index {index}, but the cluster has {len(jobs[kind])} such tasks, "
            f"counted from 0; {_FIX}"
        )
    if len(jobs.get("chief", ())) > 1:
        raise InputError(f"TF_CONFIG: has {len(jobs['chief'])} chiefs; one is allowed; {_FIX}")
    tasks = [(job, number) for job in _TRAINING_JOBS for number in range(len(jobs.get(job, ())))]
    addresses = tuple(jobs[job][number] for job, number in tasks)
    if twice := sorted({address for address in addresses if addresses.count(address) > 1}):
        raise InputError(f"TF_CONFIG: {twice[0][0]}:{twice[0][1]} is the address of two workers; {_FIX}")
    names = tuple("chief" if job == "chief" else f"worker {number}" for job, number in tasks)
    return Cluster(names, addresses, tasks.index((kind, index)))


def _jobs(cluster: Any) -> dict[str, list[tuple[str, int]]]:
    return {job: [_address(each) for each in _listed(job, tasks)] for job, tasks in cluster.items() if tasks}


def _listed(job: str, tasks: Any) -> list[Any]:
    if isinstance(tasks, list):
        return tasks
    if isinstance(tasks, dict):  # TensorFlow's form for some tasks of many: {"0": address}
        return [tasks[str(number)] for number in range(len(tasks))]
    raise ValueError(f"{job}: is {tasks!r}, must be a list of HOST:PORT")


def _address(text: Any) -> tuple[str, int]:
    host, colon, port = str(text).rpartition(":")
    if not (isinstance(text, str) and host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} is no HOST:PORT with a port from 1 to 65535")
    return host, int(port)


def _index(value: Any) -> int:
    if isinstance(value, bool) or not str(value).isdecimal():
        raise ValueError(f"the task's index is {value!r}, must be a whole number from 0 on")
    return int(value)


def common_flags(config: TrainConfig) -> dict[str, Any]:
    """Returns the flags that must be the same on all workers, as JSON has them: workers send them so."""
    flags = {name: value for name, value in config.to_json().items() if name not in _OWN_TO_A_WORKER}
    read: dict[str, Any] = json.loads(json.dumps(flags))
    return read
