"""In processes of their own: absl's flags are one global table, and commands define the same names."""

import json
import re
import shutil

import pytest

from data_pipeline.settings import save_settings
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.flags.recipe import lines

_SCRIPT = """
import json, sys
from absl import flags
from tfrecords.manifest import Manifest
from trainer.flags import data
from trainer.flags.config import config_from_flags

flags.FLAGS(sys.argv)
folder = data.folder()
config = folder and config_from_flags(folder, Manifest.load(folder))
print(json.dumps(config and config.to_json()))
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
        "--monitor=val_auc",
        "--label_smoothing=0.1",
        "--mixup=0.2",
        "--jit_compile=on",
        "--precision=bfloat16",
        "--class_weights",
        "--cache=stream",
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
    assert found == TrainConfig.of(
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
        monitor="val_auc",
        label_smoothing=0.1,
        mixup=0.2,
        jit_compile="on",
        precision="bfloat16",
        class_weights=True,
        cache="stream",
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


def test_a_sampled_run_does_not_take_a_stream_that_was_found_best(parse, converted, tmp_path):
    data = shutil.copytree(converted, tmp_path / "data")
    save_settings(data, Manifest.load(data), {"cache": "stream", "prefetch": 8}, {})
    found = parse(f"--data={data}", "--sampling=weights.csv")
    assert (found.pipeline.sampling, found.pipeline.cache, found.tuned) == (
        "weights.csv",
        "auto",
        ("prefetch",),
    )


def test_flags_of_a_plateau_reach_the_configuration(parse, converted):
    found = parse(
        f"--data={converted}",
        "--schedule=plateau",
        "--plateau_factor=0.5",
        "--plateau_patience=3",
        "--recipe=notebook",
        "--epochs=7",
    )
    assert (found.schedule, found.plateau_factor, found.plateau_patience) == ("plateau", 0.5, 3)
    assert (found.recipe, found.epochs) == ("notebook", 7)
    assert {"model", "patience", "global_batch_size"} <= set(found.from_recipe)
    assert not {"epochs", "schedule"} & set(found.from_recipe)  # the command line wins


@pytest.mark.parametrize("name", ["robust", "robust_quick"])
def test_all_that_a_recipe_sets_is_taken_together(parse, converted, name):
    found = parse(f"--data={converted}", f"--recipe={name}")
    assert sorted(found.from_recipe) == sorted(lines(name))
    assert (found.monitor, found.pipeline.sampling, found.normalize) == ("last", "class", "blend")
    assert dict(found.model_args) == {"width": 42}


def test_a_recipe_that_is_not_there_is_named_with_those_that_are(run_command, converted, tmp_path):
    done = run_command("trainer.main", f"--data={converted}", f"--run_dir={tmp_path / 'run'}", "--recipe=rob")
    assert done.returncode == 2
    assert re.match(r"error: --recipe=rob: must be one of .*notebook", done.stderr)
    assert not (tmp_path / "run").exists()


def test_without_data_the_demo_is_meant(parse):
    assert parse() is None


@pytest.fixture
def tuned(converted, tmp_path):
    """A copy of the data set with a pipeline.json."""
    folder = shutil.copytree(converted, tmp_path / "tuned")
    save_settings(folder, Manifest.load(folder), {"cache": "stream", "prefetch": 8, "threads": 3}, {})
    return folder


@pytest.mark.slow
def test_pipeline_json_is_used_and_flags_win_over_it(parse, tuned):
    config = parse("--data", tuned)
    options = config.pipeline
    assert (options.cache, options.prefetch, options.threads, options.parallel_reads) == ("stream", 8, 3, 0)
    assert config.tuned == ("cache", "prefetch", "threads")
    config = parse("--data", tuned, "--prefetch=4", "--cache=auto")
    assert (config.pipeline.cache, config.pipeline.prefetch, config.pipeline.threads) == ("auto", 4, 3)
    assert config.tuned == ("threads",)


def test_a_tier_of_pipeline_json_does_not_hinder_a_data_service(parse, tuned):
    save_settings(tuned, Manifest.load(tuned), {"cache": "memory", "prefetch": 8}, {})
    config = parse("--data", tuned, "--data_service=grpc://host:5050")
    assert (config.pipeline.cache, config.tuned) == ("auto", ("prefetch",))


def test_a_damaged_pipeline_json_is_named_by_the_command(tuned, run_command):
    (tuned / "pipeline.json").write_text("{")
    done = run_command("trainer.main", f"--data={tuned}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tuned / 'pipeline.json'}: is damaged")
    assert f"python -m data_pipeline.tune --data={tuned}" in done.stderr


def test_help_groups_the_flags_by_subject(run_command):
    lines = run_command("trainer.main", "--help").stdout.splitlines()
    found = [line.split(":")[0].strip() for line in lines if re.match(r"(  --\S+: |[A-Z][\w ]+:$)", line)]
    titles = [name for name in found if not name.startswith("--")]
    assert titles == [
        "Data",
        "Recipe",
        "Model",
        "Optimisation",
        "Published model",
        "Input",
        "Devices",
        "Run",
        "Before the start",
        "Several seeds",
    ]
    flags = (
        *("data", "recipe", "model_args", "patience", "tta_shift", "cache"),
        *("strategy", "seed", "[no]verify_data", "seeds"),
    )
    for title, flag in zip(titles, flags, strict=True):
        assert re.search(rf"\b{title} (--\S+ )*--{re.escape(flag)}( |$)", " ".join(found)), title
