r"""Starts a command as a Job of Kubernetes, in one pod or in many that train together.

    python -m launch.kubernetes --image=IMAGE --nodes=2 --gpus=1 --memory=32Gi --volume=datasets:/data \
        -- python -m trainer.main --strategy=multi_worker --data=/data/chest_xray --run_dir=/data/runs/a
    python -m launch.kubernetes --image=IMAGE --dry_run -- COMMAND > job.yaml     only prints the manifest

A headless Service gives each pod a name, and an Indexed Job gives it a rank. In each pod `launch.worker`
makes TF_CONFIG from these and runs the command. A pod that ends with code 75 (stopped and saved), or that
Kubernetes evicts, is started again; this does not count as a restart. A pod that is lost is started again
up to --max_restarts times. A pod that ends with 1, 2 or 77 ends the job. Everything after the first `--` is
the command; it is passed on unchanged, and no shell reads it. Kubernetes 1.29 or newer is needed.
"""

import shlex
import sys

from absl import flags

from launch.command import parse_environment, run
from launch.kubernetes.apply import submit
from launch.kubernetes.options import MOST_NODES, Job, Volume, default_name

_IMAGE = flags.DEFINE_string(
    "image",
    "",
    "Container image of all pods, by the name under which the nodes pull it, as "
    "registry.example.com/team/shardlight:0.1.0. This flag is required. BUILD.md says how to build an image.",
)
_NAME = flags.DEFINE_string(
    "name",
    None,
    "Name of the Job and of its Service, in lower-case letters, digits and -. Default: the name of the "
    "command, as trainer-main for python -m trainer.main.",
)
_NODES = flags.DEFINE_integer(
    "nodes", 1, "Number of pods that run the command, each on its own machine if possible.", 1, MOST_NODES
)
_GPUS = flags.DEFINE_integer(
    "gpus",
    0,
    "Number of NVIDIA GPUs of each pod (nvidia.com/gpu). A pod with GPUs gets /dev/shm in memory, for NCCL.",
    lower_bound=0,
)
_CPU = flags.DEFINE_string(
    "cpu",
    None,
    "CPU cores that each pod requests: 8 is eight cores, 500m is half a core. A pod may use more cores while "
    "they are idle. Default: no request.",
)
_MEMORY = flags.DEFINE_string(
    "memory",
    None,
    "Memory that each pod requests, and its limit: 16Gi is 16 GiB. A pod that uses more is killed. Default: "
    "no request and no limit.",
)
_NAMESPACE = flags.DEFINE_string(
    "namespace", None, "Namespace of the Job. Default: the namespace of kubectl's current context."
)
_VOLUME = flags.DEFINE_multi_string(
    "volume",
    [],
    "Mounts a volume at /path in every pod. CLAIM:/path mounts a PersistentVolumeClaim; with several nodes "
    "it must allow ReadWriteMany. /host/path:/path mounts a folder of the node; user 1000 must be able to "
    "write there, and many clusters forbid it. :ro at the end makes the volume read-only",
)
_ENV = flags.DEFINE_multi_string(
    "env",
    [],
    "NAME=VALUE: sets a variable in the environment of the command. Everybody who can read the manifest can "
    "read the value, so give no password",
)
_MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts",
    3,
    "How many times each pod is started again after it was lost. A pod is lost if a signal ended it, or if "
    "it reports by exit code 76 that another one was lost.",
    lower_bound=0,
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Prints the manifest, one YAML file with two documents, and starts nothing."
)


def main(command: list[str]) -> int:
    """Turns the flags into a job and submits it."""
    job = Job(
        command=tuple(command),
        image=_IMAGE.value,
        name=_NAME.value if _NAME.value is not None else default_name(command, _NODES.value),
        nodes=_NODES.value,
        gpus=_GPUS.value,
        cpu=_CPU.value,
        memory=_MEMORY.value,
        namespace=_NAMESPACE.value,
        volumes=tuple(map(Volume.parse, _VOLUME.value)),
        environment=parse_environment(_ENV.value),
        max_restarts=_MAX_RESTARTS.value,
    )
    made_by = shlex.join(["python", "-m", "launch.kubernetes", *sys.argv[1:]])
    return submit(job, made_by, dry_run=_DRY_RUN.value)


if __name__ == "__main__":
    run(main)
