"""The model of a run with the weights that it starts from: random ones, or a warm start from a file.

Layers are matched by name and by the shapes of their weights. Keras numbers the layers that have no name of
their own over all models of the process (dense_7); here they are numbered within the model, so that the same
architecture matches wherever it was built.
"""

import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfrecords.errors import InputError
from tfrecords.files.atomic import file_sha256
from trainer.config import BASELINES, TrainConfig
from trainer.models.registry import build_model
from trainer.models.sources import FORMS, IMAGENET, MODEL_FILE, NONE, WEIGHTS_FILE
from trainer.models.users import PYTHON, import_module_of
from trainer.run import Run

_SHOWN = 12  # hexadecimal digits of a hash


def with_model_files(config: TrainConfig) -> TrainConfig:
    """Returns the configuration with the hashes of its model's and weights' files.

    A run that is resumed needs the file of the weights no more, so its hash is "" if it is not there.

    Raises:
        InputError: the file of --model, or the module of its function, cannot be found or read; or --weights
            is a run without a model of Keras.
    """
    model = weights = ""
    if config.model.endswith(MODEL_FILE):
        model = _sha256(Path(config.model), f"--model={config.model}")
    elif ":" in config.model and not config.model.startswith(("keras:", PYTHON)):
        import_module_of(config.model)
        module = getattr(sys.modules[config.model.partition(":")[0]], "__file__", None)
        model = _sha256(Path(module), f"--model={config.model}") if module else ""
    if config.weights not in (NONE, IMAGENET) and Path(config.weights).exists():
        file = _weights_file(config.weights)
        weights = _sha256(file, f"--weights={config.weights}") if file.exists() else ""
    return config.changed(model_sha256=model, weights_sha256=weights)


def started_model(
    config: TrainConfig,
    image_shape: tuple[int, int, int],
    classes: int,
    dtype: str,
    begun: Run | None,
    build: Callable[..., Any] | None,
    log: Callable[[str], None],
) -> tuple[keras.Model, dict[str, str]]:
    """Returns the model of a run, and the facts about the weights that it starts from.

    Args:
        config: of the run.
        image_shape: (height, width, channels).
        classes: number of logits.
        dtype: Keras dtype policy.
        begun: the run, if it has checkpoints: then no file is read; None: the weights are those of --weights.
        build: see `build_model`.
        log: called with the names of the layers that have no match.

    Raises:
        InputError: the model cannot be built, or the weights cannot be read or match no layer.
    """
    imagenet = config.weights == IMAGENET
    model = build_model(
        config.model,
        image_shape,
        classes,
        dtype=dtype,
        args=dict(config.model_args),
        imagenet=imagenet and not begun,
        build=build,
    )
    if begun:
        return model, {name: begun.facts[name] for name in ("weights",) if name in begun.facts}
    if imagenet:
        return model, {"weights": "of ImageNet, by Keras; the logits start anew"}
    if config.weights == NONE:
        return model, {}
    given, file = f"--weights={config.weights}", _weights_file(config.weights)
    if not file.exists():
        raise InputError(f"{given}: {file} does not exist; give a file or a run that has ended")
    load = _from_weights if file.name.endswith(WEIGHTS_FILE) else _from_model
    layers = [layer for layer in _layers(model) if layer.weights]
    try:
        matched = load(model, file)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{given}: cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    if not matched:
        raise InputError(
            f"{given}: none of its layers has the name and the shape of a layer of --model={config.model}, "
            f"whose layers are {', '.join(layer.name for layer in layers)}"
        )
    rest = [layer.name for layer in layers if id(layer) not in matched]
    log(f"--weights: {len(rest)} layers match none of {file} and start anew: {', '.join(rest) or 'none'}")
    counts = f"{len(layers) - len(rest)} of {len(layers)} layers, {len(rest)} start anew"
    return model, {"weights": f"{file} (SHA-256 {config.weights_sha256[:_SHOWN]}): {counts}"}


def _weights_file(weights: str) -> Path:
    """Returns the file of --weights; a run's is its model."""
    path = Path(weights)
    if weights.endswith((MODEL_FILE, WEIGHTS_FILE)) or not path.exists():
        return path
    if not path.is_dir():
        raise InputError(f"--weights={weights}: must be {FORMS}")
    run = Run.load(path)
    if run.config.model in BASELINES:
        raise InputError(f"--weights={weights}: {run.config.model} has no layers; give a run of trainer.main")
    import_module_of(run.config.model)
    return run.model


def _sha256(path: Path, given: str) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(f"{given}: cannot be loaded: {path}: {error.strerror or error!r}") from None


def _from_model(model: keras.Model, file: Path) -> set[int]:
    """Sets the weights of layers from a whole model; returns the ids of these layers."""
    source = dict(_named(keras.models.load_model(file, compile=False, safe_mode=True)))
    matched = set()
    for name, layer in _named(model):
        theirs = source.get(name)
        if theirs and _shapes(theirs) == _shapes(layer):
            layer.set_weights(theirs.get_weights())
            matched.add(id(layer))
    return matched


def _from_weights(model: keras.Model, file: Path) -> set[int]:
    """Sets weights from what `save_weights` wrote, of the model or of a model inside it; returns as above.

    Keras does not say what it has loaded, so all weights are NaN before: what is NaN after is not loaded.
    """
    layers = [layer for layer in _layers(model) if layer.weights]
    before = {id(layer): layer.get_weights() for layer in layers}
    for part in (model, *_models(model)):
        for layer in layers:
            layer.set_weights([_blank(each) for each in before[id(layer)]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each mismatch; the log has them in one line
            part.load_weights(file, skip_mismatch=True)
        matched = {id(layer) for layer in layers if not any(np.isnan(w).any() for w in layer.get_weights())}
        for layer in layers:
            if id(layer) not in matched:
                layer.set_weights(before[id(layer)])
        if matched:
            return matched
    return set()


def _blank(values: Any) -> Any:
    return values if values.dtype.kind in "biu" else np.full_like(values, np.nan)


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _named(model: keras.Model) -> Iterator[tuple[tuple[str, int], Any]]:
    """Yields the layers that have weights; those without a name of their own by class, both with a number."""
    counts: Counter[str] = Counter()
    for layer in _layers(model):
        kind = type(layer).__name__.lower()
        own = re.sub(r"_\d+$", "", layer.name).replace("_", "") != kind
        name = layer.name if own else f"<{kind}>"
        counts[name] += 1
        if layer.weights:
            yield (name, counts[name]), layer


def _layers(model: Any) -> Iterator[Any]:
    """Yields the layers of a model, and in place of a model inside it that one's."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _models(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield layer
            yield from _models(layer)
