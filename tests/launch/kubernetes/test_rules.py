"""Broken manifests: each is refused with its field, its value and the fix."""

import json

import kubernetes_validate
import pytest

from launch.kubernetes.manifest import documents
from launch.kubernetes.options import Job, Volume
from launch.kubernetes.rules import violations

JOB = Job(
    ("python", "-m", "trainer.main"),
    "a:1",
    "train",
    nodes=2,
    gpus=1,
    memory="4Gi",
    volumes=(Volume("images", "/data"),),
    environment=(("A", "1"),),
)
POD = "spec.template.spec"
MAIN = f"{POD}.containers[0]"
RULES = "spec.podFailurePolicy.rules"
REMOVED = object()

# What a schema of Kubernetes takes: kind, field, value, the field that is named, what else must be said.
MISSED_BY_SCHEMAS = [
    ("Job", "spec.completionMode", "indexed", None, "'Indexed'"),
    ("Job", "spec.completionMode", "NonIndexed", "spec.backoffLimitPerIndex", "'Indexed'"),
    ("Job", "spec.completionMode", REMOVED, None, "'Indexed'"),
    ("Job", f"{POD}.restartPolicy", "Always", None, "'Never'"),
    ("Job", f"{POD}.restartPolicy", "OnFailure", None, "'Never'"),
    ("Job", f"{POD}.containers", [], None, "launch.worker"),
    ("Job", f"{MAIN}.resources.limits.memory", "4GB", None, "4Gi"),
    ("Job", f"{MAIN}.resources.requests.memory", "4 Gi", None, "4Gi"),
    ("Job", f"{MAIN}.image", "", None, "the name of an image"),
    ("Job", f"{MAIN}.command", ["python -m trainer.main"], None, "'launch.worker', '--'"),
    ("Job", f"{POD}.subdomain", "my_train", None, "'train'"),
    ("Job", f"{POD}.subdomain", "other", None, "'train'"),
    ("Job", f"{POD}.subdomain", REMOVED, None, "'train'"),
    ("Job", f"{RULES}[2].onExitCodes.values", [0, 1, 2], None, "from 1 to 255"),
    ("Job", f"{RULES}[2].onExitCodes.values", [2, 1], None, "ascending"),
    ("Job", f"{RULES}[2].onExitCodes.values", [1, 76], None, "leave out [76]"),
    ("Job", f"{RULES}[2].onExitCodes.operator", "in", None, "'In'"),
    ("Job", f"{RULES}[1].action", "ignore", None, "Ignore, Count, FailIndex, FailJob"),
    ("Job", f"{RULES}[1].onExitCodes.values", [3], RULES, "ignores 75"),
    ("Job", f"{RULES}[0].onPodConditions[0].type", "Ready", f"{RULES}[0]", "DisruptionTarget"),
    ("Job", f"{RULES}[0].onPodConditions[0].status", "true", None, "'True'"),
    ("Job", "spec.podFailurePolicy", REMOVED, RULES, "--dry_run"),
    ("Job", "metadata.name", "x" * 64, None, "61"),
    ("Service", "metadata.name", "x" * 64, None, "63"),
    ("Service", "metadata.name", "other", f"{POD}.subdomain", "'other'"),
    ("Job", "metadata.namespace", "other", None, "that of the Service"),
    ("Job", f"{MAIN}.volumeMounts[0].name", "nowhere", None, f"declare it in {POD}.volumes"),
    ("Job", f"{POD}.volumes", REMOVED, f"{MAIN}.volumeMounts[0].name", f"declare it in {POD}.volumes"),
    ("Job", f"{MAIN}.volumeMounts[1].mountPath", "/data", None, "a path of its own"),
    ("Job", f"{MAIN}.volumeMounts[0].mountPath", "data", None, "absolute"),
    ("Job", f"{POD}.volumes[1].name", "volume-0", None, "a name of its own"),
    ("Job", f"{POD}.volumes[0].name", "Volume_0", None, "lower-case"),
    ("Job", f"{POD}.volumes[0].hostPath", {"path": "/x"}, f"{POD}.volumes[0]", "one source"),
    ("Job", "spec.completions", 3, "spec.parallelism", "3"),
    ("Job", "spec.completions", 0, None, "1 or more"),
    ("Job", "spec.parallelism", 1, None, "2"),
    ("Job", "spec.backoffLimitPerIndex", REMOVED, None, "0 or more"),
    ("Job", "spec.maxFailedIndexes", 1, None, "0"),
    ("Job", "spec.maxFailedIndexes", REMOVED, None, "0"),
    ("Job", "spec.podReplacementPolicy", "TerminatingOrFailed", None, "'Failed'"),
    ("Job", "spec.podReplacementPolicy", REMOVED, None, "'Failed'"),
    ("Job", f"{MAIN}.env[0].value", "3", None, "'2'"),
    ("Job", f"{MAIN}.env[1].value", "other", None, "'train'"),
    ("Job", f"{MAIN}.env[2].value", "other", None, "'train'"),
    ("Job", f"{MAIN}.env[2].name", "LAUNCH_JOB", f"{MAIN}.env", "LAUNCH_SERVICE"),
    ("Job", f"{MAIN}.env[4].name", "TF_CONFIG", f"{MAIN}.env", "leave it out"),
    ("Service", "spec.clusterIP", REMOVED, None, "'None'"),
    ("Service", "spec.clusterIP", "10.0.0.1", None, "'None'"),
    ("Service", "spec.publishNotReadyAddresses", False, None, "True"),
    ("Service", "spec.selector", {"app": "other"}, None, "app.kubernetes.io/instance"),
    ("Service", "spec.selector", REMOVED, None, "app.kubernetes.io/instance"),
    ("Job", "spec.template.metadata.labels", {"a": "x" * 64}, None, "63"),
]
# What a schema refuses: the same, and what it names.
SEEN_BY_SCHEMAS = [
    ("Job", "spec.completionsMode", "Indexed", "completionsMode"),
    ("Job", f"{POD}.restartpolicy", "Never", "restartpolicy"),
    ("Job", "spec.completions", "two", "'two'"),
    ("Job", f"{POD}.containers", REMOVED, "containers"),
    ("Job", f"{MAIN}.env[0].value", 2, "2"),
    ("Job", f"{MAIN}.command", "python -m trainer.main", "'python -m trainer.main'"),
    ("Service", "spec.publishNotReadyAddresses", "true", "'true'"),
]


def broken(kind, field, value):
    """Returns the documents with one field changed."""
    found = json.loads(json.dumps(documents(JOB)))  # so that no two fields are one object
    place = found[("Service", "Job").index(kind)]
    *keys, last = [
        int(key) if key.isdecimal() else key for key in field.replace("[", ".").replace("]", "").split(".")
    ]
    for key in keys:
        place = place[key]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return found


def test_nothing_is_said_of_what_is_right():
    assert violations(documents(JOB)) == []


@pytest.mark.parametrize(("kind", "field", "value", "named", "fix"), MISSED_BY_SCHEMAS)
def test_our_rules_refuse_it(kind, field, value, named, fix):
    documents_there = broken(kind, field, value)
    for document in documents_there:
        kubernetes_validate.validate(document, "1.37", strict=True)
    found = violations(documents_there)
    (said,) = [
        message
        for message in found
        if message.split(": ")[0].endswith(f" {named or field}") and fix in message
    ]
    assert named or value is REMOVED or repr(value) in said


@pytest.mark.parametrize(("kind", "field", "value", "named"), SEEN_BY_SCHEMAS)
def test_a_schema_refuses_it(kind, field, value, named):
    documents_there = broken(kind, field, value)
    (document,) = [each for each in documents_there if each["kind"] == kind]
    with pytest.raises(kubernetes_validate.ValidationError) as error:
        kubernetes_validate.validate(document, "1.37", strict=True)
    assert named in str(error.value)
    violations(documents_there)  # and our rules are not thrown by it


@pytest.mark.parametrize(
    "found", [[], [None], [7, "x"], documents(JOB)[:1], documents(JOB) + documents(JOB)[1:], [[], {}]]
)
def test_there_is_one_service_and_one_job(found):
    (message,) = violations(found)
    assert "one Service and one Job" in message


@pytest.mark.parametrize("value", [None, [], {}, "x", 7, True])
@pytest.mark.parametrize(("kind", "field"), sorted({(kind, field) for kind, field, *_ in MISSED_BY_SCHEMAS}))
def test_any_value_at_any_place_is_a_message_and_no_bug(kind, field, value):
    violations(broken(kind, field, value))
