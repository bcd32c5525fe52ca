"""What is searched: a file, a name or a function becomes KerasTuner's HyperParameters, checked first."""

import importlib
import json
import random
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tfrecords.errors import InputError
from trainer.config import MODEL_ARGS, MODELS, TrainConfig
from trainer.tune.show.overview import Parameter, Value

if TYPE_CHECKING:
    import yaml

NOTEBOOK: Final = "notebook"
ARGS: Final = "model_args."  # before the name of a model's argument
# Fields of a TrainConfig, and flags, that change what a training learns.
SEARCHABLE: Final = (
    *("model", "learning_rate", "schedule", "warmup_epochs", "global_batch_size", "class_weights"),
    *("copies", "augment", "precision", "last_batch", "patience", "min_delta"),
)
# The search of the notebook: https://keras.io/keras_tuner/, as its last cell has it.
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
_KEYS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {  # needed, and allowed besides
    "int": (("min", "max"), ("step", "log", "when")),
    "float": (("min", "max"), ("step", "log", "when")),
    "choice": (("values",), ("when",)),
    "boolean": ((), ("when",)),
}
_SPEED: Final = ". It changes the speed only: python -m data_pipeline.tune searches that"
_WHY_NOT: Final = dict.fromkeys(("cache", "prefetch", "parallel_reads", "threads"), _SPEED) | {
    "epochs": ". --epochs is a trial's limit",
    "seed": ". The search gives each trial a seed of its own",
}
_EXAMPLE: Final = "{type: float, min: 0.0001, max: 0.01, log: true}"
_SAMPLES: Final = 200  # draws that are tried before a search starts
_FUNCTION: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def load_space(text: str, config: TrainConfig) -> Any:
    """Returns the HyperParameters that --space names; each value that it can give is one of the trainer's.

    Args:
        text: "notebook", a YAML or JSON file, or `package.module:function`.
        config: of the trials, where the space says nothing.

    Raises:
        InputError: there is no such space, or the trainer does not take what it gives.
    """
    if text == NOTEBOOK:
        hyperparameters = _of_file(_NOTEBOOK_SPACE, f"--space={NOTEBOOK}")
    elif _FUNCTION.fullmatch(text) and not Path(text).exists():
        hyperparameters = _of_function(text)
    else:
        hyperparameters = _of_file(_read(Path(text)), f"--space={text}")
    _check(hyperparameters, config, f"--space={text}")
    return hyperparameters


def with_values(config: TrainConfig, values: Mapping[str, Value]) -> TrainConfig:
    """Returns the configuration with the values of a trial.

    Raises:
        InputError: the trainer does not take them.
    """
    fields = {name: value for name, value in values.items() if not name.startswith(ARGS)}
    args = dict(config.model_args) | {
        name.removeprefix(ARGS): value for name, value in values.items() if name.startswith(ARGS)
    }
    return replace(config, **fields, model_args=tuple(sorted(args.items())))  # type: ignore[arg-type]  # checked there


def parameters_of(space: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Returns what is searched, from the `get_config` of HyperParameters; a name once."""
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


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise InputError(
            f"--space={path}: {why}; must be {NOTEBOOK}, a YAML or JSON file, or package.module:function"
        ) from None
    import yaml

    try:
        if path.suffix == ".json":
            values = json.loads(text, object_pairs_hook=_once)
        else:
            values = yaml.load(text, _loader())  # a SafeLoader
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"--space={path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(values, Mapping) or not values:
        raise InputError(f"--space={path}: must map names to what is searched, as learning_rate: {_EXAMPLE}")
    return values


def _loader() -> type["yaml.SafeLoader"]:
    """Returns YAML as people write it: 1e-4 is a number, and a name that stands twice is refused."""
    import yaml

    class Loader(yaml.SafeLoader):
        """A safe loader."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            """Refuses a key that stands twice, where YAML takes the last."""
            node = super().compose_mapping_node(anchor)
            keys = [str(key.value) for key, _ in node.value]  # as written: `<<` is not merged yet
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise yaml.YAMLError(f"{twice[0]} stands twice {node.start_mark}")
            return node

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
    )
    return Loader


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a JSON object, refusing a name that stands twice."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} stands twice")
    return dict(pairs)


def _of_file(values: Mapping[str, Any], source: str) -> Any:
    """Makes HyperParameters of what a file has."""
    entries: dict[str, Any] = {}
    for name, entry in values.items():
        if name == "model_args":
            if not isinstance(entry, Mapping):
                raise InputError(f"{source}: model_args={entry!r}: must map arguments, as units: {{...}}")
            found = {f"{ARGS}{argument}": inner for argument, inner in entry.items()}
        else:
            found = {str(name): entry}
        if twice := sorted(found.keys() & entries):
            raise InputError(f"{source}: {twice[0]}: stands twice; give it once")
        entries |= found
    for name, entry in entries.items():
        _check_entry(name, entry, source)
    import keras_tuner

    ordered = _conditions_first(entries, source)
    space = [_made(name, entries[name], _conditions(name, entries, source)) for name in ordered]
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.merge(keras_tuner.HyperParameters.from_config({"space": space, "values": {}}))
    return hyperparameters


def _check_entry(name: str, entry: Any, source: str) -> None:
    """Raises InputError unless an entry has what its type needs, and nothing else."""
    where = f"{source}: {name}"
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}={entry!r}: must say what is searched, as {_EXAMPLE}")
    kind = str(entry.get("type"))
    if kind not in _KEYS:
        raise InputError(f"{where}: type={kind}: must be one of {', '.join(_KEYS)}")
    needed, besides = _KEYS[kind]
    if missing := [key for key in needed if key not in entry]:
        raise InputError(f"{where}: {missing[0]} is missing; {kind} needs {' and '.join(needed)}")
    if unknown := [key for key in entry if key not in ("type", *needed, *besides)]:
        allowed = ", ".join(("type", *needed, *besides))
        raise InputError(f"{where}: {unknown[0]}: {kind} has no such key; it has {allowed}")
    if not isinstance(entry.get("log", False), bool):
        raise InputError(f"{where}: log={entry['log']!r}: must be true or false")
    if kind == "choice":
        _check_choices(entry["values"], where)
    elif kind in ("int", "float"):
        _check_range(entry, kind, where)


def _check_choices(values: Any, where: str) -> None:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise InputError(f"{where}: values={values!r}: must be a list of one value or more")
    if not all(isinstance(value, int | float | str) and not isinstance(value, bool) for value in values):
        why = "must be numbers or words ('on' and 'off' in quotes); of true and false make a boolean"
        raise InputError(f"{where}: values={values!r}: {why}")
    kinds = {type(value) for value in values} - ({int} if float in map(type, values) else set())
    if len(kinds) > 1:
        raise InputError(f"{where}: values={values!r}: must be of one kind; put words into quotes")
    if len(set(values)) < len(values):
        raise InputError(f"{where}: values={values!r}: a value stands twice")


def _check_range(entry: Mapping[str, Any], kind: str, where: str) -> None:
    allowed: Any = int if kind == "int" else int | float
    for key in ("min", "max", "step"):
        value = entry.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, allowed) or not abs(value) <= sys.float_info.max:
            number = "a whole number" if kind == "int" else "a finite number"
            raise InputError(f"{where}: {key}={value!r}: must be {number}")
    low, high, log = entry["min"], entry["max"], entry.get("log", False)
    if not low < high:
        raise InputError(f"{where}: min={low}, max={high}: min must be less than max")
    if log and not low > 0:
        raise InputError(f"{where}: min={low}: must be more than 0 with log: true")
    if (step := entry.get("step")) is None:
        return
    if log and not 1 < step <= high / low:
        most = f"more than 1, and at most max / min = {high / low:g}"
        raise InputError(f"{where}: step={step}: is a factor with log: true, so it must be {most}")
    if not log and not 0 < step <= high - low:
        raise InputError(f"{where}: step={step}: must be more than 0, and at most max - min = {high - low:g}")


def _conditions_first(entries: Mapping[str, Any], source: str) -> list[str]:
    """Returns the names so that each stands after those that its `when` names."""
    ordered: list[str] = []

    def visit(name: str, below: tuple[str, ...]) -> None:
        if name in below:
            raise InputError(f"{source}: {' -> '.join((*below, name))}: `when` goes in a circle")
        if name in ordered:
            return
        for other, _ in _conditions(name, entries, source):
            visit(other, (*below, name))
        ordered.append(name)

    for name in entries:
        visit(name, ())
    return ordered


def _conditions(name: str, entries: Mapping[str, Any], source: str) -> list[tuple[str, list[Value]]]:
    """Returns the parameters that one depends on, each with the values for which it is active."""
    where, when = f"{source}: {name}: when", entries[name].get("when", {})
    if not isinstance(when, Mapping):
        raise InputError(f"{where}={when!r}: must map a name to its values, as model: resnet")
    found = []
    for key, wanted in when.items():
        other = key if key in entries else f"{ARGS}{key}"
        if other not in entries:
            raise InputError(f"{where}: {key}: is not searched; these are {', '.join(entries)}")
        kind = entries[other]["type"]
        if kind not in ("choice", "boolean"):
            raise InputError(f"{where}: {key}: is of type {kind}; must be a choice or a boolean")
        values = list(wanted) if isinstance(wanted, list) else [wanted]
        possible = entries[other]["values"] if kind == "choice" else [True, False]
        for value in values or [wanted]:
            if value not in possible or isinstance(value, bool) != (kind == "boolean"):
                can = ", ".join(map(str, possible))
                raise InputError(f"{where}: {key}={value!r}: is never so; it can be {can}")
        # A Parent makes all of the kind of the first.
        found.append((other, [float(value) for value in values] if float in map(type, possible) else values))
    return found


def _made(name: str, entry: Mapping[str, Any], conditions: list[tuple[str, list[Value]]]) -> dict[str, Any]:
    """Returns a parameter as the `get_config` of HyperParameters has it."""
    # Their conditional_scope finds no parent that has a condition itself, and none inside another scope.
    parents = [{"name": other, "values": values} for other, values in conditions]
    config: dict[str, Any] = {"name": name}
    config["conditions"] = [{"class_name": "Parent", "config": parent} for parent in parents]
    kind = entry["type"]
    if kind == "choice":
        values = entry["values"]
        config["values"] = [float(value) for value in values] if float in map(type, values) else list(values)
    elif kind in ("int", "float"):
        config |= {"min_value": entry["min"], "max_value": entry["max"], "step": entry.get("step")}
        config["sampling"] = "log" if entry.get("log") else "linear"
    return {"class_name": kind.capitalize(), "config": config}


def _of_function(text: str) -> Any:
    """Lets a user's function fill HyperParameters."""
    import keras_tuner

    module, _, name = text.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` finds modules in the folder it is started in
    hyperparameters = keras_tuner.HyperParameters()
    try:
        function: Callable[[Any], Any] = getattr(importlib.import_module(module), name)
        function(hyperparameters)
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"--space={text}: {type(error).__name__}: {error} ({last.filename}, line {last.lineno}); must be "
            f"a function that is given keras_tuner.HyperParameters and adds what is searched"
        ) from error
    return hyperparameters


def _check(hyperparameters: Any, config: TrainConfig, source: str) -> None:
    """Raises InputError unless the trainer takes all values: the ends of each range, and many draws."""
    if not parameters_of(hyperparameters.get_config()):
        raise InputError(f"{source}: nothing is searched; a function calls Int, Float, Choice or Boolean")
    for entry in hyperparameters.space:
        _check_name(entry.name, source)
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


def _check_name(name: str, source: str) -> None:
    known = {argument for args in MODEL_ARGS.values() for argument in args}
    if name.startswith(ARGS):
        if name.removeprefix(ARGS) not in known:
            raise InputError(f"{source}: {name}: no model has it; there are {', '.join(sorted(known))}")
    elif name not in SEARCHABLE:
        raise InputError(
            f"{source}: {name}: is not searched; {', '.join(SEARCHABLE)}, and arguments of models as "
            f"{ARGS}NAME are{_WHY_NOT.get(name, '')}"
        )


def _check_value(entry: Any, value: Value, config: TrainConfig, source: str) -> None:
    """Raises InputError unless a value is of the kind that its flag takes."""
    if not isinstance(value, str) and not abs(value) <= sys.float_info.max:
        raise InputError(f"{source}: {entry.name}={value!r}: must be a finite number")
    if entry.name == "model" and value not in MODELS:  # a TrainConfig has those of trainer.baseline too
        raise InputError(f"{source}: model={value}: must be one of {', '.join(MODELS)}")
    if entry.name.startswith(ARGS):
        return
    default = getattr(config, entry.name)
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    whole = isinstance(default, float) and type(entry).__name__ == "Int"
    if isinstance(value, bool) != isinstance(default, bool) or not isinstance(value, kinds) or whole:
        kind = {bool: "boolean", int: "int, or a choice of whole numbers", str: "choice of words"}
        wanted = kind.get(type(default), "float, or a choice of numbers")
        raise InputError(f"{source}: {entry.name}={value!r}: must be {wanted}, as --{entry.name} is")


def _ends(entry: Any) -> list[Any]:
    """Returns all values of a choice, and the ends of a range."""
    config = entry.get_config()
    if "values" in config:
        return list(config["values"])
    if "min_value" in config:
        return [config["min_value"], config["max_value"]]
    return [config["value"]] if "value" in config else [True, False]


def _drawn(space: Any, draw: random.Random, fixed: Any = None, value: Any = None) -> dict[str, Value]:
    """Returns values of all parameters that are active; if one is fixed, so are its conditions."""
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
