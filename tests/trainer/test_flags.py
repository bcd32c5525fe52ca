"""In processes of their own: absl's flags are one global table, and commands define the same names."""

import json
import subprocess
import sys

import pytest

from trainer.config import TrainConfig

_SCRIPT = """
import json, sys
from absl import flags
from trainer import flags as run_flags

flags.FLAGS(sys.argv)
data = run_flags.data_flag()
print(json.dumps(None if data is None else run_flags.config_from_flags(data).to_json()))
print("tensorflow" in sys.modules)
"""


@pytest.fixture
def parse(command_environment, tmp_path):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, *map(str, arguments)],
            env=command_environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        values, has_tensorflow = map(json.loads, done.stdout.replace("False", "false").splitlines())
        assert not has_tensorflow  # a wrong flag is told at once
        return values and TrainConfig.from_json(values)

    return run


def test_defaults_are_the_configurations(parse, converted):
    expected = TrainConfig(data=str(converted), run_dir="runs/chest_xray-cnn")
    assert parse(f"--data={converted}") == expected


def test_every_flag_reaches_the_configuration(parse, converted):
    found = parse(
        f"--data={converted}",
        "--run_dir=here",
        "--strategy=mirrored",
        "--devices=1,0",
        "--logical_cpus=2",
        "--model=mlp",
        "--epochs=7",
        "--patience=3",
        "--min_delta=0.01",
        "--global_batch_size=16",
        "--learning_rate=0.01",
        "--precision=bfloat16",
        "--class_weights",
        "--cache=off",
        "--ram_budget_mb=3",
        "--last_batch=drop",
        "--seed=5",
        "--deterministic",
        "--keep=4",
    )
    assert found == TrainConfig(
        data=str(converted),
        run_dir="here",
        strategy="mirrored",
        devices=(1, 0),
        logical_cpus=2,
        model="mlp",
        epochs=7,
        patience=3,
        min_delta=0.01,
        global_batch_size=16,
        learning_rate=0.01,
        precision="bfloat16",
        class_weights=True,
        cache="off",
        ram_budget=3 << 20,
        last_batch="drop",
        seed=5,
        deterministic=True,
        keep=4,
    )


def test_without_data_the_demo_is_meant(parse):
    assert parse() is None
