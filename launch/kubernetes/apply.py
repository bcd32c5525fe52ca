"""Renders a job, checks it by our own rules, and gives it to kubectl or prints it."""

import shlex
import shutil
import subprocess
import sys

from launch.command import LaunchError
from launch.kubernetes.manifest import LABEL, documents, render_job
from launch.kubernetes.options import Job
from launch.kubernetes.rules import violations


def submit(job: Job, made_by: str, *, dry_run: bool) -> int:
    """Renders and checks a job, then applies it, or prints it with `dry_run`; returns the exit code.

    Raises:
        LaunchError: the manifest breaks a rule, kubectl is missing or refuses it, or the Job exists.
    """
    text = render_job(job, made_by)
    if found := violations(documents(job)):
        raise LaunchError("\n  ".join(("the manifest breaks these rules, so nothing was started:", *found)))
    if dry_run:
        print(text, end="")
        return 0
    printed = _apply(job, text)
    if f"job.batch/{job.name} created" not in printed:
        raise LaunchError(
            f"--name={job.name}: a Job with this name exists already, so nothing new was started; kubectl "
            f"says: {printed.strip()}\n  {_other_name(job)}"
        )
    print(printed, end="", flush=True)
    print(explain(job), file=sys.stderr)
    return 0


def explain(job: Job) -> str:
    """Returns the commands that show the state and the logs of a job, and the one that ends it."""
    kubectl, label = _kubectl(job), f"{LABEL}={job.name}"
    logs = f"{kubectl} logs --tail=-1"
    return "\n".join(
        (
            f"job {job.name}: {job.nodes} pod{'s' * (job.nodes > 1)}; next:",
            f"  {kubectl} get job,pods -l {label}    # its state; `describe job {job.name}` says why",
            f"  {logs} --follow -l {label},batch.kubernetes.io/job-completion-index=0    # logs of rank 0",
            f"  {logs} --prefix --max-log-requests={job.nodes} -l {label}    # logs of all ranks",
            f"  {kubectl} delete job,service {job.name}    # ends it; the pods save first",
        )
    )


def _apply(job: Job, text: str) -> str:
    """Gives a manifest to kubectl and returns what kubectl prints."""
    if not shutil.which("kubectl"):
        raise LaunchError(
            "kubectl: no such program; install it, or print the manifest with --dry_run and apply it where "
            "kubectl is installed:\n  python -m launch.kubernetes --dry_run ... > job.yaml\n"
            "  kubectl apply -f job.yaml"
        )
    namespace = ["--namespace", job.namespace] if job.namespace else []
    command = ["kubectl", *namespace, "apply", "-f", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        before = done.stdout.strip()
        stays = f"\n  What kubectl did before the error stays: {before}" if before else ""
        raise LaunchError(
            f"kubectl refuses the manifest: {done.stderr.strip()}{stays}\n  If a Job with this name exists: "
            f"{_other_name(job)}"
        )
    sys.stderr.write(done.stderr)  # its warnings
    return done.stdout


def _other_name(job: Job) -> str:
    return f"give another --name, or delete it first:\n  {_kubectl(job)} delete job,service {job.name}"


def _kubectl(job: Job) -> str:
    return "kubectl" + (f" -n {shlex.quote(job.namespace)}" if job.namespace else "")
