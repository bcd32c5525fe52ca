"""A job rendered, checked by our own rules, and handed to kubectl; or only printed."""

import shlex
import shutil
import subprocess
import sys

from launch.command import LaunchError
from launch.kubernetes.manifest import LABEL, documents, render_job
from launch.kubernetes.options import Job
from launch.kubernetes.rules import violations


def submit(job: Job, made_by: str, *, dry_run: bool) -> int:
    """Renders a job, checks it, and applies it, or with `dry_run` prints it; returns the exit code.

    Raises:
        LaunchError: it breaks a rule, kubectl is missing or refuses it, or it was there already.
    """
    text = render_job(job, made_by)
    if found := violations(documents(job)):
        raise LaunchError("\n  ".join(("the manifest breaks rules, so nothing was started:", *found)))
    if dry_run:
        print(text, end="")
        return 0
    said = _apply(job, text)
    if f"job.batch/{job.name} created" not in said:
        raise LaunchError(
            f"--name={job.name}: a Job of this name is there already, so nothing new was started; kubectl "
            f"says: {said.strip()}\n  {_other_name(job)}"
        )
    print(said, end="", flush=True)
    print(explain(job), file=sys.stderr)
    return 0


def explain(job: Job) -> str:
    """Returns what to type next: how it is, what it prints, how it is ended."""
    kubectl, label = _kubectl(job), f"{LABEL}={job.name}"
    logs = f"{kubectl} logs --tail=-1"
    return "\n".join(
        (
            f"job {job.name}: {job.nodes} pod{'s' * (job.nodes > 1)}; next:",
            f"  {kubectl} get job,pods -l {label}    # how it is; `describe job {job.name}` says why",
            f"  {logs} --follow -l {label},batch.kubernetes.io/job-completion-index=0    # of rank 0",
            f"  {logs} --prefix --max-log-requests={job.nodes} -l {label}    # of all ranks",
            f"  {kubectl} delete job,service {job.name}    # ends it: it saves first",
        )
    )


def _apply(job: Job, text: str) -> str:
    """Hands a manifest to kubectl and returns what it says."""
    if not shutil.which("kubectl"):
        raise LaunchError(
            "kubectl: there is no such program; install it, or print the manifest with --dry_run and "
            "apply it where kubectl is:\n  python -m launch.kubernetes --dry_run ... > job.yaml\n"
            "  kubectl apply -f job.yaml"
        )
    namespace = ["--namespace", job.namespace] if job.namespace else []
    command = ["kubectl", *namespace, "apply", "-f", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        before = done.stdout.strip()
        stays = f"\n  What it did before stays: {before}" if before else ""
        raise LaunchError(
            f"kubectl refuses the manifest: {done.stderr.strip()}{stays}\n  If a Job of this name is there: "
            f"{_other_name(job)}"
        )
    sys.stderr.write(done.stderr)  # its warnings
    return done.stdout


def _other_name(job: Job) -> str:
    return f"give another --name, or delete it first:\n  {_kubectl(job)} delete job,service {job.name}"


def _kubectl(job: Job) -> str:
    return "kubectl" + (f" -n {shlex.quote(job.namespace)}" if job.namespace else "")
