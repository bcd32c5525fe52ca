"""Makes TF_CONFIG from hosts and ranks; pure functions."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from launch.command import LaunchError

# Linux uses ports from 32768 for outgoing connections; these are below.
FIRST_PORT: Final = 10000
LAST_PORT: Final = 32767
DEFAULT_PORT: Final = 12345
LONGEST_VARIABLE: Final = 131072  # bytes of NAME=VALUE with its final 0, MAX_ARG_STRLEN of Linux
_REPEATED: Final = re.compile(r"(\d+)(?:\(x(\d+)\))?")


@dataclass(frozen=True)
class Place:
    """One of the processes that train together.

    Attributes:
        addresses: HOST:PORT of each process, in the order of ranks.
        rank: rank of this process, from 0.
    """

    addresses: tuple[str, ...]
    rank: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < len(self.addresses):
            raise LaunchError(
                f"rank {self.rank}: must be from 0 to {len(self.addresses) - 1}, because there are "
                f"{len(self.addresses)} processes"
            )

    @property
    def tf_config(self) -> str:
        """The value of the environment variable TF_CONFIG, which TensorFlow reads.

        Raises:
            LaunchError: it is longer than Linux allows for one variable.
        """
        task = {"type": "worker", "index": self.rank}
        text = json.dumps({"cluster": {"worker": self.addresses}, "task": task}, separators=(",", ":"))
        if len("TF_CONFIG=") + len(text) >= LONGEST_VARIABLE:
            raise LaunchError(
                f"{len(self.addresses)} processes: their addresses take {len(text)} bytes in TF_CONFIG, and "
                f"Linux limits a variable to {LONGEST_VARIABLE} bytes; start one process on each machine, "
                f"which trains on all of its GPUs"
            )
        return text

    @property
    def hosts(self) -> list[str]:
        """The names of all machines, each once, in the order of ranks."""
        return list(dict.fromkeys(address.rpartition(":")[0].strip("[]") for address in self.addresses))

    def renamed(self, names: Mapping[str, str]) -> Self:
        """Returns the same place with other names for some hosts.

        Args:
            names: {name of a host: its new name}.
        """
        parts = [address.rpartition(":") for address in self.addresses]
        return replace(self, addresses=tuple(f"{names.get(host, host)}:{port}" for host, _, port in parts))

    @classmethod
    def in_slurm(cls, environment: Mapping[str, str]) -> Self:
        """Returns the place of a task of a Slurm job step.

        Several nodes may share one address, so each task gets its own port, counted by rank.

        Raises:
            LaunchError: a variable is missing, or its value is invalid.
        """
        count, rank = (_number(environment, name) for name in ("SLURM_NTASKS", "SLURM_PROCID"))
        nodes = expand_nodes(_of_step(environment, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"))
        tasks = tasks_per_node(_of_step(environment, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"))
        if len(nodes) != len(tasks) or sum(tasks) != count:
            raise LaunchError(
                f"Slurm's environment contradicts itself: it lists {len(nodes)} nodes, tasks for "
                f"{len(tasks)} nodes, {sum(tasks)} tasks in all, and SLURM_NTASKS={count}; start this with "
                f"srun, and set no SLURM_ variable yourself"
            )
        base = base_port(_number(environment, "SLURM_JOB_ID"), count)
        hosts = [node for node, times in zip(nodes, tasks, strict=True) for _ in range(times)]
        return cls(tuple(f"{host}:{base + number}" for number, host in enumerate(hosts)), rank)

    @classmethod
    def in_kubernetes(cls, environment: Mapping[str, str], port: int = DEFAULT_PORT) -> Self:
        """Returns the place of a pod of an Indexed Job behind a headless Service.

        Raises:
            LaunchError: a variable is missing, or its value is invalid.
        """
        rank = _number(environment, "JOB_COMPLETION_INDEX")
        count = _number(environment, "LAUNCH_PROCESSES")
        name, service = (_text(environment, each) for each in ("LAUNCH_JOB", "LAUNCH_SERVICE"))
        return cls(tuple(f"{name}-{number}.{service}:{port}" for number in range(count)), rank)

    @classmethod
    def in_hosts(cls, lines: Sequence[str], rank: int, port: int = DEFAULT_PORT) -> Self:
        """Returns the place of a rank in a list of hosts, one a line: `HOST`, `HOST:PORT` or `HOST slots=N`.

        A # starts a comment. Hosts without a port use `port`; further processes of the same host use the
        ports after it.

        Raises:
            LaunchError: a line has another form, or there is no host.
        """
        addresses: list[str] = []
        taken: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            slots = [word.removeprefix("slots=") for word in words[1:]]
            host, colon, own = words[0].rpartition(":") if _has_port(words[0]) else (words[0], "", "")
            if len(slots) > 1 or not all(slot.isdecimal() and int(slot) for slot in slots):
                raise LaunchError(
                    f"line {number} of the hosts: {line.strip()!r} must be HOST, HOST:PORT or HOST slots=N"
                )
            for _ in range(int(slots[0]) if slots else 1):
                at = taken.get(words[0], 0)
                taken[words[0]] = at + 1
                addresses.append(f"{host}:{(int(own) if colon else port) + at}")
        if not addresses:
            raise LaunchError("the list of hosts is empty; write one host a line")
        return cls(tuple(addresses), rank)


def expand_nodes(text: str) -> list[str]:
    """Returns the nodes of a Slurm node list such as `rack[0-1]n[08-10,3],login`, in the same order.

    Raises:
        LaunchError: the text is not a node list.
    """
    nodes: list[str] = []
    for part in _split_outside_brackets(text):
        pieces = re.split(r"\[([^\[\]]*)\]", part)
        names = [""]
        for number, piece in enumerate(pieces):
            choices = _ranges(piece, text) if number % 2 else [piece]
            names = [name + choice for name in names for choice in choices]
        if not part or any(set(name) & set("[]") for name in names):
            raise LaunchError(f"node list {text!r}: is invalid; it must be as rack[0-1]n[08-10,3],login")
        nodes += names
    return nodes


def tasks_per_node(text: str) -> list[int]:
    """Returns the number of tasks of each node from Slurm's short form: `2(x3),1` is 2, 2, 2, 1.

    Raises:
        LaunchError: the text has another form.
    """
    counts: list[int] = []
    for part in text.split(","):
        match = _REPEATED.fullmatch(part.strip())
        if not match:
            raise LaunchError(f"tasks per node {text!r}: is invalid; it must be as 2(x3),1")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def base_port(job: int, count: int) -> int:
    """Returns the first of `count` ports of a job; two jobs on one node seldom get the same ports.

    Raises:
        LaunchError: there are fewer ports than processes.
    """
    room = LAST_PORT - FIRST_PORT + 2 - count
    if room < 1:
        raise LaunchError(
            f"{count} processes: each needs its own port, and there are {LAST_PORT - FIRST_PORT + 1}; start "
            f"fewer processes"
        )
    return FIRST_PORT + job * count % room


def shares(items: Sequence[str], count: int) -> list[list[str]]:
    """Returns shares of the items, as even as possible and in order; too few items are given out in turn."""
    if len(items) < count:
        return [[items[number % len(items)]] if items else [] for number in range(count)]
    ends = [len(items) * number // count for number in range(count + 1)]
    return [list(items[ends[number] : ends[number + 1]]) for number in range(count)]


def _split_outside_brackets(text: str) -> list[str]:
    return re.split(r",(?![^\[]*\])", text.strip())


def _ranges(text: str, whole: str) -> list[str]:
    found: list[str] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise LaunchError(f"node list {whole!r}: [{text}] is invalid; it must be as [2,08-10]")
        found += [f"{n:0{len(first)}d}" for n in range(int(first), int(last or first) + 1)]
    return found


def _has_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return port.isdecimal() and bool(host) and (":" not in host or host.endswith("]"))


def _of_step(environment: Mapping[str, str], *names: str) -> str:
    for name in names:
        if environment.get(name):
            return environment[name]
    raise LaunchError(f"Slurm's environment has no {' and no '.join(names)}; start this with srun")


def _number(environment: Mapping[str, str], name: str) -> int:
    text = _text(environment, name)
    if not text.isdecimal():
        raise LaunchError(f"{name}={text}: must be a whole number")
    return int(text)


def _text(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise LaunchError(f"the environment has no {name}")
    return environment[name]
