import json
import re

import pytest
import tensorflow as tf

from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.devices.strategy import describe, make_strategy
from trainer.workers.agreement import check_agreement


def test_one_device():
    strategy = make_strategy(TrainConfig(data="d", run_dir="r"))
    assert describe(strategy) == "1 replica (CPU:0)"
    check_agreement(strategy, 7, "the step to resume from")


_SCRIPT = """
import json
from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.devices.strategy import describe, make_strategy
from trainer.workers.agreement import check_agreement

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
