"""The options of a Job of Kubernetes, checked before Kubernetes sees them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final, Self

from launch.command import LaunchError
from launch.kubernetes.quantity import value_of

LONGEST_LABEL: Final = 63
MOST_NODES: Final = 100_000  # limit of a Job with backoffLimitPerIndex
SHARED_MEMORY: Final = "/dev/shm"
# A Service's name may not start with a digit; a Job's may.
DNS_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_CLAIM: Final = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_MEMORY: Final = re.compile(r"[\d.]+([KMGTPE]i|[kMGTPE])?")
_IMAGE: Final = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_LEAST_MEMORY: Final = 64 * 1024**2
# Variables that tell launch.worker the list of workers.
_OURS: Final = ("TF_CONFIG", "JOB_COMPLETION_INDEX", "LAUNCH_PROCESSES", "LAUNCH_JOB", "LAUNCH_SERVICE")


@dataclass(frozen=True)
class Volume:
    """A volume that is mounted in all pods.

    Attributes:
        source: name of a PersistentVolumeClaim, or an absolute path on the node.
        path: where it is mounted in the pods.
        read_only: whether the pods may not write to it.
    """

    source: str
    path: str
    read_only: bool = False

    @property
    def on_host(self) -> bool:
        """Whether the volume is a folder of the node."""
        return self.source.startswith("/")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the volume that `CLAIM:/path[:ro]` or `/host/path:/path[:ro]` describes.

        Raises:
            LaunchError: the text has another form.
        """
        parts = text.split(":")
        read_only = len(parts) == 3 and parts[2] == "ro"
        if len(parts) != 2 + read_only:
            raise LaunchError(
                f"--volume={text}: must be CLAIM:/path or /host/path:/path, with :ro for read-only"
            )
        source, path = parts[:2]
        for each in (path, *([source] if source.startswith("/") else [])):
            if (
                not each.startswith("/")
                or ".." in each.split("/")
                or PurePosixPath(each) == PurePosixPath("/")
            ):
                raise LaunchError(
                    f"--volume={text}: {each!r} must be an absolute path without '..', and not / itself, as "
                    f"in --volume=images:/data"
                )
        if not source.startswith("/") and (not _CLAIM.fullmatch(source) or len(source) > 253):
            raise LaunchError(
                f"--volume={text}: {source!r} must be the name of a PersistentVolumeClaim (lower-case "
                f"letters, digits, - and .; `kubectl get pvc` lists them) or an absolute path of the node"
            )
        return cls(source, path, read_only)


@dataclass(frozen=True)
class Job:
    """An Indexed Job behind a headless Service; both have the same name.

    Attributes:
        command: what each pod runs, unchanged.
        image: container image of all pods.
        name: name of the Job and of the Service.
        nodes: number of pods, each on its own machine if possible.
        gpus: number of GPUs of each pod.
        cpu: cores that each pod requests, in Kubernetes' notation; None: no request.
        memory: memory that each pod requests, and its limit, in Kubernetes' notation; None: neither.
        namespace: namespace of the Job; None leaves it to kubectl.
        volumes: volumes mounted in all pods.
        environment: NAME, VALUE pairs for the command.
        max_restarts: restarts of each pod after it was lost.
    """

    command: tuple[str, ...]
    image: str
    name: str
    nodes: int = 1
    gpus: int = 0
    cpu: str | None = None
    memory: str | None = None
    namespace: str | None = None
    volumes: tuple[Volume, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    max_restarts: int = 3

    def __post_init__(self) -> None:
        _check_image(self.image)
        for flag, number, least, most in (
            ("nodes", self.nodes, 1, MOST_NODES),
            ("gpus", self.gpus, 0, 1024),
            ("max_restarts", self.max_restarts, 0, 2**31 - 1),
        ):
            if not least <= number <= most:
                raise LaunchError(f"--{flag}={number}: must be from {least:,} to {most:,}")
        _check_label("name", self.name, longest_name(self.nodes), f"--nodes={self.nodes}")
        if self.namespace is not None:
            _check_label("namespace", self.namespace, LONGEST_LABEL)
        if self.cpu is not None:
            _check_cpu(self.cpu)
        if self.memory is not None:
            _check_memory(self.memory)
        self._check_volumes()
        self._check_environment()
        for number, word in enumerate(self.command):
            _check_text(f"word {number} of the command", word)

    def _check_volumes(self) -> None:
        taken = {SHARED_MEMORY} if self.gpus else set()
        for volume in self.volumes:
            _check_text("--volume", volume.source + volume.path)
            path = str(PurePosixPath(volume.path))
            if path in taken:
                why = "is used for shared memory of NCCL" if path == SHARED_MEMORY else "is given twice"
                raise LaunchError(
                    f"--volume={volume.source}:{volume.path}: {path} {why}; choose another path"
                )
            taken.add(path)

    def _check_environment(self) -> None:
        taken: set[str] = set()
        for name, value in self.environment:
            _check_text(f"--env={name}", value)
            if name in _OURS:
                raise LaunchError(
                    f"--env={name}={value}: leave it out; Kubernetes, this command and launch.worker set "
                    f"{name}, which differs between the pods or follows from --nodes and --name"
                )
            if name in taken:
                raise LaunchError(f"--env={name}={value}: {name} is given twice; leave one of them out")
            taken.add(name)


def default_name(command: Sequence[str], nodes: int) -> str:
    """Returns a name for a Job from its command: `python -m trainer.main` gives trainer-main."""
    program = PurePosixPath(command[0]).name
    if program.startswith("python"):
        program = _run_by_python(command[1:]) or program
    name = re.sub(r"[^a-z0-9]+", "-", program.lower()).strip("-")
    if not name[:1].isalpha():
        name = f"job-{name}"
    return name[: longest_name(nodes)].strip("-")


def longest_name(nodes: int) -> int:
    """Returns the greatest length of a name, so that the host name NAME-INDEX fits for every index."""
    return LONGEST_LABEL - len(f"-{max(nodes, 1) - 1}")


def _run_by_python(arguments: Sequence[str]) -> str:
    """Returns the module or the script that an interpreter runs; empty if it runs neither."""
    for word, after in pairwise([*arguments, ""]):
        if word == "-m":
            return after
        if not word.startswith("-"):
            return PurePosixPath(word).stem
        if word == "-c":
            break
    return ""


def _check_image(image: str) -> None:
    if not _IMAGE.fullmatch(image):
        raise LaunchError(
            f"--image={image}: {'must be' if image else 'is required; it must be'} the name of an image that "
            f"the nodes can pull, as --image=registry.example.com/team/shardlight:0.1.0; BUILD.md says how "
            f"to build one"
        )


def _check_label(flag: str, text: str, longest: int, because: str = "") -> None:
    if not DNS_LABEL.fullmatch(text):
        raise LaunchError(
            f"--{flag}={text}: must be lower-case letters, digits and -, start with a letter and end with a "
            f"letter or a digit, as in --{flag}=chest-xray"
        )
    if len(text) > longest:
        with_index = f", so that NAME-INDEX has at most {LONGEST_LABEL} with {because}" if because else ""
        raise LaunchError(
            f"--{flag}={text}: has {len(text)} characters; at most {longest} are allowed{with_index}"
        )


def _check_cpu(cpu: str) -> None:
    value = value_of(cpu)
    if not value or not re.fullmatch(r"[\d.]+m?", cpu) or value * 1000 % 1:
        raise LaunchError(f"--cpu={cpu}: must be cores, as 8, 0.5 or 500m, and at least 1m")


def _check_memory(memory: str) -> None:
    value = value_of(memory)
    allowed = "it must be a number of bytes with Mi, Gi or Ti (powers of 1024) or M, G or T (of 1000)"
    if value is None or not _MEMORY.fullmatch(memory):
        better = re.sub(r"(?i)([kmgtpe])i?b?$", lambda match: f"{match[1].upper()}i", memory)
        likely = f", as in --memory={better if _MEMORY.fullmatch(better) else '16Gi'}"
        raise LaunchError(f"--memory={memory}: is invalid; {allowed}{likely}")
    if value < _LEAST_MEMORY:
        raise LaunchError(f"--memory={memory}: is {value:,} bytes, less than 64Mi; {allowed}")


def _check_text(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LaunchError(
            f"{what}: {text!r} is not UTF-8, and Kubernetes accepts no other text; change it"
        ) from None
