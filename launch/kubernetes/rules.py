"""Checks rules for a Service and a Job that no schema has: a job that breaks one hangs or trains wrongly.

A schema knows the names and types of fields. It accepts a completionMode in the wrong case, a quantity of
4GB, or a volume that is not declared, and it does not know that a Service and a Job belong together. An API
server would refuse most of what is refused here. It would accept the rest, and the pods would wait for each
other for ever.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from launch.exits import PEER_LOST, STOPPED
from launch.kubernetes.options import DNS_LABEL, LONGEST_LABEL
from launch.kubernetes.quantity import value_of

POD: Final = "spec.template.spec"
_ACTIONS: Final = ("Ignore", "Count", "FailIndex", "FailJob")


def violations(documents: Sequence[Any]) -> list[str]:
    """Returns the broken rules of a Service and a Job, each with its field, its value and the fix.

    Args:
        documents: the two documents, as a YAML reader returns them.
    """
    kinds = [document.get("kind") if isinstance(document, Mapping) else None for document in documents]
    if sorted(map(str, kinds)) != ["Job", "Service"]:
        there = ", ".join(map(str, kinds)) or "nothing"
        return [f"kind: is {there}; there must be two documents, one Service and one Job"]
    service, job = (Document(documents[kinds.index(kind)], kind) for kind in ("Service", "Job"))
    return [
        message
        for found in (_names(service, job), _service(service, job), _indices(job), _failures(job))
        for message in found
    ] + [message for found in (_containers(job), _who(job, service), _volumes(job)) for message in found]


class Document:
    """A document with fields that are read by their path; a missing field is None."""

    def __init__(self, values: Mapping[str, Any], kind: str) -> None:
        self._values, self._kind = values, kind

    def __getitem__(self, path: str) -> Any:
        value: Any = self._values
        for key in re.findall(r"[^.\[\]]+", path):
            if isinstance(value, Mapping):
                value = value.get(key)
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        return value

    def mapping(self, path: str) -> Mapping[str, Any]:
        """Returns the mapping in a field; empty if there is none."""
        value = self[path]
        return value if isinstance(value, Mapping) else {}

    def paths(self, path: str) -> list[str]:
        """Returns the paths of all items of a list."""
        value = self[path]
        return [f"{path}[{number}]" for number in range(len(value))] if isinstance(value, list) else []

    def wrong(self, path: str, must: str) -> str:
        """Returns a message: the field, its value, and what it must be."""
        value = self[path]
        is_now = "is missing" if value is None else f"is {value!r}"
        return f"{self._kind} {path}: {is_now}; {must}"

    def must_be(self, path: str, value: Any, why: str) -> Iterator[str]:
        """Yields a message if a field has another value or another type."""
        there = self[path]
        if there != value or isinstance(there, bool) != isinstance(value, bool):
            fix = "leave it out" if value is None else f"set it to {value!r}"
            yield self.wrong(path, f"{fix}: {why}")


def _names(service: Document, job: Document) -> Iterator[str]:
    count = job["spec.completions"]
    last = count - 1 if _is_count(count) and count else 0
    for document, path, longest, why in (
        (service, "metadata.name", LONGEST_LABEL, ""),
        (job, "metadata.name", LONGEST_LABEL - len(f"-{last}"), f", so that NAME-{last} is a host name"),
        (job, f"{POD}.subdomain", LONGEST_LABEL, ""),
    ):
        name = document[path]
        if not isinstance(name, str) or not DNS_LABEL.fullmatch(name) or len(name) > longest:
            yield document.wrong(
                path,
                f"write lower-case letters, digits and -, from a letter to a letter or digit, at most "
                f"{longest} characters{why}",
            )
    yield from job.must_be(f"{POD}.subdomain", service["metadata.name"], "the Service names the pods")
    yield from job.must_be("metadata.namespace", service["metadata.namespace"], "that of the Service")


def _service(service: Document, job: Document) -> Iterator[str]:
    yield from service.must_be("spec.clusterIP", "None", "only a headless Service names each pod")
    yield from service.must_be(
        "spec.publishNotReadyAddresses", True, "the pods must find each other before they are ready"
    )
    labels, selector = job.mapping("spec.template.metadata.labels"), service.mapping("spec.selector")
    if not selector or any(labels.get(key) != value for key, value in selector.items()):
        yield service.wrong("spec.selector", f"it must be a subset of the labels of the pods, {dict(labels)}")
    for document, path in (
        (service, "metadata.labels"),
        (job, "metadata.labels"),
        (job, "spec.template.metadata.labels"),
    ):
        for key, value in document.mapping(path).items():
            if not re.fullmatch(r"|[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", str(value), re.ASCII):
                yield document.wrong(path, f"{key} may have {LONGEST_LABEL} letters, digits, -, _ and .")


def _indices(job: Document) -> Iterator[str]:
    yield from job.must_be(
        "spec.completionMode", "Indexed", "each pod needs its rank; mind the capital letter"
    )
    if job["spec.completionMode"] == "NonIndexed" and job["spec.backoffLimitPerIndex"] is not None:
        yield job.wrong("spec.backoffLimitPerIndex", "leave it out, or set spec.completionMode to 'Indexed'")
    count = job["spec.completions"]
    if not _is_count(count) or not count:
        yield job.wrong("spec.completions", "set it to the number of pods, 1 or more")
    yield from job.must_be(
        "spec.parallelism", count, "all pods train together, so it equals spec.completions"
    )
    if not _is_count(job["spec.backoffLimitPerIndex"]):
        yield job.wrong("spec.backoffLimitPerIndex", "set it to how often a pod may be restarted, 0 or more")
    yield from job.must_be("spec.maxFailedIndexes", 0, "a training that lacks a pod cannot go on")
    yield from job.must_be("spec.podReplacementPolicy", "Failed", "otherwise a rank exists twice for a while")
    yield from job.must_be(f"{POD}.restartPolicy", "Never", "spec.podFailurePolicy needs it")


def _failures(job: Document) -> Iterator[str]:
    rules = job.paths("spec.podFailurePolicy.rules")
    if not rules:
        yield job.wrong("spec.podFailurePolicy.rules", "write them as --dry_run prints them")
        return
    if (job[f"{rules[0]}.action"], job[f"{rules[0]}.onPodConditions[0].type"]) != (
        "Ignore",
        "DisruptionTarget",
    ):
        yield job.wrong(
            rules[0],
            "make Ignore of the condition DisruptionTarget the first rule: the first rule that matches "
            "decides",
        )
    again: set[int] = {STOPPED, PEER_LOST}  # codes that no rule has matched yet
    for rule in rules:
        if job[f"{rule}.action"] not in _ACTIONS:
            yield job.wrong(f"{rule}.action", f"it must be one of {', '.join(_ACTIONS)}")
        for condition in job.paths(f"{rule}.onPodConditions"):
            if job[f"{condition}.status"] not in ("True", "False", "Unknown"):
                yield job.wrong(f"{condition}.status", "set it to 'True', in quotes")
        if job[f"{rule}.onExitCodes"] is not None:
            yield from _exit_codes(job, rule)
            codes = {code for code in again if code in _listed(job[f"{rule}.onExitCodes.values"])}
            if job[f"{rule}.action"] != "Ignore" and codes:
                yield job.wrong(
                    f"{rule}.onExitCodes.values",
                    f"leave out {sorted(codes)}: pods with these codes must start again",
                )
            again -= codes
    if STOPPED in again:
        yield job.wrong(
            "spec.podFailurePolicy.rules",
            f"add a rule that ignores {STOPPED} (stopped and saved): otherwise each stop counts as a restart",
        )


def _exit_codes(job: Document, rule: str) -> Iterator[str]:
    codes = _listed(job[f"{rule}.onExitCodes.values"])
    if not codes or not all(_is_count(code) and 1 <= code <= 255 for code in codes):
        yield job.wrong(f"{rule}.onExitCodes.values", "write exit codes from 1 to 255; 0 is no failure")
    elif sorted(set(codes)) != codes:
        yield job.wrong(f"{rule}.onExitCodes.values", "write each code once, in ascending order")
    if job[f"{rule}.onExitCodes.operator"] != "In":
        yield job.wrong(f"{rule}.onExitCodes.operator", "set it to 'In'")


def _containers(job: Document) -> Iterator[str]:
    containers = job.paths(f"{POD}.containers")
    if len(containers) != 1:
        yield job.wrong(f"{POD}.containers", "write exactly one container, which runs launch.worker")
    for container in containers:
        if not job[f"{container}.image"]:
            yield job.wrong(f"{container}.image", "write the name of an image")
        command = job[f"{container}.command"]
        if (
            not isinstance(command, list)
            or command[:4] != ["python", "-m", "launch.worker", "--"]
            or not command[4:]
        ):
            yield job.wrong(
                f"{container}.command",
                "write a list of words: 'python', '-m', 'launch.worker', '--', then the command",
            )
        for kind in ("requests", "limits"):
            for name, quantity in job.mapping(f"{container}.resources.{kind}").items():
                value = value_of(quantity)
                if value is None or value < 0:
                    yield (
                        f"Job {container}.resources.{kind}.{name}: is {quantity!r}; write a quantity, as 4Gi "
                        f"of memory, 8 or 500m cores"
                    )


def _who(job: Document, service: Document) -> Iterator[str]:
    """Checks the variables that tell each pod the list of workers."""
    for container in job.paths(f"{POD}.containers")[:1]:
        names = [job[f"{path}.name"] for path in job.paths(f"{container}.env")]
        for name, value in (
            ("LAUNCH_PROCESSES", str(job["spec.completions"])),
            ("LAUNCH_JOB", job["metadata.name"]),
            ("LAUNCH_SERVICE", service["metadata.name"]),
        ):
            if names.count(name) != 1:
                yield f"Job {container}.env: has {name} {names.count(name)} times; add it once, as {value!r}"
                continue
            yield from job.must_be(
                f"{container}.env[{names.index(name)}].value",
                value,
                f"{name} must agree with the rest, and be a text",
            )
        if "TF_CONFIG" in names:
            yield f"Job {container}.env: has TF_CONFIG; leave it out: launch.worker gives each pod its own"


def _volumes(job: Document) -> Iterator[str]:
    volumes = job.paths(f"{POD}.volumes")
    names = [job[f"{volume}.name"] for volume in volumes]
    for volume, name in zip(volumes, names, strict=True):
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            yield job.wrong(
                f"{volume}.name", f"write at most {LONGEST_LABEL} lower-case letters, digits and -"
            )
        elif names.count(name) > 1:
            yield job.wrong(f"{volume}.name", "give each volume a name of its own")
        if len(job.mapping(volume)) != 2:
            yield job.wrong(volume, "write a name and one source, as persistentVolumeClaim")
    for container in job.paths(f"{POD}.containers"):
        mounts = job.paths(f"{container}.volumeMounts")
        taken = [job[f"{mount}.mountPath"] for mount in mounts]
        for mount, path in zip(mounts, taken, strict=True):
            if job[f"{mount}.name"] not in names:
                declared = ", ".join(map(str, names)) or "there is none"
                yield job.wrong(f"{mount}.name", f"declare it in {POD}.volumes ({declared})")
            if not isinstance(path, str) or not path.startswith("/") or ":" in path:
                yield job.wrong(f"{mount}.mountPath", "write an absolute path without a colon")
            elif taken.count(path) > 1:
                yield job.wrong(f"{mount}.mountPath", "give each volume a path of its own")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
