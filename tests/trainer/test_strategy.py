import json
import re
from types import SimpleNamespace

import pytest
import tensorflow as tf

from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.strategy import check_agreement, describe, is_chief, make_strategy


def resolver(kind, index, *jobs):
    return SimpleNamespace(
        task_type=kind, task_id=index, cluster_spec=lambda: SimpleNamespace(jobs=list(jobs))
    )


@pytest.mark.parametrize(
    ("cluster", "chief"),
    [
        (None, True),
        (resolver(None, None), True),
        (resolver("", 0), True),
        (resolver("worker", 0, "worker"), True),
        (resolver("worker", 1, "worker"), False),
        (resolver("chief", 0, "chief", "worker"), True),
        (resolver("worker", 0, "chief", "worker"), False),
        (resolver("worker", 1, "chief", "worker"), False),
    ],
)
def test_who_writes(cluster, chief):
    assert is_chief(SimpleNamespace(cluster_resolver=cluster)) is chief


def test_one_device():
    strategy = make_strategy(TrainConfig(data="d", run_dir="r"))
    assert describe(strategy) == "1 replica (CPU:0)"
    assert is_chief(strategy)
    check_agreement(strategy, 7, "the step to resume from")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "--strategy=multi_worker: the environment has no TF_CONFIG; set it on every machine, "),
        ("", "--strategy=multi_worker: the environment has no TF_CONFIG; set it on every machine, "),
        ("{", "TF_CONFIG='{' cannot be used (JSONDecodeError("),
        ("[]", "TF_CONFIG='[]' cannot be used (TypeError("),
        ('{"cluster": {"worker": ["a:1"]}}', "cannot be used (KeyError('task'))"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
            "cannot be used (KeyError('chief'))",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "first"}}',
            "cannot be used (ValueError(",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
            "TF_CONFIG: task index 2, but the cluster has 2 such tasks; set it on every machine, ",
        ),
    ],
)
def test_a_cluster_that_cannot_be_used_is_told_with_an_example(monkeypatch, text, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError) as error:
        make_strategy(TrainConfig(data="d", run_dir="r", strategy="multi_worker"))
    assert message in str(error.value)
    example = str(error.value).split("TF_CONFIG='")[-1].rstrip("'")
    assert json.loads(example)["task"] == {"type": "worker", "index": 0}


_SCRIPT = """
import json
from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.strategy import check_agreement, describe, make_strategy

for kind, devices in (
    ("mirrored", (0, 5)), ("one_device", (2,)), ("mirrored", ()), ("one_device", (1,)), ("mirrored", (1,)),
):
    config = TrainConfig(data="d", run_dir="r", strategy=kind, devices=devices, logical_cpus=2)
    try:
        strategy = make_strategy(config)
        check_agreement(strategy, 3, "")
        print(json.dumps(describe(strategy)))
    except InputError as error:
        print(json.dumps(str(error)))
"""


@pytest.mark.slow
def test_devices_are_picked_and_those_that_are_not_there_refused(run_python):
    done = run_python("-c", _SCRIPT)
    assert done.returncode == 0, done.stderr
    there = "there are 2: 0, 1 (--logical_cpus=N splits a CPU)"
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith('"')] == [
        f"--devices=0,5: no CPU 5; {there}",
        f"--devices=2: no CPU 2; {there}",
        "2 replicas (CPU:0, CPU:1)",
        "1 replica (CPU:1)",
        "1 replica (CPU:1)",
    ]


def test_no_gpu_is_asked_for_where_there_is_none(facts):
    if tf.config.get_visible_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError) as error:
        make_strategy(TrainConfig(data="d", run_dir="r", devices=(1,)))
    assert re.search(
        facts("--devices=1: no CPU 1; there are 1: 0 (--logical_cpus=N splits a CPU)"), str(error.value)
    )
