"""pipeline.json, beside the manifest: the options that `data_pipeline.tune` found best for a data set."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from data_pipeline.options import SPEED_ONLY, PipelineOptions
from tfrecords.errors import InputError
from tfrecords.files.atomic import write_atomically
from tfrecords.manifest import PIPELINE_NAME, Manifest

# "cache" is the strongest of them, and the only one that can change the order of records.
TUNED: Final = ("cache", *SPEED_ONLY)

Settings = Mapping[str, str | int]


def load_settings(directory: Path, manifest: Manifest) -> Settings:
    """Returns the best options of a data set by name; {} if there is no pipeline.json.

    Raises:
        InputError: the file is damaged, belongs to another conversion, or has a value that is not allowed.
    """
    path = directory / PIPELINE_NAME
    try:
        content = json.loads(path.read_bytes())
        plan, options = content["plan"], dict(content["options"])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; {_fix(directory)}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error!r}); {_fix(directory)}") from None
    if plan != manifest.plan:
        raise InputError(f"{path}: belongs to another conversion than the manifest; {_fix(directory)}")
    for name, value in options.items():
        if name not in TUNED:
            allowed = ", ".join(TUNED)
            raise InputError(f"{path}: has the option {name!r}, allowed are {allowed}; {_fix(directory)}")
        # bool is an int in Python.
        if type(value) is not (str if name == "cache" else int):
            kind = "text" if name == "cache" else "a whole number"
            raise InputError(f"{path}: {name} is {value!r}, must be {kind}; {_fix(directory)}")
    try:
        checked = replace(PipelineOptions(), **options)
    except InputError as error:
        raise InputError(f"{path}: {error}; {_fix(directory)}") from None
    return {name: getattr(checked, name) for name in options}


def save_settings(directory: Path, manifest: Manifest, settings: Settings, found: Mapping[str, Any]) -> Path:
    """Writes pipeline.json, atomically, and returns its path.

    Args:
        directory: of the data set.
        manifest: of it.
        settings: options that differ from the defaults.
        found: how they were found, for whoever reads the file; plain values.

    Raises:
        InputError: it cannot be written.
    """
    content = {"plan": manifest.plan, "options": dict(settings), "found": dict(found)}
    path = directory / PIPELINE_NAME
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def in_words(settings: Settings) -> str:
    """Returns the options as flags, `--prefetch=8 --threads=2`; "the defaults" if there are none."""
    return " ".join(f"--{name}={value}" for name, value in settings.items()) or "the defaults"


def _fix(directory: Path) -> str:
    return f"remove it, or write it again with\n  python -m data_pipeline.tune --data={directory}"
