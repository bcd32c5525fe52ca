"""Manifests: the schemas of Kubernetes, our own rules, and kubectl itself read them."""

import json
import os
import re
import shutil
import subprocess
from copy import deepcopy

import kubernetes_validate
import pytest

from launch.kubernetes.manifest import documents, render_job
from launch.kubernetes.options import Job, Volume
from launch.kubernetes.rules import violations

COMMAND = ("python", "-m", "trainer.main", "--strategy=multi_worker")
JOBS = {
    "least": Job(COMMAND, "a:1", "train"),
    "two nodes": Job(COMMAND, "a:1", "train", nodes=2),
    "most nodes": Job(COMMAND, "a:1", "train", nodes=100_000, max_restarts=0),
    "GPUs": Job(COMMAND, "a:1", "train", nodes=4, gpus=8, cpu="96", memory="1Ti", namespace="team"),
    "cores alone": Job(COMMAND, "a:1", "train", cpu="500m"),
    "memory alone": Job(COMMAND, "a:1", "train", memory="2G"),
    "volumes": Job(
        COMMAND,
        "a:1",
        "train",
        gpus=1,
        volumes=(Volume("images", "/data", read_only=True), Volume("/srv/runs", "/runs")),
    ),
    "any text": Job(
        ("a b", "", "--", "$(LAUNCH_JOB)", "true", "7", "é\n\u2028"),
        "r.io:5000/a@sha256:" + "0" * 64,
        "x" * 61,
        environment=(("A", "$(LAUNCH_JOB)"), ("B", "1"), ("C", "")),
    ),
}


@pytest.fixture(params=JOBS)
def job(request):
    return JOBS[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"])
def test_the_schemas_of_kubernetes_take_it(job, read, version):
    for document in read(render_job(job, "made by")):
        assert kubernetes_validate.validate(document, version, strict=True) == version


def test_it_is_read_as_it_was_meant(job, read):
    read_again = read(render_job(job, "python -m launch.kubernetes '\n---\u2028'"))
    assert read_again == documents(job)
    assert violations(read_again) == []


def test_kubectl_reads_the_same(job, tmp_path):
    """It reads into Kubernetes' own types, so that a field that is in none of them is not there again."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")

    def ask(*words, document="{}"):
        done = subprocess.run(
            ["kubectl", *words],
            input=document,
            env=os.environ | {"KUBECONFIG": str(tmp_path / "none")},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    if int(re.sub(r"\D", "", ask("version", "--client", "-o", "json")["clientVersion"]["minor"])) < 29:
        pytest.skip("kubectl is older than 1.29")
    text = render_job(job, "made by")
    service, indexed = deepcopy(documents(job))
    found = ask(
        "set", "image", "--local", "-f", "-", "worker=b", "-o", "json", document=text.split("---\n")[1]
    )
    assert found["spec"]["template"]["spec"]["containers"][0].pop("image") == "b"
    indexed["spec"]["template"]["spec"]["containers"][0].pop("image")
    assert cleared(found) == cleared(indexed)
    found = ask("set", "selector", "--local", "-f", "-", "a=b", "-o", "json", document=text.split("---\n")[0])
    assert found["spec"].pop("selector") == {"a": "b"}
    service["spec"].pop("selector")
    assert cleared(found) == cleared(service)


def cleared(value):
    """Returns what kubectl prints without what it adds, and without what it leaves out: what is empty."""
    if isinstance(value, dict):
        return {
            key: cleared(item)
            for key, item in value.items()
            if (key not in ("creationTimestamp", "status") and item not in ({}, "")) or "type" in value
        }
    return [cleared(item) for item in value] if isinstance(value, list) else value


def test_what_a_training_needs_of_kubernetes():
    service, indexed = documents(JOBS["GPUs"])
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["metadata"]["namespace"] == indexed["metadata"]["namespace"] == "team"
    spec = indexed["spec"]
    assert {key: spec[key] for key in spec if key not in ("podFailurePolicy", "template")} == {
        "completionMode": "Indexed",
        "completions": 4,
        "parallelism": 4,
        "backoffLimitPerIndex": 3,
        "maxFailedIndexes": 0,
        "podReplacementPolicy": "Failed",
    }
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2, 77]}},
    ]
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["subdomain"]) == ("Never", "train")
    assert pod["terminationGracePeriodSeconds"] == 120
    assert pod["shareProcessNamespace"] is True
    assert not pod["automountServiceAccountToken"]
    assert not pod["enableServiceLinks"]
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["fsGroup"]) == (True, 1000)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"] == {
        "requests": {"cpu": "96", "memory": "1Ti"},
        "limits": {"memory": "1Ti", "nvidia.com/gpu": "8"},
    }
    assert container["volumeMounts"] == [{"name": "shared-memory", "mountPath": "/dev/shm"}]
    assert pod["volumes"] == [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}]


def test_volumes_are_claims_or_folders_of_the_node():
    pod = documents(JOBS["volumes"])[1]["spec"]["template"]["spec"]
    assert pod["volumes"][:2] == [
        {"name": "volume-0", "persistentVolumeClaim": {"claimName": "images"}},
        {"name": "volume-1", "hostPath": {"path": "/srv/runs"}},
    ]
    assert pod["containers"][0]["volumeMounts"][:2] == [
        {"name": "volume-0", "mountPath": "/data", "readOnly": True},
        {"name": "volume-1", "mountPath": "/runs"},
    ]


def test_without_gpus_there_is_nothing_of_them():
    assert "nvidia" not in render_job(JOBS["two nodes"], "")
    assert "/dev/shm" not in render_job(JOBS["two nodes"], "")


@pytest.mark.parametrize(
    "word", ["$(HOME)", "$$(HOME)", "$HOME", "$", "$$", "$$$", "$($(A))", "a$", "$(", "$)", "100$(", "${A}"]
)
def test_kubernetes_replaces_no_variables(word, container_of):
    job = Job(("run", word), "a:1", "train", environment=(("A", "1"), ("HOME", "/x"), ("B", word)))
    container = container_of(render_job(job, ""))
    assert container.command[-1] == word
    assert container.environment["B"] == word


def test_who_made_it_stands_at_the_top():
    assert "# Made by:\n#   python -m x 'a\n# b'\n" in render_job(JOBS["least"], "python -m x 'a\nb'")
