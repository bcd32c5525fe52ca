"""Spaces: what is searched, and the configuration of a trial."""

import json
import re
from pathlib import Path

import pytest
from spaces import AUGMENT, CONFIG, MODEL

from trainer.config import TrainConfig
from trainer.tune.oracles import ask
from trainer.tune.show.overview import Parameter
from trainer.tune.space import NOTEBOOK, load_space, parameters_of, with_values


def test_the_notebooks_space():
    space = load_space(NOTEBOOK, CONFIG)
    assert parameters_of(space.get_config()) == (
        Parameter("learning_rate", "float", (1e-4, 1e-2), log=True),
        Parameter("model_args.filters_1", "int", (32, 128)),
        Parameter("model_args.filters_2", "int", (32, 256)),
        Parameter("model_args.filters_3", "int", (32, 256)),
        *(Parameter(f"model_args.kernel_{number}", "choice", (3, 5)) for number in (1, 2, 3)),
        Parameter("model_args.units", "int", (32, 128)),
    )
    steps = {entry.name: entry.step for entry in space.space if hasattr(entry, "step")}
    sized = ("filters_1", "filters_2", "filters_3", "units")
    assert steps == {"learning_rate": None, **{f"model_args.{name}": 16 for name in sized}}


def test_the_notebooks_space_is_of_the_cnn(refused):
    config = TrainConfig(data="data", run_dir="", model="resnet")
    refused(lambda: load_space(NOTEBOOK, config), ("--space=notebook: ", "filters_1=", "resnet", "width"))


def test_models_of_users_and_the_levers_of_training_are_searched(load):
    space = load(
        "model: {type: choice, values: [cnn, 'keras:MobileNetV3Small', 'mine.nets:small']}\n"
        "model_args: {depth: {type: int, min: 1, max: 3, when: {model: 'mine.nets:small'}}}\n"
        "optimizer: {type: choice, values: [adam, adamw, sgd]}\n"
        "weight_decay: {type: float, min: 1e-4, max: 0.1, log: true}\n"
        "clip_norm: {type: choice, values: [0, 1]}\n"
        "ema: {type: choice, values: [0, 0.99]}\n"
        "label_smoothing: {type: choice, values: [0, 0.1]}\n"
        "mixup: {type: float, min: 0.05, max: 0.4}\n"
        "sampling: {type: choice, values: [natural, class, group]}\n"
        "normalize: {type: choice, values: [none, equalize, blend]}\n"
        "augment: {type: choice, values: [standard, robust]}\n"
    )
    assert {entry.name for entry in space.space} == {
        *("model", "model_args.depth", "optimizer", "weight_decay", "clip_norm", "ema", "label_smoothing"),
        *("mixup", "sampling", "normalize", "augment"),
    }


def test_yaml_is_read_as_people_write_it(load):
    space = load(
        "# of the first week\n"
        "learning_rate: &rate {type: float, min: 1e-4, max: 1E-2, log: true}\n"
        "min_delta: {<<: *rate, max: 1.e-3}\n"
        "patience: {type: int, min: 3, max: 48, step: 2, log: true}\n"
        "class_weights: {type: boolean}\n"
        "augment: {type: choice, values: ['none', light]}\n"
        "model_args:\n"
        "  dropout: {type: choice, values: [0, 0.25, .5]}\n"
    )
    found = parameters_of(space.get_config())
    assert found == (
        Parameter("learning_rate", "float", (1e-4, 1e-2), log=True),
        Parameter("min_delta", "float", (1e-4, 1e-3), log=True),
        Parameter("patience", "int", (3, 48), log=True),
        Parameter("class_weights", "boolean", (False, True)),
        Parameter("augment", "choice", ("none", "light")),
        Parameter("model_args.dropout", "choice", (0.0, 0.25, 0.5)),
    )
    assert {type(value) for value in found[-1].values} == {float}


def test_json_and_yaml_are_the_same_space(load):
    values = {
        "model": {"type": "choice", "values": ["cnn", "mlp"]},
        "learning_rate": {"type": "float", "min": 1e-4, "max": 1e-2, "log": True, "when": {"model": "cnn"}},
        "model_args": {"units": {"type": "int", "min": 8, "max": 64, "step": 8}},
    }
    text = json.dumps(values)
    assert load(text, "space.json").get_config() == load(text).get_config()


def test_a_space_survives_json(load):
    """So that what search.json has is what the same command asks for."""
    space = load(MODEL + "model_args: {width: {type: int, min: 8, max: 16, when: {model: [resnet]}}}")
    assert json.loads(json.dumps(space.get_config())) == space.get_config()


CONDITIONS = {
    "one value": (
        MODEL + "model_args:\n"
        "  width: {type: int, min: 8, max: 16, when: {model: resnet}}\n"
        "  units: {type: int, min: 8, max: 16, when: {model: [cnn]}}\n",
        {
            "model_args.width": lambda values: values["model"] == "resnet",
            "model_args.units": lambda values: values["model"] == "cnn",
        },
    ),
    "some values": (
        "model: {type: choice, values: [mlp, cnn, resnet]}\n"
        "model_args: {units: {type: int, min: 8, max: 16, when: {model: [mlp, cnn]}}}",
        {"model_args.units": lambda values: values["model"] != "resnet"},
    ),
    "a boolean": (
        "class_weights: {type: boolean}\n"
        "min_delta: {type: float, min: 0, max: 1, when: {class_weights: false}}",
        {"min_delta": lambda values: not values["class_weights"]},
    ),
    "an argument, by its short name": (
        "model_args: {kernel_1: {type: choice, values: [3, 5]}}\n"
        "min_delta: {type: float, min: 0, max: 1, when: {kernel_1: 5}}",
        {"min_delta": lambda values: values["model_args.kernel_1"] == 5},
    ),
    "fractions": (
        "model_args: {dropout: {type: choice, values: [0, 0.25, 0.5]}}\n"
        "min_delta: {type: float, min: 0, max: 1, when: {dropout: [0, 0.5]}}",
        {"min_delta": lambda values: values["model_args.dropout"] in (0.0, 0.5)},
    ),
    "two conditions": (
        AUGMENT + "class_weights: {type: boolean}\n"
        "min_delta: {type: float, min: 0, max: 1, when: {augment: light, class_weights: true}}",
        {"min_delta": lambda values: values["augment"] == "light" and values["class_weights"]},
    ),
    "a chain, in any order": (
        "warmup_epochs: {type: int, min: 1, max: 3, when: {schedule: cosine}}\n"
        "schedule: {type: choice, values: [constant, cosine], when: {augment: light}}\n" + AUGMENT,
        {
            "schedule": lambda values: values["augment"] == "light",
            "warmup_epochs": lambda values: values.get("schedule") == "cosine",
        },
    ),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_parameter_is_searched_only_when_it_counts(name, load, make_search, in_memory):
    """KerasTuner's own oracle draws; each trial is one that the trainer takes."""
    text, active = CONDITIONS[name]
    load(text)
    search = make_search(space="space.yaml", oracle="random", parallel=60, max_trials=60)
    lease = in_memory()
    ask(search, lease)
    names = {parameter.name for parameter in search.parameters}
    seen = set()
    for values in [trial.values for trial in search.order(lease.events).trials]:
        with_values(search.config, values)
        for parameter in names:
            wanted = parameter not in active or active[parameter](values)
            assert (parameter in values) == wanted
            seen.add((parameter, wanted))
    assert seen == {(parameter, True) for parameter in names} | {(parameter, False) for parameter in active}


@pytest.mark.parametrize("oracle", ["random", "hyperband"])
def test_a_search_with_conditions_is_the_same_after_a_cut(oracle, load, make_search, in_memory, ended):
    """Each time a fresh oracle is made of the same search."""
    load(CONDITIONS["a chain, in any order"][0])
    search = make_search(space="space.yaml", oracle=oracle, parallel=2)
    before = json.dumps(search.space)
    lease = in_memory()
    ask(search, lease)
    lease.append([ended(0), ended(1)])
    ask(search, lease)
    assert len(search.order(lease.events).trials) == 4
    assert json.dumps(search.space) == before


def test_values_become_the_configuration_of_a_trial():
    config = TrainConfig(data="data", run_dir="", model_args=(("dropout", 0.5), ("units", 8)))
    found = with_values(config, {"learning_rate": 0.1, "model_args.units": 16, "model_args.filters_1": 4})
    assert found == TrainConfig(
        data="data",
        run_dir="",
        learning_rate=0.1,
        model_args=(("dropout", 0.5), ("filters_1", 4), ("units", 16)),
    )


def test_what_is_searched_does_not_come_from_the_recipe():
    config = CONFIG.changed(recipe="notebook", from_recipe=("epochs", "learning_rate", "model_args"))
    assert with_values(config, {"learning_rate": 0.1}).from_recipe == ("epochs", "model_args")
    assert with_values(config, {"model_args.units": 16}).from_recipe == ("epochs", "learning_rate")


def test_the_example_of_the_docs(load):
    page = (Path(__file__).parents[3] / "docs" / "tuning.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert [parameter.name for parameter in parameters_of(load(example).get_config())] == [
        *("learning_rate", "augment", "class_weights", "model"),
        *("model_args.units", "model_args.width"),
    ]


@pytest.mark.parametrize(("low", "high", "step"), [(0.0, 0.5, 0.1), (0.1, 0.7, 0.2), (1e-4, 3e-4, 1e-4)])
def test_the_last_step_of_a_range_is_drawn_too(load, low, high, step):
    """KerasTuner divides, and 0.5 // 0.1 is 4."""
    (entry,) = load(f"min_delta: {{type: float, min: {low}, max: {high}, step: {step}}}").space
    drawn = {entry.random_sample(seed) for seed in range(300)}
    assert max(drawn) == pytest.approx(high)
    assert len(drawn) == round((high - low) / step) + 1
