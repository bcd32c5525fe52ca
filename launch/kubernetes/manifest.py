"""Makes a headless Service and an Indexed Job from the options of a job; pure functions."""

from typing import Any, Final

from launch.exits import BAD_INPUT, BUG, NOT_FINITE, STOPPED
from launch.kubernetes.options import SHARED_MEMORY, Job, Volume
from launch.kubernetes.yaml_text import in_comment, render

LABEL: Final = "app.kubernetes.io/instance"
GRACE_SECONDS: Final = 120
USER_ID: Final = 1000  # the user of the Dockerfile
GPU: Final = "nvidia.com/gpu"
_SHARED_MEMORY_VOLUME: Final = "shared-memory"
_POD: Final = "spec.template.spec"
_SERVICE_COMMENTS: Final = {
    "spec.clusterIP": "Each pod gets its own name, NAME-INDEX.NAME; there is no load balancing.",
    "spec.publishNotReadyAddresses": "The pods look for each other before any of them is ready.",
}
_JOB_COMMENTS: Final = {
    "spec.completions": "All pods train together, so completions and parallelism are equal.",
    "spec.backoffLimitPerIndex": (
        "Restarts of each pod. One limit for all pods would be used up at once: if one pod is lost, all\n"
        "others end with code 76 and are started again."
    ),
    "spec.maxFailedIndexes": "A training cannot continue after one pod has failed for good.",
    "spec.podReplacementPolicy": "A new pod starts after the old one has ended, so no rank exists twice.",
    "spec.podFailurePolicy": "The first rule that matches decides; any other end counts as a restart.",
    "spec.podFailurePolicy.rules[0].onPodConditions": "Preempted, drained or evicted: not the pod's fault.",
    "spec.podFailurePolicy.rules[1].onExitCodes": f"{STOPPED}: stopped, saved; the same command continues.",
    "spec.podFailurePolicy.rules[2].onExitCodes": (
        f"{BUG}: a bug. {BAD_INPUT}: bad input. {NOT_FINITE}: the loss is not finite. Another start would\n"
        "end the same way."
    ),
    f"{_POD}.subdomain": "The name of the Service, which gives the pods their names.",
    f"{_POD}.terminationGracePeriodSeconds": "Seconds from SIGTERM to SIGKILL: time to save.",
    f"{_POD}.shareProcessNamespace": (
        "The kernel ignores SIGTERM for process number 1 until it has a handler. With this line the command\n"
        "gets another number."
    ),
    f"{_POD}.securityContext.fsGroup": "Group of the files in volumes, so that the command can write.",
    f"{_POD}.securityContext.fsGroupChangePolicy": "Saves a look at every file of the volume at each start.",
    f"{_POD}.containers[0].command": "No shell: words are passed on unchanged. Kubernetes reads $$ as $.",
}
_SPREAD_COMMENT: Final = "Each pod on its own machine, if there are enough machines."
_GPU_COMMENT: Final = "GPU machines often refuse pods that request no GPU."


def render_job(job: Job, made_by: str) -> str:
    """Returns both documents as one YAML text; the command that made it stands at the top.

    Args:
        job: the job to render.
        made_by: the command line that made it.
    """
    service, indexed = documents(job)
    comments = _JOB_COMMENTS | {
        f"{_POD}.{key}": comment
        for key, comment in (("topologySpreadConstraints", _SPREAD_COMMENT), ("tolerations", _GPU_COMMENT))
        if key in indexed["spec"]["template"]["spec"]
    }
    return "".join(
        (
            in_comment(
                f"Made by:\n  {made_by}\nNeeds Kubernetes 1.29 or newer. Explained in docs/launching.md."
            ),
            render(service, _SERVICE_COMMENTS),
            "---\n",
            render(indexed, comments),
        )
    )


def documents(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the Service and the Job."""
    labels = {LABEL: job.name}
    place = {"namespace": job.namespace} if job.namespace else {}
    metadata = {"name": job.name, **place, "labels": labels}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels},
    }
    indexed = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": job.nodes,
            "parallelism": job.nodes,
            "backoffLimitPerIndex": job.max_restarts,
            "maxFailedIndexes": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {"metadata": {"labels": labels}, "spec": _pod(job)},
        },
    }
    return service, indexed


def literal(text: str) -> str:
    """Returns a text in which Kubernetes replaces nothing, so that the container gets the original text.

    In a command and in values of the environment Kubernetes replaces $(NAME) by a variable and $$ by $.
    Source: https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
    """
    return text.replace("$", "$$")


def _failure_rules() -> list[dict[str, Any]]:
    def ended_with(*codes: int) -> dict[str, Any]:
        return {"operator": "In", "values": list(codes)}

    return [
        # Kubernetes 1.30 to 1.33 refuse a condition without its status.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": ended_with(STOPPED)},
        {"action": "FailJob", "onExitCodes": ended_with(BUG, BAD_INPUT, NOT_FINITE)},
    ]


def _pod(job: Job) -> dict[str, Any]:
    labels = {LABEL: job.name}
    names = [f"volume-{number}" for number in range(len(job.volumes))]
    mounts = [_mount(name, volume) for name, volume in zip(names, job.volumes, strict=True)]
    volumes = [_volume(name, volume) for name, volume in zip(names, job.volumes, strict=True)]
    if job.gpus:  # NCCL needs more than a container's default of 64 MB
        mounts.append({"name": _SHARED_MEMORY_VOLUME, "mountPath": SHARED_MEMORY})
        volumes.append({"name": _SHARED_MEMORY_VOLUME, "emptyDir": {"medium": "Memory"}})
    container = {
        "name": "worker",
        "image": job.image,
        "command": ["python", "-m", "launch.worker", "--", *map(literal, job.command)],
        "env": _environment(job),
        **_resources(job),
        **({"volumeMounts": mounts} if mounts else {}),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "subdomain": job.name,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "shareProcessNamespace": True,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if job.nodes > 1:
        spread = {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
        }
        pod["topologySpreadConstraints"] = [spread | {"labelSelector": {"matchLabels": labels}}]
    if job.gpus:
        pod["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return pod | {"containers": [container]} | ({"volumes": volumes} if volumes else {})


def _environment(job: Job) -> list[dict[str, str]]:
    ours = {
        "LAUNCH_PROCESSES": str(job.nodes),
        "LAUNCH_JOB": job.name,
        "LAUNCH_SERVICE": job.name,
        "PYTHONUNBUFFERED": "1",
    }
    theirs = {name: literal(value) for name, value in job.environment}
    return [{"name": name, "value": value} for name, value in (ours | theirs).items()]


def _resources(job: Job) -> dict[str, Any]:
    """Returns what a pod asks for; cores have no limit, for one would slow the pod while cores are idle."""
    memory = {"memory": job.memory} if job.memory else {}
    requests = ({"cpu": job.cpu} if job.cpu else {}) | memory
    limits = memory | ({GPU: str(job.gpus)} if job.gpus else {})
    found = ({"requests": requests} if requests else {}) | ({"limits": limits} if limits else {})
    return {"resources": found} if found else {}


def _mount(name: str, volume: Volume) -> dict[str, Any]:
    return {"name": name, "mountPath": volume.path} | ({"readOnly": True} if volume.read_only else {})


def _volume(name: str, volume: Volume) -> dict[str, Any]:
    if volume.on_host:
        return {"name": name, "hostPath": {"path": volume.source}}
    return {"name": name, "persistentVolumeClaim": {"claimName": volume.source}}
