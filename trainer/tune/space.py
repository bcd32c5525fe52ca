"""What is searched: a file, a name or a function becomes KerasTuner's HyperParameters, checked first."""

import importlib
import json
import random
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tfrecords.errors import InputError
from trainer.config import MODEL_ARGS, TrainConfig
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
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"--space={path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(values, Mapping) or not values:
        raise InputError(f"--space={path}: must map names to what is searched, as learning_rate: {_EXAMPLE}")
    return values


def _loader() -> type["yaml.SafeLoader"]:
    """Returns YAML as people write it: 1e-4 is a number, and a name that stands twice is refused."""
    import yaml

    class Loader(yaml.SafeLoader):
        """A safe loader."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            """Refuses a key that stands twice, where YAML takes the last."""
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.YAMLError(f"{key} stands twice {node.start_mark}")
            return super().construct_mapping(node, deep)

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
            entries |= {f"{ARGS}{argument}": inner for argument, inner in entry.items()}
        else:
            entries[str(name)] = entry
    for name, entry in entries.items():
        _check_entry(name, entry, source)
    import keras_tuner

    hyperparameters = keras_tuner.HyperParameters()
    for name in _conditions_first(entries, source):
        _register(hyperparameters, name, entries[name], entries)
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
    if not all(isinstance(value, bool | int | float | str) for value in values):
        raise InputError(f"{where}: values={values!r}: must be numbers, words, or true and false")
    kinds = {type(value) for value in values} - ({int} if float in map(type, values) else set())
    if len(kinds) > 1:
        raise InputError(f"{where}: values={values!r}: must be of one kind; put words into quotes")
    if len(set(values)) < len(values):
        raise InputError(f"{where}: values={values!r}: a value stands twice")


def _check_range(entry: Mapping[str, Any], kind: str, where: str) -> None:
    allowed: tuple[type, ...] = (int,) if kind == "int" else (int, float)
    for key in ("min", "max", "step"):
        value = entry.get(key, 1)
        if (
            isinstance(value, bool)
            or not isinstance(value, allowed)
            or value in (float("inf"), -float("inf"))
        ):
            number = "a whole number" if kind == "int" else "a number"
            raise InputError(f"{where}: {key}={value!r}: must be {number}")
    low, high, log = entry["min"], entry["max"], entry.get("log", False)
    if not low < high:
        raise InputError(f"{where}: min={low}, max={high}: min must be less than max")
    if log and not low > 0:
        raise InputError(f"{where}: min={low}: must be more than 0 with log: true")
    if "step" not in entry:
        return
    step = entry["step"]
    if log and not step > 1:
        raise InputError(f"{where}: step={step}: is a factor with log: true, so it must be more than 1")
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
    when = entries[name].get("when", {})
    if not isinstance(when, Mapping):
        raise InputError(f"{source}: {name}: when={when!r}: must map a name to its values, as model: resnet")
    found = []
    for key, wanted in when.items():
        other = key if key in entries else f"{ARGS}{key}"
        if other not in entries:
            raise InputError(
                f"{source}: {name}: when: {key}: is not searched; these are {', '.join(entries)}"
            )
        kind = entries[other]["type"]
        if kind not in ("choice", "boolean"):
            raise InputError(f"{source}: {name}: when: {key}: is a {kind}; must be a choice or a boolean")
        values = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
        possible = entries[other]["values"] if kind == "choice" else [True, False]
        for value in values:
            if value not in possible:
                raise InputError(
                    f"{source}: {name}: when: {key}={value!r}: is never so; it can be "
                    f"{', '.join(map(str, possible))}"
                )
        found.append((other, values))
    return found


def _register(hyperparameters: Any, name: str, entry: Mapping[str, Any], entries: Mapping[str, Any]) -> None:
    """Adds a parameter to HyperParameters, inside its conditions."""
    with ExitStack() as scopes:
        for other, values in _conditions(name, entries, ""):
            scopes.enter_context(hyperparameters.conditional_scope(other, values))
        kind = entry["type"]
        if kind == "boolean":
            hyperparameters.Boolean(name)
        elif kind == "choice":
            values = entry["values"]
            if any(isinstance(value, float) for value in values):
                values = [float(value) for value in values]
            hyperparameters.Choice(name, list(values))
        else:
            add = hyperparameters.Int if kind == "int" else hyperparameters.Float
            sampling = "log" if entry.get("log") else "linear"
            add(name, entry["min"], entry["max"], step=entry.get("step"), sampling=sampling)


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
    except Exception as error:  # whatever a user's code raises
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"--space={text}: {type(error).__name__}: {error} ({last.filename}, line {last.lineno}); must be "
            f"a function that is given keras_tuner.HyperParameters and adds what is searched"
        ) from error
    if not hyperparameters.space:
        raise InputError(
            f"--space={text}: adds nothing; call Int, Float, Choice or Boolean of what it is given"
        )
    return hyperparameters


def _check(hyperparameters: Any, config: TrainConfig, source: str) -> None:
    """Raises InputError unless the trainer takes all values: the ends of each range, and many draws."""
    known = {argument for args in MODEL_ARGS.values() for argument in args}
    for entry in hyperparameters.space:
        name = entry.name
        if name.startswith(ARGS):
            if name.removeprefix(ARGS) not in known:
                raise InputError(f"{source}: {name}: no model has it; there are {', '.join(sorted(known))}")
        elif name not in SEARCHABLE:
            raise InputError(
                f"{source}: {name}: is not searched; {', '.join(SEARCHABLE)}, and arguments of models as "
                f"{ARGS}NAME are{_why_not(name)}"
            )
        else:
            _check_kind(entry, getattr(config, name), source)
    draw = random.Random(0)
    for entry in hyperparameters.space:
        for value in _ends(entry):
            _try(_drawn(hyperparameters, {entry.name: value}, draw), config, source)
    for _ in range(_SAMPLES):
        _try(_drawn(hyperparameters, {}, draw), config, source)


def _why_not(name: str) -> str:
    if name in ("cache", "prefetch", "parallel_reads", "threads"):
        return ". It changes the speed only: python -m data_pipeline.tune searches that"
    if name == "epochs":
        return ". --epochs is a trial's limit"
    if name == "seed":
        return ". The search gives each trial a seed of its own"
    return ""


def _check_kind(entry: Any, default: Any, source: str) -> None:
    """Raises InputError unless the values of a parameter are of the kind that its flag takes."""
    for value in _ends(entry):
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if isinstance(value, bool) != isinstance(default, bool) or not isinstance(value, kinds):
            kind = {bool: "boolean", int: "int, or a choice of whole numbers", str: "choice of words"}
            raise InputError(
                f"{source}: {entry.name}={value!r}: must be "
                f"{kind.get(type(default), 'float, or a choice of numbers')}, as --{entry.name} is"
            )


def _ends(entry: Any) -> list[Value]:
    """Returns all values of a choice, and the ends of a range."""
    config = entry.get_config()
    if "values" in config:
        return list(config["values"])
    if "min_value" in config:
        return [config["min_value"], config["max_value"]]
    return [config["value"]] if "value" in config else [True, False]


def _drawn(hyperparameters: Any, fixed: Mapping[str, Value], draw: random.Random) -> dict[str, Value]:
    """Returns values of all parameters that are active, where some are fixed, and so are their conditions."""
    import keras_tuner

    wanted = dict(fixed)
    for entry in reversed(hyperparameters.space):
        if entry.name in wanted:
            for condition in entry.conditions:
                wanted.setdefault(condition.name, condition.values[0])
    made = keras_tuner.HyperParameters()
    for entry in hyperparameters.space:
        made.merge([entry])
        if made.is_active(entry):
            made.values[entry.name] = wanted.get(entry.name, entry.random_sample(draw.randrange(1 << 30)))
    return dict(made.values)


def _try(values: Mapping[str, Value], config: TrainConfig, source: str) -> None:
    try:
        with_values(config, values)
    except InputError as error:
        shown = ", ".join(f"{name}={value}" for name, value in values.items())
        raise InputError(f"{source}: {error} (for {shown})") from None
