r"""Starts a command as a Job of Kubernetes, one pod or many that train together, and shows what to type next.

    python -m launch.kubernetes --image=IMAGE --nodes=2 --gpus=1 --memory=32Gi --volume=datasets:/data \
        -- python -m trainer.main --strategy=multi_worker --data=/data/chest_xray --run_dir=/data/runs/a
    python -m launch.kubernetes --image=IMAGE --dry_run -- COMMAND > job.yaml     prints the manifest alone

A headless Service gives each pod a name and an Indexed Job gives it its rank; in each pod `launch.worker`
makes TF_CONFIG of them and runs the command. A pod that leaves with code 75 (stopped and saved), or that
Kubernetes evicts, is started again and does not count. One that is lost is started again up to --max_restarts
times. One that leaves with 1, 2 or 77 ends the job. Everything after the first `--` is the command,
untouched: no shell reads it. Kubernetes 1.29 or newer is needed.
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
    "Image that all pods run, as the nodes pull it: registry.example.com/team/shardlight:0.1.0. It must be "
    "given. The Dockerfile makes one.",
)
_NAME = flags.DEFINE_string(
    "name",
    None,
    "Name of the Job and of its Service: lower-case letters, digits and -. Default: made of the command's "
    "name, trainer-main for python -m trainer.main.",
)
_NODES = flags.DEFINE_integer(
    "nodes", 1, "How many pods run the command, spread over as many machines as there are.", 1, MOST_NODES
)
_GPUS = flags.DEFINE_integer(
    "gpus",
    0,
    "NVIDIA GPUs of each pod (nvidia.com/gpu). With GPUs /dev/shm is memory, for NCCL.",
    lower_bound=0,
)
_CPU = flags.DEFINE_string(
    "cpu",
    None,
    "CPU cores that each pod asks for, as 8 or 500m; it may use more while they are idle. Default: none are "
    "asked for.",
)
_MEMORY = flags.DEFINE_string(
    "memory",
    None,
    "Memory of each pod, as 16Gi: it asks for this much, and is ended if it uses more. Default: no limit.",
)
_NAMESPACE = flags.DEFINE_string(
    "namespace", None, "Namespace of the Job. Default: that of kubectl's context."
)
_VOLUME = flags.DEFINE_multi_string(
    "volume",
    [],
    "CLAIM:/path[:ro] shows a PersistentVolumeClaim at /path in every pod; with several nodes the claim must "
    "allow ReadWriteMany. /host/path:/path[:ro] shows a folder of the node: user 1000 must be able to write "
    "there, and many clusters forbid it. :ro makes it read-only. Repeat the flag for more.",
)
_ENV = flags.DEFINE_multi_string(
    "env",
    [],
    "NAME=VALUE for the command's environment; repeat it for more. It stands in the manifest for all to "
    "read: no place for a password.",
)
_MAX_RESTARTS = flags.DEFINE_integer(
    "max_restarts",
    3,
    "How often each pod is started again after it was lost: it was ended by a signal, or says by exit code "
    "76 that another one was lost.",
    lower_bound=0,
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Prints the manifest, one YAML of two documents, and starts nothing."
)


def main(command: list[str]) -> int:
    """Parses the flags, makes a job of them and submits it."""
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
