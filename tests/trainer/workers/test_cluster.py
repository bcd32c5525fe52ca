import json

import pytest

from tfrecords.errors import InputError
from trainer.workers.cluster import ALONE, cluster_of

A, B = ["a:1"], ["a:1", "b:2"]


def config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "names", "rank"),
    [
        (config({"worker": A}), ("worker 0",), 0),
        (config({"worker": B}, index=1), ("worker 0", "worker 1"), 1),
        (config({"worker": B}, index="1"), ("worker 0", "worker 1"), 1),
        (config({"worker": B, "chief": ["c:3"]}, index=1), ("chief", "worker 0", "worker 1"), 2),
        (config({"worker": B, "chief": ["c:3"]}, "chief"), ("chief", "worker 0", "worker 1"), 0),
        (config({"worker": {"0": "a:1", "1": "b:2"}}, index=1), ("worker 0", "worker 1"), 1),
        (config({"worker": ["[::1]:7"], "ps": []}), ("worker 0",), 0),
    ],
)
def test_workers_by_rank(text, names, rank):
    cluster = cluster_of("multi_worker", {"TF_CONFIG": text})
    assert (cluster.names, cluster.rank, cluster.chief) == (names, rank, rank == 0)
    assert len(cluster.addresses) == len(names)


def test_other_strategies_are_alone_whatever_the_environment_says():
    assert cluster_of("mirrored", {"TF_CONFIG": "{"}) == ALONE
    assert ALONE.chief


def test_a_worker_in_words():
    assert cluster_of("multi_worker", {"TF_CONFIG": config({"worker": B})}).describe(1) == "worker 1 (b:2)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "--strategy=multi_worker: the variable TF_CONFIG"),
        ("", "--strategy=multi_worker: the variable TF_CONFIG"),
        ("{", "TF_CONFIG='{' cannot be used"),
        ("[]", "TF_CONFIG='[]' cannot be used"),
        ("7", "TF_CONFIG='7' cannot be used"),
        ('{"cluster": {"worker": ["a:1"]}}', "KeyError('task')"),
        (config({"worker": A}, "chief"), "'chief', but the cluster has 'worker'"),
        (config({"worker": A}, index="first"), "index is 'first'"),
        (config({"worker": A}, index=True), "index is True"),
        (config({"worker": A}, index=-1), "index is -1"),
        (config({"worker": B}, index=2), "index 2, but the cluster has 2 such tasks"),
        (config({"worker": A, "ps": ["c:3"]}), "has the jobs 'ps'"),
        (config({"worker": A, "evaluator": ["c:3"]}, "evaluator"), "has the jobs 'evaluator'"),
        (config({"worker": A, "chief": ["c:3", "d:4"]}), "has 2 chiefs"),
        (config({"worker": ["a:1", "a:1"]}), "a:1 is the address of two workers"),
        (config({"worker": ["a"]}), "'a' is no HOST:PORT"),
        (config({"worker": ["a:0"]}), "'a:0' is no HOST:PORT"),
        (config({"worker": ["a:70000"]}), "'a:70000' is no HOST:PORT"),
        (config({"worker": [7]}), "7 is no HOST:PORT"),
        (config({"worker": "a:1"}), "must be a list of HOST:PORT"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_told_with_an_example(text, said):
    with pytest.raises(InputError) as error:
        cluster_of("multi_worker", {} if text is None else {"TF_CONFIG": text})
    assert said in str(error.value)
    example = str(error.value).split("TF_CONFIG='")[-1].rstrip("'")
    assert json.loads(example)["task"] == {"type": "worker", "index": 0}
    assert "launch.local" in str(error.value)
