"""What is done with a manifest; a script stands in for kubectl, for there is no API server to ask."""

import os
import shutil

import pytest

from launch.command import LaunchError
from launch.kubernetes.apply import explain, submit
from launch.kubernetes.manifest import render_job
from launch.kubernetes.options import Job

JOB = Job(("python", "-m", "trainer.main"), "a:1", "train", nodes=3)
CREATED = "service/train created\njob.batch/train created"


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """Puts a script in kubectl's place; it keeps its arguments and its input."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(script):
        (folder / "kubectl").write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$*\" > {folder}/arguments\ncat > {folder}/input\n{script}\n"
        )
        (folder / "kubectl").chmod(0o755)
        return folder

    return make


@pytest.mark.parametrize(
    ("namespace", "arguments"), [(None, "apply -f -"), ("team", "--namespace team apply -f -")]
)
def test_it_is_handed_to_kubectl(kubectl, capsys, namespace, arguments):
    folder = kubectl(f"echo '{CREATED}'; echo 'Warning: careful' >&2")
    job = Job(JOB.command, "a:1", "train", namespace=namespace)
    assert submit(job, "made by", dry_run=False) == 0
    assert (folder / "arguments").read_text() == arguments + "\n"
    assert (folder / "input").read_text() == render_job(job, "made by")
    said = capsys.readouterr()
    assert said.out == CREATED + "\n"
    assert said.err == f"Warning: careful\n{explain(job)}\n"


def test_a_dry_run_prints_the_manifest_alone(kubectl, capsys):
    folder = kubectl("exit 1")
    assert submit(JOB, "made by", dry_run=True) == 0
    assert capsys.readouterr() == (render_job(JOB, "made by"), "")
    assert not (folder / "arguments").exists()


def test_what_to_type_next():
    lines = [line.partition("#")[0].strip() for line in explain(JOB).splitlines()[1:]]
    label = "app.kubernetes.io/instance=train"
    assert lines == [
        f"kubectl get job,pods -l {label}",
        f"kubectl logs --tail=-1 --follow -l {label},batch.kubernetes.io/job-completion-index=0",
        f"kubectl logs --tail=-1 --prefix --max-log-requests=3 -l {label}",
        "kubectl delete job,service train",
    ]
    assert "kubectl -n team delete job,service train" in explain(
        Job(JOB.command, "a:1", "train", namespace="team")
    )


@pytest.mark.parametrize(
    ("script", "facts_of"),
    [
        (
            "echo 'service/train unchanged'; echo 'Job is invalid: spec.template is immutable' >&2; exit 1",
            "service/train spec.template --name",
        ),
        ("echo 'service/train unchanged'; echo 'job.batch/train unchanged'", "--name=train job.batch/train"),
        ("echo 'service/train unchanged'; echo 'job.batch/train configured'", "--name=train job.batch/train"),
    ],
)
def test_a_refusal_is_told_in_kubectls_words(kubectl, script, facts_of, facts):
    kubectl(script)
    with pytest.raises(LaunchError, match=facts(facts_of)) as error:
        submit(JOB, "made by", dry_run=False)
    assert "kubectl delete job,service train" in str(error.value)


def test_without_kubectl(monkeypatch, tmp_path, facts):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match=facts("kubectl --dry_run python -m launch.kubernetes job.yaml")):
        submit(JOB, "made by", dry_run=False)


def test_kubectl_itself_without_a_cluster(monkeypatch, tmp_path):
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    (tmp_path / "config").write_text(
        "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a}}], "
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]}"
    )
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(LaunchError, match="refused"):
        submit(JOB, "made by", dry_run=False)


def test_a_manifest_that_breaks_a_rule_is_not_applied(kubectl, monkeypatch):
    folder = kubectl(f"echo '{CREATED}'")
    monkeypatch.setattr("launch.kubernetes.manifest.STOPPED", 74)
    with pytest.raises(LaunchError, match=r"Job spec\.podFailurePolicy\.rules: .*ignores 75"):
        submit(JOB, "made by", dry_run=False)
    assert not (folder / "arguments").exists()
