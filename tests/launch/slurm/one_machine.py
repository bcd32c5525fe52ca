"""A real Slurm of two nodes on this machine, for a try, for tests and benchmarks.

    python one_machine.py COMMAND...      runs a command with it, then stops it
    python one_machine.py                 prints the variable that leads to it; stops it when its input ends

It has a folder, ports and a munge of its own, and leaves nothing behind. The packages slurmctld, slurmd,
slurm-client and munge must be installed, and who starts it must be root. Its partitions: low (preempted
without grace), grace (with 30 s), cancel (cancelled instead of requeued), high (preempts these).
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "munged")

_CONFIG = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,preempt_youngest_first
JobRequeue=1
KillWait=12
MinJobAge=15
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=low Nodes=node0,node1 Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=grace Nodes=node0,node1 MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=cancel Nodes=node0,node1 MaxTime=60 PriorityTier=1 PreemptMode=CANCEL GraceTime=0
PartitionName=high Nodes=node0,node1 MaxTime=60 PriorityTier=10 PreemptMode=OFF
"""


def missing_programs() -> list[str]:
    """Returns the programs of Slurm and munge that are not installed."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
    return [name for name in PROGRAMS if not shutil.which(name, path=path)]


@contextmanager
def slurm_cluster() -> Iterator[dict[str, str]]:
    """Starts it; inside, it is there for processes with the returned variables."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a socket's path must be short
    host = socket.gethostname()
    config = folder / "slurm.conf"
    for name in ("state", "log", "spool.node0", "spool.node1"):
        (folder / name).mkdir()
    config.write_text(_CONFIG.format(host=host, folder=folder, ports=_free_ports(3)))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    environment = {"SLURM_CONF": str(config)}
    path = {"PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin"}
    pids = [folder / f"{name}.pid" for name in ("slurmctld", "slurmd.node0", "slurmd.node1", "munged")]

    def start(*command: object) -> None:
        subprocess.run([*map(str, command)], env=os.environ | environment | path, check=True)

    try:
        start(
            *("munged", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key"),
            *(f"--pid-file={folder}/munged.pid", f"--log-file={folder}/log/munged.log"),
            *(f"--seed-file={folder}/munged.seed", "--num-threads=2"),
        )
        start("slurmctld", "-f", config)
        for node in ("node0", "node1"):
            start("slurmd", "-N", node, "-f", config)
        _wait_until_idle(os.environ | environment, folder)
        yield environment
    finally:
        _end_all_jobs(os.environ | environment)
        for pid in pids:
            with suppress(OSError, ValueError):
                os.kill(int(pid.read_text()), signal.SIGTERM)
        for pid in pids:
            _wait_until_gone(pid)
        shutil.rmtree(folder, ignore_errors=True)


def _end_all_jobs(environment: dict[str, str]) -> None:
    for _ in range(60):  # seconds; a task that ignores SIGTERM has KillWait
        subprocess.run(["scancel", "--user=root"], env=environment, check=False, capture_output=True)
        left = subprocess.run(
            ["squeue", "--noheader"], env=environment, check=False, capture_output=True, text=True
        )
        if not left.stdout.strip():
            return
        time.sleep(1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    for _ in range(600):
        shown = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%N %t"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        states = dict(line.split() for line in shown.stdout.splitlines())
        if states == {"node0": "idle", "node1": "idle"}:
            return
        time.sleep(0.1)
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("log/*")))
    raise RuntimeError(f"Slurm did not start: {shown.stdout} {shown.stderr}\n{logs}")


def _wait_until_gone(pid: Path) -> None:
    with suppress(OSError, ValueError):
        number = int(pid.read_text())
        for _ in range(200):
            os.kill(number, 0)
            time.sleep(0.1)
        os.kill(number, signal.SIGKILL)


def main() -> int:
    """Runs a command with a cluster, or keeps it until its input ends."""
    if missing := missing_programs():
        print(f"error: not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(130))
    with slurm_cluster() as environment:
        if sys.argv[1:]:
            return subprocess.run(sys.argv[1:], env=os.environ | environment, check=False).returncode
        print(*(f"{name}={value}" for name, value in environment.items()), flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
