"""The search space as a YAML or JSON file: read, checked entry by entry, and made into HyperParameters."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tfrecords.errors import InputError
from trainer.tune.show.overview import Value

if TYPE_CHECKING:
    import yaml

NOTEBOOK: Final = "notebook"  # the only built-in space
ARGS: Final = "model_args."  # prefix of the name of a model argument
_KEYS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {  # required keys, and optional ones
    "int": (("min", "max"), ("step", "log", "when")),
    "float": (("min", "max"), ("step", "log", "when")),
    "choice": (("values",), ("when",)),
    "boolean": ((), ("when",)),
}
_EXAMPLE: Final = "{type: float, min: 0.0001, max: 0.01, log: true}"
_ALMOST: Final = 1e-9  # in steps


def read_file(path: Path) -> Mapping[str, Any]:
    """Returns the mapping in a YAML or JSON file.

    Raises:
        InputError: the file cannot be read, or holds no mapping.
    """
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
    """Returns a YAML loader that reads 1e-4 as a number and refuses a key that occurs twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        """A safe loader."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            """Refuses a key that occurs twice; YAML itself takes the last."""
            node = super().compose_mapping_node(anchor)
            keys = [str(key.value) for key, _ in node.value]  # as written, before `<<` is merged
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise yaml.YAMLError(f"{twice[0]} occurs twice {node.start_mark}")
            return node

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
    )
    return Loader


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a JSON object; refuses a name that occurs twice."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} occurs twice")
    return dict(pairs)


def of_file(values: Mapping[str, Any], source: str) -> Any:
    """Returns the HyperParameters that a file describes.

    Raises:
        InputError: an entry is not valid.
    """
    entries: dict[str, Any] = {}
    for name, entry in values.items():
        if name == "model_args":
            if not isinstance(entry, Mapping):
                raise InputError(f"{source}: model_args={entry!r}: must map arguments, as units: {{...}}")
            found = {f"{ARGS}{argument}": inner for argument, inner in entry.items()}
        else:
            found = {str(name): entry}
        if twice := sorted(found.keys() & entries):
            raise InputError(f"{source}: {twice[0]}: occurs twice; give it once")
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
    """Raises InputError unless an entry has the keys that its type requires, and no unknown ones."""
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
        raise InputError(f"{where}: values={values!r}: a value occurs twice")


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
    """Returns the names in such an order that each comes after those in its `when`."""
    ordered: list[str] = []

    def visit(name: str, below: tuple[str, ...]) -> None:
        if name in below:
            raise InputError(
                f"{source}: {' -> '.join((*below, name))}: their `when` form a circle; remove one of them"
            )
        if name in ordered:
            return
        for other, _ in _conditions(name, entries, source):
            visit(other, (*below, name))
        ordered.append(name)

    for name in entries:
        visit(name, ())
    return ordered


def _conditions(name: str, entries: Mapping[str, Any], source: str) -> list[tuple[str, list[Value]]]:
    """Returns the parameters that one depends on, each with the values that make it active."""
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
                raise InputError(f"{where}: {key}={value!r}: is impossible; it can be {can}")
        # KerasTuner's Parent converts all values to the type of the first.
        found.append((other, [float(value) for value in values] if float in map(type, possible) else values))
    return found


def _made(name: str, entry: Mapping[str, Any], conditions: list[tuple[str, list[Value]]]) -> dict[str, Any]:
    """Returns a parameter as the `get_config` of HyperParameters has it."""
    # KerasTuner's conditional_scope fails for a parent that has a condition itself or stands in another
    # scope.
    parents = [{"name": other, "values": values} for other, values in conditions]
    config: dict[str, Any] = {"name": name}
    config["conditions"] = [{"class_name": "Parent", "config": parent} for parent in parents]
    kind = entry["type"]
    if kind == "choice":
        values = entry["values"]
        config["values"] = [float(value) for value in values] if float in map(type, values) else list(values)
    elif kind in ("int", "float"):
        config |= {"min_value": entry["min"], "max_value": _reached(entry), "step": entry.get("step")}
        config["sampling"] = "log" if entry.get("log") else "linear"
    return {"class_name": kind.capitalize(), "config": config}


def _reached(entry: Mapping[str, Any]) -> int | float:
    """Returns the highest value, raised so far that KerasTuner's division reaches the last step.

    Without it rounding would lose that step: 0.5 // 0.1 is 4.
    """
    low, high, step = entry["min"], entry["max"], entry.get("step")
    if step is None or entry["type"] == "int" or entry.get("log"):
        return high
    steps = (high - low) / step
    while abs(steps - round(steps)) < _ALMOST and (high - low) // step < round(steps):
        high = math.nextafter(high, math.inf)
    return high
