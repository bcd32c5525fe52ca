"""A wrong space is refused by its name, its value and what is allowed."""

import sys

import pytest
from spaces import AUGMENT, CONFIG, MODEL, RATE

from trainer.models.registry import MODELS
from trainer.tune.show.overview import Parameter
from trainer.tune.space import NOTEBOOK, SEARCHABLE, load_space, parameters_of


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # Names.
        (f"learning: {RATE}", ("learning: ", *SEARCHABLE, "model_args.NAME")),
        (f"1: {RATE}", ("1: ", "learning_rate")),
        ("model_args: {unitz: {type: int, min: 1, max: 3}}", ("model_args.unitz", "units", "width")),
        ("model_args: {1: {type: int, min: 1, max: 3}}", ("model_args.1", "units")),
        ("epochs: {type: int, min: 1, max: 5}", ("epochs: ", "learning_rate", "--epochs")),
        ("seed: {type: int, min: 1, max: 5}", ("seed: ", "learning_rate", "a seed of its own")),
        ("cache: {type: choice, values: ['off', disk]}", ("cache: ", "python -m data_pipeline.tune")),
        ("threads: {type: int, min: 1, max: 5}", ("threads: ", "python -m data_pipeline.tune")),
        ("run_dir: {type: choice, values: [a, b]}", ("run_dir: ", "learning_rate")),
        ("data: {type: choice, values: [a, b]}", ("data: ", "learning_rate")),
        # Names that stand twice.
        (f"learning_rate: {RATE}\nlearning_rate: {RATE}", ("learning_rate occurs twice", "line 1")),
        (f"learning_rate: {RATE}\n'learning_rate': {RATE}", "learning_rate occurs twice"),
        ("patience: {type: int, min: 1, max: 3, min: 2}", "min occurs twice"),
        (
            "model_args: {units: {type: int, min: 1, max: 3}}\nmodel_args.units: {type: int, min: 1, max: 9}",
            "model_args.units: occurs twice",
        ),
        # Types and keys.
        ("learning_rate: {type: double, min: 1, max: 2}", ("type=double", "int, float, choice, boolean")),
        ("learning_rate: {type: [float], min: 1, max: 2}", ("type=['float']", "int, float, choice, boolean")),
        ("learning_rate: {min: 0.1, max: 0.2}", ("type=None", "int, float, choice, boolean")),
        ("learning_rate: {type: float, max: 1}", ("min is missing", "min and max")),
        ("learning_rate: {type: float, min: 1}", ("max is missing", "min and max")),
        ("augment: {type: choice}", ("values is missing", "choice")),
        (
            "learning_rate: {type: float, min: 1, max: 2, sampling: log}",
            ("sampling: ", "min, max, step, log, when"),
        ),
        ("augment: {type: choice, values: [none, light], log: true}", ("log: ", "type, values, when")),
        ("class_weights: {type: boolean, values: [true]}", ("values: ", "type, when")),
        ("learning_rate: {type: float, min: 1, max: 2, log: 1}", ("log=1", "true or false")),
        ("learning_rate: 0.1", ("learning_rate=0.1", "type: float")),
        ("learning_rate: [0.1, 0.2]", ("learning_rate=[0.1, 0.2]", "type: float")),
        ("learning_rate:", ("learning_rate=None", "type: float")),
        ("model_args: 3", ("model_args=3", "units")),
        ("model_args: {units: 64}", ("model_args.units=64", "type: float")),
        ("model_args: {}", "nothing is searched"),
        # Ranges.
        ("learning_rate: {type: float, min: 0.2, max: 0.1}", ("min=0.2", "max=0.1", "less than max")),
        ("learning_rate: {type: float, min: 0.2, max: 0.2}", ("min=0.2", "max=0.2", "less than max")),
        ("learning_rate: {type: float, min: 0, max: 0.2, log: true}", ("min=0", "more than 0")),
        ("learning_rate: {type: float, min: -1, max: 0.2, log: true}", ("min=-1", "more than 0")),
        ("learning_rate: {type: float, min: 0.1, max: 0.2, step: 0}", ("step=0", "more than 0", "0.1")),
        ("learning_rate: {type: float, min: 0.1, max: 0.2, step: -1}", ("step=-1", "more than 0", "0.1")),
        ("learning_rate: {type: float, min: 0.1, max: 0.2, step: 5}", ("step=5", "at most", "0.1")),
        ("learning_rate: {type: float, min: 1, max: 8, step: 1, log: true}", ("step=1:", "more than 1")),
        ("learning_rate: {type: float, min: 1, max: 8, step: 9, log: true}", ("step=9", "at most", "= 8")),
        ("patience: {type: int, min: 1, max: 20, step: 1.5}", ("step=1.5", "a whole number")),
        ("patience: {type: int, min: 1.5, max: 20}", ("min=1.5", "a whole number")),
        ("learning_rate: {type: float, min: low, max: 0.2}", ("min='low'", "number")),
        ("learning_rate: {type: float, min: true, max: 2}", ("min=True", "number")),
        ("learning_rate: {type: float, min: 0.1, max:}", ("max=None", "number")),
        ("learning_rate: {type: float, min: 0.1, max: 0.2, step:}", ("step=None", "number")),
        ("learning_rate: {type: float, min: .nan, max: 2}", ("min=nan", "finite")),
        ("learning_rate: {type: float, min: 0.1, max: .inf}", ("max=inf", "finite")),
        ("min_delta: {type: float, min: -.inf, max: 1}", ("min=-inf", "finite")),
        ("learning_rate: {type: float, min: 0.1, max: 0.2, step: .nan}", ("step=nan", "finite")),
        (f"patience: {{type: int, min: 1, max: 1{400 * '0'}}}", ("max=1000", "a whole number")),
        # Choices.
        ("augment: {type: choice, values: []}", ("values=[]", "list")),
        ("augment: {type: choice, values: light}", ("values='light'", "list")),
        ("augment: {type: choice, values: {light: 1}}", ("values={'light': 1}", "list")),
        ("learning_rate: {type: choice, values: [0.1, high]}", ("values=[0.1, 'high']", "one kind")),
        ("learning_rate: {type: choice, values: [0.1, null]}", ("values=[0.1, None]", "numbers")),
        ("learning_rate: {type: choice, values: [[0.1]]}", ("values=[[0.1]]", "numbers")),
        ("learning_rate: {type: choice, values: [0.1, 0.1]}", ("values=[0.1, 0.1]", "twice")),
        ("learning_rate: {type: choice, values: [1, 1.0]}", ("values=[1, 1.0]", "twice")),
        ("augment: {type: choice, values: [none, off]}", ("values=['none', False]", "quotes", "boolean")),
        ("class_weights: {type: choice, values: [true, false]}", ("values=[True, False]", "boolean")),
        ("min_delta: {type: choice, values: [.inf, 0.1]}", ("min_delta=inf", "finite")),
        ("min_delta: {type: choice, values: [.nan, 0.1]}", ("min_delta=nan", "finite")),
        ("model_args: {dropout: {type: choice, values: [.nan]}}", ("model_args.dropout=nan", "finite")),
        # Kinds that their flags do not take.
        ("learning_rate: {type: int, min: 1, max: 2}", ("learning_rate=1", "float", "--learning_rate")),
        ("patience: {type: float, min: 1, max: 5}", ("patience=1.0", "int", "--patience")),
        ("patience: {type: choice, values: [1.5, 2]}", ("patience=1.5", "int", "--patience")),
        ("patience: {type: boolean}", ("patience=True", "int", "--patience")),
        ("learning_rate: {type: choice, values: [low]}", ("learning_rate='low'", "float")),
        ("learning_rate: {type: boolean}", ("learning_rate=True", "float")),
        ("class_weights: {type: choice, values: [0, 1]}", ("class_weights=0", "boolean")),
        ("class_weights: {type: choice, values: ['true']}", ("class_weights='true'", "boolean")),
        ("augment: {type: choice, values: [1, 2]}", ("augment=1", "words")),
        ("augment: {type: boolean}", ("augment=True", "words")),
        ("model_args: {units: {type: float, min: 1, max: 5}}", ("units=1.0", "a whole number")),
        ("model_args: {units: {type: choice, values: [many]}}", ("units=many", "a whole number")),
        ("model_args: {units: {type: boolean}}", ("units=True", "a whole number")),
        # Values that trainer.main refuses.
        ("augment: {type: choice, values: [none, nonsense]}", ("augment=nonsense", "none, light")),
        ("precision: {type: choice, values: [float8]}", ("precision=float8", "float32")),
        ("model: {type: choice, values: [cnn, vgg]}", ("model=vgg", ", ".join(MODELS))),
        ("model: {type: choice, values: [cnn, pca_svm]}", ("model=pca_svm", ", ".join(MODELS))),
        ("model_args: {dropout: {type: float, min: 0, max: 1.5}}", ("dropout=1.5", "less than 1")),
        ("model_args: {units: {type: int, min: 0, max: 5}}", ("units=0", "1 or more")),
        ("patience: {type: int, min: 0, max: 5}", ("patience=0", "1 or more")),
        ("global_batch_size: {type: int, min: 0, max: 4}", ("global_batch_size=0", "1 or more")),
        ("learning_rate: {type: float, min: 0, max: 0.1}", ("learning_rate=0.0", "more than 0")),
        ("warmup_epochs: {type: int, min: 0, max: 5}", ("warmup_epochs=5", "--schedule=cosine")),
        (
            "schedule: {type: choice, values: [constant, cosine]}\n"
            "warmup_epochs: {type: int, min: 1, max: 9, when: {schedule: cosine}}",
            ("warmup_epochs=9", "--epochs=9"),
        ),
        ("model_args: {width: {type: int, min: 8, max: 16}}", ("width=8", "cnn", "filters_1")),
        (MODEL + "model_args: {width: {type: int, min: 8, max: 16}}", ("width=", "cnn", "filters_1")),
        (MODEL + "model_args: {units: {type: int, min: 8, max: 16}}", ("units=", "resnet", "width")),
        # Conditions.
        (
            "learning_rate: {type: float, min: 1, max: 2, when: {augment: light}}",
            ("learning_rate: when: augment: ", "these are learning_rate"),
        ),
        (
            "patience: {type: int, min: 1, max: 2}\n"
            "learning_rate: {type: float, min: 1, max: 2, when: {patience: 1}}",
            ("learning_rate: when: patience: ", "int", "a choice or a boolean"),
        ),
        (
            AUGMENT + "learning_rate: {type: float, min: 1, max: 2, when: {augment: strong}}",
            ("learning_rate: when: augment='strong'", "none, light"),
        ),
        (
            AUGMENT + "learning_rate: {type: float, min: 1, max: 2, when: {augment: [light, strong]}}",
            ("learning_rate: when: augment='strong'", "none, light"),
        ),
        (
            AUGMENT + "learning_rate: {type: float, min: 1, max: 2, when: {augment: []}}",
            ("learning_rate: when: augment=[]", "none, light"),
        ),
        (
            AUGMENT + "learning_rate: {type: float, min: 1, max: 2, when: {augment: {light: 1}}}",
            ("learning_rate: when: augment={'light': 1}", "none, light"),
        ),
        (
            "class_weights: {type: boolean}\n"
            "learning_rate: {type: float, min: 1, max: 2, when: {class_weights: 1}}",
            ("learning_rate: when: class_weights=1", "True, False"),
        ),
        ("learning_rate: {type: float, min: 1, max: 2, when: light}", ("when='light'", "model: resnet")),
        ("learning_rate: {type: float, min: 1, max: 2, when: [light]}", ("when=['light']", "model: resnet")),
        (
            "augment: {type: choice, values: [none, light], when: {copies: all}}\n"
            "copies: {type: choice, values: [all, one], when: {augment: none}}",
            ("augment -> copies -> augment", "circle"),
        ),
        ("augment: {type: choice, values: [none], when: {augment: none}}", ("augment -> augment", "circle")),
        (
            AUGMENT + "copies: {type: choice, values: [all, one], when: {augment: none}}\n"
            "learning_rate: {type: float, min: 1, max: 2, when: {augment: light, copies: all}}",
            ("learning_rate: is never", "augment", "light", "copies", "all"),
        ),
        # No space at all.
        ("", "must map names"),
        ("# nothing\n", "must map names"),
        ("3", "must map names"),
        ("- learning_rate\n", "must map names"),
        ("{}", "must map names"),
        ("learning_rate: [", "cannot be read"),
        ("\tlearning_rate: 1", ("cannot be read", "line 1")),
        (f"learning_rate: {RATE}\n---\nlearning_rate: {RATE}", ("cannot be read", "line 2")),
        ("a: !!python/object/apply:os.getcwd []", ("cannot be read", "line 1")),
        ("? [a, b]\n: 1", ("cannot be read", "line 1")),
        (1500 * "[", "cannot be read"),
        ("a: \x00", "cannot be read"),
    ],
)
def test_a_wrong_yaml_file_is_refused(load, refused, text, told):
    refused(lambda: load(text), told, ["--space=space.yaml: "])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[1]", "must map names"),
        ("null", "must map names"),
        ("{}", "must map names"),
        (1500 * "[", "cannot be read"),
        ('{"patience": {"type": "int", "min": 1, "max": 3, "max": 4}}', "max occurs twice"),
        (
            '{"patience": {"type": "int", "min": 1, "max": 3}, "patience": {"type": "boolean"}}',
            "patience occurs twice",
        ),
        ('{"min_delta": {"type": "float", "min": 0, "max": Infinity}}', ("max=inf", "finite")),
        ('{"min_delta": {"type": "float", "min": 0, "max": 1e999}}', ("max=inf", "finite")),
        ('{"min_delta": {"type": "choice", "values": [NaN]}}', ("min_delta=nan", "finite")),
        ('{"patience": {"type": "int", "min": "1", "max": 3}}', ("min='1'", "a whole number")),
        ('{"augment": {"type": "choice", "values": ["none", "nonsense"]}}', "augment=nonsense"),
    ],
)
def test_a_wrong_json_file_is_refused(load, refused, text, told):
    refused(lambda: load(text, "space.json"), told, ["--space=space.json: "])


def test_what_is_no_text_file_is_refused(tmp_path, refused):
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04\xff\xfe")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "model.keras", tmp_path / "model.keras" / "x"):
        refused(
            lambda path=path: load_space(str(path), CONFIG),
            f"--space={path}: ",
            [NOTEBOOK, "YAML or JSON", "package.module:function"],
        )


MODULE = """
import sys
import numpy as np

number = 3

def raises(hp):
    raise LookupError("gone")

def leaves(hp):
    sys.exit("usage: something")

def adds_nothing(hp):
    pass

def adds_what_is_fixed(hp):
    hp.Fixed("patience", 3)

def without_argument():
    pass

def unknown(hp):
    hp.Int("unitz", 1, 3)

def an_unknown_argument(hp):
    hp.Int("model_args.unitz", 1, 3)

def scoped(hp):
    with hp.name_scope("model"):
        hp.Int("units", 1, 3)

def min_over_max(hp):
    hp.Int("patience", 3, 1)

def whole(hp):
    hp.Int("learning_rate", 1, 3)

def infinite(hp):
    hp.Float("min_delta", 0.0, float("inf"))

def epochs(hp):
    hp.Int("epochs", 1, 3)

def baseline(hp):
    hp.Choice("model", ["cnn", "pca_svm"])

def bools(hp):
    hp.Choice("class_weights", [True, False])

def fixed_wrong(hp):
    hp.Int("patience", 1, 3)
    hp.Fixed("augment", "nonsense")

def width_always(hp):
    hp.Choice("model", ["cnn", "resnet"])
    hp.Int("model_args.width", 8, 16)

def never(hp):
    hp.Choice("augment", ["none", "light"])
    with hp.conditional_scope("augment", ["strong"]):
        hp.Float("learning_rate", 1e-4, 1e-2)

def right(hp):
    hp.Choice("schedule", ["constant", "cosine"])
    with hp.conditional_scope("schedule", ["cosine"]):
        hp.Int("warmup_epochs", 1, 5)
    with hp.conditional_scope("schedule", ["constant"]):
        hp.Fixed("warmup_epochs", 0)
    hp.Float("learning_rate", np.float64(1e-4), 1e-2, sampling="log")
    hp.Int("model_args.units", 32, 64, step=16)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the current folder, under a name that no other test's has."""
    name = f"space_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("missing", ("AttributeError", "missing", "keras_tuner.HyperParameters")),
        ("number", ("TypeError", "keras_tuner.HyperParameters")),
        ("without_argument", ("TypeError", "keras_tuner.HyperParameters")),
        ("raises", ("LookupError", "gone", "line 8", "keras_tuner.HyperParameters")),
        ("leaves", ("SystemExit", "usage: something", "line 11")),
        ("adds_nothing", ("nothing is searched", "Int, Float, Choice or Boolean")),
        ("adds_what_is_fixed", ("nothing is searched", "Int, Float, Choice or Boolean")),
        ("unknown", ("unitz: ", "learning_rate", "model_args.NAME")),
        ("an_unknown_argument", ("model_args.unitz: ", "units")),
        ("scoped", ("model/units: ", "model_args.NAME")),
        ("min_over_max", ("ValueError", "patience", "3", "1")),
        ("whole", ("learning_rate=1", "float", "--learning_rate")),
        ("infinite", ("min_delta=inf", "finite")),
        ("epochs", ("epochs: ", "--epochs")),
        ("baseline", ("model=pca_svm", ", ".join(MODELS))),
        ("bools", ("class_weights=1", "boolean")),  # KerasTuner makes numbers of them
        ("fixed_wrong", ("augment=nonsense", "none, light")),
        ("width_always", ("width=", "cnn", "filters_1")),
        ("never", ("learning_rate: is never", "augment", "strong")),
    ],
)
def test_a_wrong_function_is_refused(module, refused, function, told):
    name = f"{module}:{function}"
    refused(lambda: load_space(name, CONFIG), told, [f"--space={name}: "])


def test_a_missing_module_is_refused(module, refused):
    for name in ("no_such_module_here:space", "trainer.no_such_module_here:space", f"{module}.inner:space"):
        told = ("ModuleNotFoundError", "a function that is given keras_tuner.HyperParameters")
        refused(lambda name=name: load_space(name, CONFIG), told, [f"--space={name}: "])


def test_a_function_in_the_current_folder_is_found(module):
    found = parameters_of(load_space(f"{module}:right", CONFIG).get_config())
    assert found == (
        Parameter("schedule", "choice", ("constant", "cosine")),
        Parameter("warmup_epochs", "int", (1, 5)),
        Parameter("learning_rate", "float", (1e-4, 1e-2), log=True),
        Parameter("model_args.units", "int", (32, 64)),
    )
