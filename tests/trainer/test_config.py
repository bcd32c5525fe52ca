import json
import re
from dataclasses import replace

import pytest

from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError
from trainer.config import FREE_TO_CHANGE, TrainConfig
from trainer.models.registry import parse_model_args
from trainer.optimisation.checks import check_rows


def config(**changes):
    return TrainConfig.of(**{"data": "data", "run_dir": "run", **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"strategy": "tpu"},
            "--strategy=tpu: must be one of one_device, mirrored, multi_worker",
        ),
        ({"model": "vgg"}, "--model=vgg: must be one of mlp, cnn, best_cnn, resnet"),
        ({"schedule": "linear"}, "--schedule=linear: must be one of constant, cosine, plateau"),
        ({"plateau_factor": 0.5}, "--plateau_factor=0.5: needs --schedule=plateau"),
        ({"plateau_patience": 3}, "--plateau_patience=3: needs --schedule=plateau"),
        ({"schedule": "plateau", "plateau_factor": 1.0}, "--plateau_factor=1.0: more than 0, less than 1"),
        ({"schedule": "plateau", "plateau_factor": 0.0}, "--plateau_factor=0.0: more than 0, less than 1"),
        ({"schedule": "plateau", "plateau_patience": 0}, "--plateau_patience=0: must be 1 or more"),
        ({"schedule": "plateau", "monitor": "last"}, "--monitor=last: a metric, as --monitor=val_loss"),
        ({"monitor": "val_auroc"}, "--monitor=val_auroc: must be one of val_loss, val_auc, last"),
        ({"monitor": "loss"}, "--monitor=loss: must be one of val_loss"),
        ({"jit_compile": "yes"}, "--jit_compile=yes: must be one of auto, on, off"),
        ({"label_smoothing": 1.0}, "--label_smoothing=1.0: must be from 0 to less than 1"),
        ({"label_smoothing": -0.1}, "--label_smoothing=-0.1: must be from 0 to less than 1"),
        ({"label_smoothing": float("nan")}, "--label_smoothing=nan: must be from 0 to less than 1"),
        ({"mixup": -0.2}, "--mixup=-0.2: must be 0, or from 0.01 to 100"),
        ({"mixup": 101.0}, "--mixup=101: must be 0, or from 0.01 to 100"),
        ({"mixup": float("nan")}, "--mixup=nan: must be 0, or from 0.01 to 100"),
        ({"mixup": 0.2, "global_batch_size": 7}, "--mixup=0.2: pairs --global_batch_size=7 even; example 8"),
        ({"warmup_epochs": -1}, "--warmup_epochs=-1: must be 0 or more"),
        ({"warmup_epochs": 2}, "--warmup_epochs=2: needs --schedule=cosine"),
        (
            {"schedule": "cosine", "epochs": 5, "warmup_epochs": 5},
            "--warmup_epochs=5: must be less than --epochs=5",
        ),
        ({"checkpoint_steps": -1}, "--checkpoint_steps=-1: must be 0 or more"),
        ({"checkpoint_minutes": -0.5}, "--checkpoint_minutes=-0.5: must be 0 or more"),
        ({"checkpoint_minutes": float("nan")}, "--checkpoint_minutes=nan: must be 0 or more"),
        (
            {"precision": "int8"},
            "--precision=int8: must be one of auto, float32, bfloat16, float16",
        ),
        ({"epochs": 0}, "--epochs=0: must be 1 or more"),
        ({"patience": 0}, "--patience=0: must be 1 or more"),
        ({"keep": 0}, "--keep=0: must be 1 or more"),
        ({"learning_rate": 0.0}, "--learning_rate=0.0: must be more than 0"),
        ({"learning_rate": -1e-3}, "--learning_rate=-0.001: must be more than 0"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan: must be more than 0"),
        ({"logical_cpus": -1}, "--logical_cpus=-1: must be 0 or more"),
        ({"min_delta": -0.1}, "--min_delta=-0.1: must be 0 or more"),
        ({"devices": (0, 0)}, "--devices=0,0: must be different indices, as 0,1"),
        ({"devices": (-1,)}, "--devices=-1: must be different indices, as 0,1"),
        (
            {"devices": (0, 1)},
            "--devices=0,1: --strategy=one_device takes one; use --strategy=mirrored",
        ),
        ({"global_batch_size": 0}, "--global_batch_size=0: must be 1 or more"),
        ({"cache": "ssd"}, "--cache=ssd: must be one of auto, device, disk, memory, stream"),
        ({"last_batch": "pad"}, "--last_batch=pad: must be one of wrap, drop"),
        ({"seed": -1}, "--seed=-1: must be 0 or more"),
        ({"ram_budget": -1}, "--ram_budget=-1: must be 0 or more"),
        ({"log_steps": -1}, "--log_steps=-1: must be 0 or more"),
        ({"profile_steps": (3,)}, "--profile_steps=3: must be two steps A,B"),
        ({"profile_steps": (3, 4, 5)}, "--profile_steps=3,4,5: must be two steps A,B"),
        ({"profile_steps": (4, 4)}, "--profile_steps=4,4: must be two steps A,B"),
        ({"profile_steps": (0, 1001)}, "--profile_steps=0,1001: profile 1,000 steps at most"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(changes, message, facts):
    with pytest.raises(InputError) as error:
        config(**changes)
    assert re.search(facts(message), str(error.value))


def test_defaults_are_the_notebooks():
    c = config()
    assert (c.epochs, c.patience, c.min_delta, c.pipeline.global_batch_size) == (100, 20, 0.001, 32)
    assert (c.strategy, c.precision, c.class_weights, c.deterministic) == ("one_device", "auto", False, False)


def test_mirrored_takes_several_devices():
    assert config(strategy="mirrored", devices=(1, 0)).devices == (1, 0)


def test_json_gives_the_same_configuration():
    c = config(strategy="mirrored", devices=(0, 2), learning_rate=3e-4, class_weights=True, seed=7)
    assert TrainConfig.from_json(json.loads(json.dumps(c.to_json()))) == c


def test_pipeline_gets_its_options():
    c = config(global_batch_size=64, cache="stream", ram_budget=5 << 20, last_batch="drop", seed=3)
    assert c.pipeline == PipelineOptions(
        global_batch_size=64, cache="stream", ram_budget=5 << 20, last_batch="drop", seed=3
    )


def test_what_may_change_in_a_run_is_of_the_configuration():
    assert config().values().keys() >= FREE_TO_CHANGE
    assert config().free_to_change == FREE_TO_CHANGE
    assert FREE_TO_CHANGE - config(schedule="cosine").free_to_change == {"epochs"}  # the cosine's end


def test_arguments_of_a_model_are_read_and_kept():
    args = parse_model_args(["units=64", "dropout=0.5"])
    assert args == (("dropout", 0.5), ("units", 64))
    made = config(model="mlp", model_args=args)
    assert TrainConfig.from_json(json.loads(json.dumps(made.to_json()))) == made
    before = made.to_json()
    del before["model_args"]  # of a version that had none
    assert TrainConfig.from_json(before).model_args == ()
    assert "model_args" not in made.free_to_change


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["units"], "--model_args=units: must be NAME=VALUE"),
        (["=3"], "--model_args==3: must be NAME=VALUE"),
        (["units=1", "units=2"], "units is given twice"),
        (["depth=3"], "--model_args=depth=3: mlp has no such argument; it has units, dropout"),
        (["units=0"], "--model_args=units=0: must be a whole number, 1 or more"),
        (["units=1.5"], "--model_args=units=1.5: must be a whole number"),
        (["units=true"], "--model_args=units=True: must be a whole number"),
        (["units=many"], "--model_args=units=many: must be a whole number"),
        (["dropout=1"], "--model_args=dropout=1: must be from 0 to less than 1"),
        (["dropout=nan"], "--model_args=dropout=nan: must be from 0 to less than 1"),
        (["dropout=true"], "--model_args=dropout=True: must be from 0"),
    ],
)
def test_arguments_of_a_model_that_are_refused(texts, said):
    with pytest.raises(InputError) as error:
        config(model="mlp", model_args=parse_model_args(texts))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("positive", "COVID"),
        ("shuffle_window", 1 << 20),
        ("log_steps", 0),
        ("log_steps", 50),
        ("profile_steps", (3, 9)),
        ("sampling", "group"),
        ("monitor", "val_auc"),
        ("label_smoothing", 0.1),
        ("mixup", 0.2),
        ("jit_compile", "on"),
        ("recipe", "notebook"),
        ("from_recipe", ("epochs", "model")),
    ],
)
def test_later_fields_are_kept_only_where_they_are_no_default(name, value):
    """So that the files of earlier runs and searches stay as they are."""
    assert name not in config().to_stored()
    chosen = config(**{name: value})
    assert chosen.to_stored() == {**config().to_stored(), name: value}
    for each in (config(), chosen):
        assert TrainConfig.from_json(json.loads(json.dumps(each.to_stored()))) == each


@pytest.mark.parametrize("sampling", ["class", "group", "weights.csv"])
def test_class_weights_are_not_those_of_a_sample(sampling):
    assert "sampling" not in config().free_to_change
    assert "sampling_sha256" not in config().free_to_change
    with pytest.raises(InputError) as error:
        config(class_weights=True, sampling=sampling)
    for word in ("--class_weights", f"--sampling={sampling}", "leave one out"):
        assert word in str(error.value)


def test_values_are_flat_and_make_the_configuration_again():
    c = config(cache="disk", seed=4, data_url="s3://a/b", model="mlp", model_args=(("units", 8),))
    assert c.seed == c.pipeline.seed == 4
    assert TrainConfig.of(**c.values()) == c
    assert c.changed(seed=5, epochs=7).changed(seed=4, epochs=100) == c
    with pytest.raises(InputError, match="--copies=two"):
        c.changed(copies="two")


@pytest.mark.parametrize(
    ("url", "remote", "at"), [("s3://a", "direct", "s3://a"), ("s3://a", "fetch", ""), ("", "direct", "")]
)
def test_where_shards_are_read_follows_from_the_url(url, remote, at):
    c = config(data_url=url, remote=remote)
    assert (c.pipeline.shards_at, c.direct) == (at, bool(at))
    assert TrainConfig.from_json(json.loads(json.dumps(c.to_stored()))) == c
    with pytest.raises(ValueError, match="shards_at"):
        replace(c, pipeline=PipelineOptions(shards_at="s3://elsewhere"))


@pytest.mark.parametrize(("mixup", "augment", "keyed"), [(0, "none", 0), (0.2, "none", 1), (0, "light", 1)])
def test_batches_have_keys_if_a_step_draws_from_them(mixup, augment, keyed):
    assert config(mixup=float(mixup), augment=augment).pipeline.keyed == bool(keyed)
    with pytest.raises(ValueError, match="keys"):
        replace(config(), pipeline=PipelineOptions(keys=True))


def test_pairs_must_lie_within_a_replica():
    check_rows(config(mixup=0.2, global_batch_size=12), 6)
    check_rows(config(global_batch_size=12), 3)
    with pytest.raises(InputError) as error:
        check_rows(config(mixup=0.2, global_batch_size=12), 3)
    for said in ("--global_batch_size=12", "3 records", "--mixup=0.2", "for example 16"):
        assert said in str(error.value)


def test_a_run_keeps_what_decides_its_best_epoch():
    fixed = ("monitor", "label_smoothing", "mixup", "jit_compile", "plateau_factor", "plateau_patience")
    assert not set(fixed) & config(schedule="plateau").free_to_change
    assert {"recipe", "epochs"} <= config(schedule="plateau").free_to_change
