"""In processes of their own: absl's flags are one global table, and commands define the same names."""

import json
import shutil
from dataclasses import replace

import pytest

from data_pipeline.settings import save_settings
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.run import Run

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
def parse(tmp_path, run_python):
    def run(*arguments):
        done = run_python("-c", _SCRIPT, *arguments, cwd=tmp_path)
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
        "--schedule=cosine",
        "--warmup_epochs=2",
        "--precision=bfloat16",
        "--class_weights",
        "--cache=off",
        "--ram_budget_mb=3",
        "--last_batch=drop",
        "--copies=one",
        "--augment=light",
        "--seed=5",
        "--deterministic",
        "--keep=4",
        "--checkpoint_steps=70",
        "--checkpoint_minutes=2.5",
        "--positive=NORMAL",
        "--log_steps=25",
        "--profile_steps=20,30",
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
        schedule="cosine",
        warmup_epochs=2,
        precision="bfloat16",
        class_weights=True,
        cache="off",
        ram_budget=3 << 20,
        last_batch="drop",
        copies="one",
        augment="light",
        seed=5,
        deterministic=True,
        keep=4,
        checkpoint_steps=70,
        checkpoint_minutes=2.5,
        positive="NORMAL",
        log_steps=25,
        profile_steps=(20, 30),
    )


def test_without_data_the_demo_is_meant(parse):
    assert parse() is None


@pytest.fixture
def tuned(converted, tmp_path):
    """A copy of the data set with a pipeline.json."""
    folder = shutil.copytree(converted, tmp_path / "tuned")
    save_settings(folder, Manifest.load(folder), {"cache": "off", "prefetch": 8, "threads": 3}, {})
    return folder


def test_pipeline_json_is_used_and_flags_win_over_it(parse, tuned):
    config = parse("--data", tuned)
    assert (config.cache, config.prefetch, config.threads, config.parallel_reads) == ("off", 8, 3, 0)
    assert config.tuned == ("cache", "prefetch", "threads")
    assert config.pipeline.prefetch == 8
    config = parse("--data", tuned, "--prefetch=4", "--cache=auto")
    assert (config.cache, config.prefetch, config.threads) == ("auto", 4, 3)
    assert config.tuned == ("threads",)


@pytest.mark.parametrize(
    ("before", "after", "cache"),
    [
        (None, "off", "auto"),  # it came after the run began
        ("off", None, "off"),  # it went
        ("off", "memory", "off"),  # it changed
    ],
)
def test_a_run_keeps_its_tier_whatever_becomes_of_pipeline_json(parse, tuned, tmp_path, before, after, cache):
    manifest = Manifest.load(tuned)

    def apply_duplicate_policy(value):
        settings = {"prefetch": 2} if value is None else {"prefetch": 9, "cache": value}
        save_settings(tuned, manifest, settings, {})

    apply_duplicate_policy(before)
    begun = parse("--data", tuned, "--run_dir=run")
    config = replace(begun, run_dir=str(tmp_path / "run"))
    Run.open(config, manifest, {}, write=True)
    apply_duplicate_policy(after)
    again = parse("--data", tuned, "--run_dir=run")
    assert again.cache == begun.cache == cache
    assert again.prefetch == (2 if after is None else 9)  # changes the speed only
    resumed = replace(again, run_dir=config.run_dir)
    assert Run.open(resumed, manifest, {}, write=True).config == resumed


def test_a_damaged_pipeline_json_is_named_by_the_command(tuned, run_command):
    (tuned / "pipeline.json").write_text("{")
    done = run_command("trainer.main", f"--data={tuned}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tuned / 'pipeline.json'}: is damaged")
    assert f"python -m data_pipeline.tune --data={tuned}" in done.stderr
