"""The flags that are shown are those of the real command: parsed, they give the configuration again."""

import json
import shlex
from dataclasses import replace

import pytest

from trainer.config import TrainConfig
from trainer.tune.trials import seed_of
from trainer.tune.winner import flags_of, in_words, winner_flags

# In a process of its own: absl's flags are one global table.
_PARSE = """
import json, sys
from pathlib import Path
from absl import flags
from tfrecords.manifest import Manifest
from trainer.flags.config import config_from_flags

FLAGS, folder = flags.FLAGS, Path(sys.argv[1])
for arguments in json.loads(sys.argv[2]):
    for name in FLAGS:
        FLAGS[name].unparse()
    FLAGS.unparse_flags()
    assert FLAGS(["main", *arguments]) == ["main"]
    print(json.dumps(config_from_flags(folder, Manifest.load(folder)).to_json()))
"""


@pytest.fixture(scope="module")
def parse(run_python, converted):
    """Parses flags of trainer.main, any number of times in one process."""

    def parse(*commands):
        done = run_python("-c", _PARSE, converted, json.dumps(commands))
        assert done.returncode == 0, done.stderr
        return [TrainConfig.from_json(json.loads(line)) for line in done.stdout.splitlines()]

    return parse


CHANGES = [
    {},
    {"model": "mlp", "model_args": (("dropout", 0.25), ("units", 7))},
    {"model": "resnet", "model_args": (("dropout", 0), ("width", 8))},
    {"class_weights": True, "deterministic": True},
    {"learning_rate": 1e-05, "min_delta": 0.1 + 0.2},
    {"learning_rate": 1},  # a choice of numbers may give a whole one
    {"devices": (1,)},
    {"strategy": "mirrored", "devices": (1, 0)},
    {"strategy": "mirrored", "logical_cpus": 2},
    {"schedule": "cosine", "warmup_epochs": 2, "epochs": 7, "patience": 3},
    {"precision": "bfloat16", "cache": "disk", "cache_dir": "a folder/with 'quotes'"},
    {"global_batch_size": 8, "last_batch": "drop", "copies": "one", "augment": "light"},
    {"seed": 2**32 - 1, "keep": 4, "checkpoint_steps": 70, "checkpoint_minutes": 2.5},
    {"ram_budget": 3 << 20, "prefetch": 8, "parallel_reads": 2, "threads": 3, "threads_per_process": 2},
    {"data_url": "s3://bucket/data"},
    {"data_url": "gs://bucket/data", "remote": "direct"},
    {"data_service": "grpc://host:5050"},
]


def test_parsed_flags_give_the_configuration_again(parse, converted):
    configs = [
        TrainConfig.of(data=str(converted), run_dir="runs/drawn", **{"epochs": 9, **change})
        for change in CHANGES
    ]
    for config, found in zip(configs, parse(*map(flags_of, configs)), strict=True):
        assert replace(found, run_dir=config.run_dir) == config


def test_what_is_the_default_is_not_shown():
    assert flags_of(TrainConfig(data="data", run_dir="run")) == ["--data=data"]
    assert flags_of(TrainConfig(data="fetched", run_dir="", data_url="s3://a/b")) == ["--data=s3://a/b"]


def test_what_is_of_this_search_is_not_shown():
    config = TrainConfig(data="data", run_dir="trials/0003", max_minutes=9.0, tuned=("threads",))
    assert flags_of(config) == ["--data=data"]


def test_the_winners_flags_are_its_training(parse, make_search, run_search, converted):
    """Of a promoted trial: the seed of its line, and all the epochs."""
    search = make_search(oracle="hyperband", epochs=3, seed=4)
    config = replace(search.config, data=str(converted), deterministic=True)
    search = replace(search, config=config)
    trials = search.order(run_search(search)).trials
    promoted = next(trial for trial in trials if trial.goes_on_with is not None)
    drawn = trials[promoted.goes_on_with]
    for trial, found in zip(
        (promoted, drawn),
        parse(*(shlex.split(winner_flags(search, trial)) for trial in (promoted, drawn))),
        strict=True,
    ):
        assert found.seed == seed_of(search, trial, 0)
        assert found.epochs == trial.epochs
        assert found.deterministic
        assert found.learning_rate == trial.values["learning_rate"]
        assert {f"model_args.{name}": value for name, value in found.model_args} == {
            name: value for name, value in trial.values.items() if name != "learning_rate"
        }


def test_words_say_how_many_trials_it_was_chosen_from(make_search, run_search):
    search = make_search(oracle="random", max_trials=7, max_failures=9)
    order = search.order(run_search(search, failing=(1, 4)))
    best = order.trials[2]
    words = in_words(search, order, best)
    for said in ("trial 2", "random", "val_loss", f"{best.score:.4g}", "best of 5 trials", "test"):
        assert said in words
