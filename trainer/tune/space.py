"""The search space: makes KerasTuner's HyperParameters of --space and checks all that it can give."""

import importlib
import random
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.models.registry import MODELS, check_model, is_function
from trainer.tune.show.overview import Parameter, Value
from trainer.tune.space_file import ARGS, NOTEBOOK, of_file, read_file

# Fields of a TrainConfig, and flags of the same names, that change what a training learns.
SEARCHABLE: Final = (
    *("model", "learning_rate", "schedule", "warmup_epochs", "global_batch_size", "class_weights"),
    *("copies", "augment", "precision", "last_batch", "patience", "min_delta"),
    *("plateau_factor", "plateau_patience", "label_smoothing", "mixup"),
    *("optimizer", "weight_decay", "clip_norm", "ema", "sampling", "normalize"),
    *("unfreeze_epoch", "backbone_learning_rate"),
)
# The search of the notebook's last cell; see https://keras.io/keras_tuner/.
_NOTEBOOK_SPACE: Final[Mapping[str, Any]] = {
    "learning_rate": {"type": "float", "min": 1e-4, "max": 1e-2, "log": True},
    "model_args": {
        "filters_1": {"type": "int", "min": 32, "max": 128, "step": 16},
        "filters_2": {"type": "int", "min": 32, "max": 256, "step": 16},
        "filters_3": {"type": "int", "min": 32, "max": 256, "step": 16},
        **{f"kernel_{number}": {"type": "choice", "values": [3, 5]} for number in (1, 2, 3)},
        "units": {"type": "int", "min": 32, "max": 128, "step": 16},
    },
}
_SPEED: Final = ". It changes the speed only: python -m data_pipeline.tune searches that"
_WHY_NOT: Final = dict.fromkeys(("cache", "prefetch", "parallel_reads", "threads"), _SPEED) | {
    "epochs": ". --epochs is a trial's limit",
    "seed": ". The search gives each trial a seed of its own",
}
_SAMPLES: Final = 200  # draws that are tried before a search starts
_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def load_space(text: str, config: TrainConfig) -> Any:
    """Returns the HyperParameters that --space names, checked by the trainer's own rules.

    Args:
        text: "notebook", a YAML or JSON file, or `package.module:function`.
        config: of the trials, for what is not searched.

    Raises:
        InputError: there is no such space, or the trainer does not accept a value that it can give.
    """
    if text == NOTEBOOK:
        hyperparameters = of_file(_NOTEBOOK_SPACE, f"--space={NOTEBOOK}")
    elif _FUNCTION.fullmatch(text) and not Path(text).exists():
        hyperparameters = _of_function(text)
    else:
        hyperparameters = of_file(read_file(Path(text)), f"--space={text}")
    _check(hyperparameters, config, f"--space={text}")
    return hyperparameters


def with_values(config: TrainConfig, values: Mapping[str, Value]) -> TrainConfig:
    """Returns the configuration with the values of a trial.

    Raises:
        InputError: the trainer does not accept them.
    """
    fields = {name: value for name, value in values.items() if not name.startswith(ARGS)}
    args = dict(config.model_args) | {
        name.removeprefix(ARGS): value for name, value in values.items() if name.startswith(ARGS)
    }
    searched = {name.partition(".")[0] for name in values}
    of_recipe = tuple(name for name in config.from_recipe if name not in searched)
    return config.changed(**fields, from_recipe=of_recipe, model_args=tuple(sorted(args.items())))


def parameters_of(space: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Returns the hyperparameters that are searched, from `get_config`; each name once."""
    found: dict[str, Parameter] = {}
    for entry in space["space"]:
        config, kind = entry["config"], entry["class_name"].lower()
        name = config["name"]
        if kind == "fixed" or name in found:
            continue
        log = config.get("sampling") in ("log", "reverse_log")
        if kind in ("int", "float"):
            values = (config["min_value"], config["max_value"])
        else:
            values = tuple(config["values"]) if kind == "choice" else (False, True)
        found[name] = Parameter(name, kind, values, log)
    return tuple(found.values())


def _of_function(text: str) -> Any:
    """Calls a user's function with empty HyperParameters, and returns them filled."""
    import keras_tuner

    module, _, name = text.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` finds modules in the folder it is started in
    hyperparameters = keras_tuner.HyperParameters()
    try:
        function: Callable[[Any], Any] = getattr(importlib.import_module(module), name)
        function(hyperparameters)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"--space={text}: {type(error).__name__}: {error} ({last.filename}, line {last.lineno}); must be "
            f"a function that is given keras_tuner.HyperParameters and adds what is searched"
        ) from error
    return hyperparameters


def _check(hyperparameters: Any, config: TrainConfig, source: str) -> None:
    """Raises InputError unless the trainer accepts the ends of each range and many random draws."""
    if not parameters_of(hyperparameters.get_config()):
        raise InputError(f"{source}: nothing is searched; a function calls Int, Float, Choice or Boolean")
    models = {config.model, *(m for e in hyperparameters.space if e.name == "model" for m in _ends(e))}
    for entry in hyperparameters.space:
        _check_name(entry.name, source, any_argument=any(map(is_function, models)))
        for value in _ends(entry):
            _check_value(entry, value, config, source)
    draw = random.Random(0)
    seen: set[str] = set()
    for entry in hyperparameters.space:
        for value in _ends(entry):
            seen |= _try(_drawn(hyperparameters.space, draw, entry, value), config, source)
    for _ in range(_SAMPLES):
        seen |= _try(_drawn(hyperparameters.space, draw), config, source)
    if never := [entry for entry in hyperparameters.space if entry.name not in seen]:
        conditions = " and ".join(f"{parent.name} of {parent.values}" for parent in never[0].conditions)
        raise InputError(f"{source}: {never[0].name}: is never searched, for never is {conditions}")


def _check_name(name: str, source: str, *, any_argument: bool) -> None:
    known = {argument for model in MODELS.values() for argument in model.args}
    if name.startswith(ARGS):
        if not any_argument and name.removeprefix(ARGS) not in known:
            raise InputError(f"{source}: {name}: no model has it; there are {', '.join(sorted(known))}")
    elif name not in SEARCHABLE:
        raise InputError(
            f"{source}: {name}: is not searched; {', '.join(SEARCHABLE)}, and arguments of models as "
            f"{ARGS}NAME are{_WHY_NOT.get(name, '')}"
        )


def _check_value(entry: Any, value: Value, config: TrainConfig, source: str) -> None:
    """Raises InputError unless a value has the type of its flag."""
    if not isinstance(value, str) and not abs(value) <= sys.float_info.max:
        raise InputError(f"{source}: {entry.name}={value!r}: must be a finite number")
    if entry.name == "model":  # a TrainConfig also allows trainer.baseline's
        try:
            check_model(str(value))
        except InputError as error:
            raise InputError(f"{source}: {str(error).removeprefix('--')}") from None
    if entry.name == "precision" and value == "auto":
        raise InputError(
            f"{source}: precision=auto: differs from machine to machine; name the precisions to try"
        )
    if entry.name.startswith(ARGS):
        return
    default = config.values()[entry.name]
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    whole = isinstance(default, float) and type(entry).__name__ == "Int"
    if isinstance(value, bool) != isinstance(default, bool) or not isinstance(value, kinds) or whole:
        kind = {bool: "boolean", int: "int, or a choice of whole numbers", str: "choice of words"}
        wanted = kind.get(type(default), "float, or a choice of numbers")
        raise InputError(f"{source}: {entry.name}={value!r}: must be {wanted}, as --{entry.name} is")


def _ends(entry: Any) -> list[Any]:
    """Returns all values of a choice, or both ends of a range."""
    config = entry.get_config()
    if "values" in config:
        return list(config["values"])
    if "min_value" in config:
        return [config["min_value"], config["max_value"]]
    return [config["value"]] if "value" in config else [True, False]


def _drawn(space: Any, draw: random.Random, fixed: Any = None, value: Any = None) -> dict[str, Value]:
    """Returns random values of all active parameters; a fixed one brings the values that activate it."""
    import keras_tuner

    wanted = {fixed.name: value} if fixed else {}
    for entry in reversed(space):
        if entry is fixed or (entry.name in wanted and entry.name != fixed.name):
            for condition in entry.conditions:
                wanted.setdefault(condition.name, condition.values[0])
    made = keras_tuner.HyperParameters()
    for entry in space:
        made.merge([entry])
        if made.is_active(entry):
            ends, value = _ends(entry), wanted.get(entry.name)
            can = value in ends or (type(entry).__name__ == "Int" and value in range(ends[0], ends[1] + 1))
            made.values[entry.name] = value if can else entry.random_sample(draw.randrange(1 << 30))
    return dict(made.values)


def _try(values: Mapping[str, Value], config: TrainConfig, source: str) -> set[str]:
    try:
        with_values(config, values)
    except InputError as error:
        shown = ", ".join(f"{name}={value}" for name, value in values.items())
        raise InputError(f"{source}: {error} (for {shown})") from None
    return set(values)
