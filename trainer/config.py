"""The configuration of a training run: one frozen dataclass, validated when built; imports no TensorFlow."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self

from data_pipeline.options import SPEED_ONLY, PipelineOptions
from tfrecords.errors import InputError
from tfrecords.folds.held_out import Fold
from trainer.checks import (
    PLATEAU,
    check_devices,
    check_loss,
    check_optimizer,
    check_profile_steps,
    check_sampling,
    check_schedule,
)
from trainer.evaluation.metric_table import MONITORS
from trainer.models.registry import ModelArg, check_model, check_model_args, model_args_text, parse_model_args
from trainer.models.sources import check_weights
from trainer.served.rules import ThresholdRule, fixed_temperature

STRATEGIES: Final = ("one_device", "mirrored", "multi_worker")
BASELINES: Final = ("pca_svm", "logistic", "random_forest")  # of trainer.baseline
SCHEDULES: Final = ("constant", "cosine", "plateau")
NORMALIZE: Final = ("none", "equalize", "blend")
JIT_COMPILE: Final = ("auto", "on", "off")
OPTIMIZERS: Final = (  # of Keras, by the names that keras.optimizers.get takes
    *("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lion", "muon", "nadam"),
    *("rmsprop", "schedulefreeadamw", "sgd"),
)
_ARGUMENTS: Final = ("model_args", "optimizer_args")  # NAME=VALUE,... in files
REMOTES: Final = ("fetch", "direct")
PRECISIONS: Final = ("auto", "float32", "bfloat16", "float16")

# What may differ when a run is resumed: how long it trains, and on which devices. These values change the
# result by rounding at most; all others change what the result means.
FREE_TO_CHANGE: Final = frozenset(
    {
        *("epochs", "patience", "strategy", "devices", "logical_cpus"),
        *("keep", "checkpoint_steps", "checkpoint_minutes", "max_minutes", "log_steps", "profile_steps"),
        *("ram_budget", "cache_dir"),  # a run keeps its tier
        *SPEED_ONLY,
        "tuned",
        *("data_url", "remote", "data_service", "callbacks"),
        *("recipe", "from_recipe"),  # names of values, which are compared themselves
        "fold_of",  # a place
        "positive",  # of two classes: the threshold is chosen for it after the training
        "threshold_rule",  # likewise
    }
)
# Fields that came later, with their defaults. A file leaves them out where they have the default, so that the
# files of earlier versions stay as they are.
_LATER: Final[Mapping[str, Any]] = {
    "positive": "",
    "shuffle_window": PipelineOptions.shuffle_window,
    "log_steps": None,
    "profile_steps": (),
    "callbacks": (),
    "weights": "none",
    "weights_sha256": "",
    "model_sha256": "",
    "optimizer": "adam",
    "optimizer_args": "",
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "accumulate": 1,
    "freeze": "",
    "unfreeze_epoch": 0,
    "backbone_learning_rate": 0.0,
    "ema": 0.0,
    "sampling": PipelineOptions.sampling,
    "sampling_sha256": "",
    **PLATEAU,
    "monitor": MONITORS[0],
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "jit_compile": "off",
    "tta_flip": False,
    "tta_shift": 0,
    "temperature": "none",
    "threshold_rule": "",
    "recipe": "",
    "from_recipe": (),
    "fold": "",
    "fold_of": "",
    "normalize": "none",
}


@dataclass(frozen=True)
class TrainConfig:
    """What a run is. The defaults are the notebook's, where it had them.

    Attributes:
        data: folder of the converted data set.
        run_dir: folder of the run.
        pipeline: how the data become batches. Its seed also sets weights and Dropout. With the tier "auto" a
            run keeps the tier that it chose at its first start.
        data_url: where the data set came from, if that was a URL: without user, password and query.
        remote: one of `REMOTES`. With "direct" shards are read from the URL, and `data` holds the manifest
            alone.
        positive: of two classes the one that is looked for, for which the threshold is chosen; "": the class
            that the data set names, or that follows from the names of the classes.
        strategy: one of `STRATEGIES`.
        devices: indices of the devices to use; empty for all.
        logical_cpus: number of devices to split the CPU into, to try out mirrored training; 0: no split.
        model: as --model names it, see `check_model`; or in a run of `trainer.baseline` one of
            `BASELINES`.
        model_args: arguments that differ from the model's defaults, by name.
        weights: what the weights start from, see `check_weights`.
        weights_sha256: of the file that `weights` names, when the run starts; "" without one.
        model_sha256: of the file that `model` names, or that holds its function; "" without one.
        epochs: at most.
        patience: epochs without a better value of `monitor` before training stops.
        min_delta: the least change of that value that counts as better.
        learning_rate: of the optimizer; with a schedule the highest.
        optimizer: one of `OPTIMIZERS`.
        optimizer_args: arguments that differ from the optimizer's defaults, by name.
        weight_decay: share of each weight, times the learning rate, that a step takes away; of biases and
            other vectors it takes none. 0: the optimizer's own default, which is none for most.
        clip_norm: the largest norm of a step's gradient, over all weights and all replicas; 0: no limit.
        accumulate: parts in which each batch is computed, one after the other.
        freeze: regular expression in the names of layers that are not trained, or only from `unfreeze_epoch`
            on; "": all layers are trained.
        unfreeze_epoch: the first epoch in which these are trained, counted from 1; 0: they never are.
        backbone_learning_rate: of these layers once they are trained, relative to `learning_rate` as it
            changes; 0: `learning_rate`.
        ema: how much of the averaged weights each step keeps; the averages are evaluated and saved. 0: the
            weights themselves are.
        schedule: one of `SCHEDULES`; "cosine" falls to 0 at the last of `epochs`; "plateau" falls when
            `monitor` gets no better.
        warmup_epochs: epochs in which the rate rises from 0, step by step; "cosine" only.
        plateau_factor: by which the rate is multiplied each time it falls; "plateau" only.
        plateau_patience: epochs without a better value before it falls; "plateau" only.
        monitor: one of `metric_table.MONITORS`: the metric of an epoch that decides which epoch is kept, when
            training stops and when the rate falls; with "last" the last epoch is kept, and all are trained.
        label_smoothing: share of each training target that is spread equally over all classes.
        mixup: alpha of `data_pipeline.step.soft_targets`; 0: records are not mixed.
        jit_compile: one of `JIT_COMPILE`: whether XLA compiles loss and gradient.
        recipe: name of the recipe that set `from_recipe`; "": none.
        from_recipe: names of the values that the recipe has set.
        precision: one of `PRECISIONS`.
        normalize: one of `NORMALIZE`: how the model makes the tones of images alike; see
            `trainer.models.normalize`.
        class_weights: whether rare classes weigh more in the loss.
        tta_flip: whether the published model averages over the image and its mirror image.
        tta_shift: pixels by which the published model shifts the image, to average over shifts too; 0: none.
        temperature: of the published model: "none", "validation", or the number itself.
        threshold_rule: how the threshold of two classes is found, see `served.rules`; "": youden, or as a
            finished run has it.
        tuned: which options of `pipeline` come from the data set's pipeline.json.
        deterministic: whether the same command gives the same weights, to the bit, at some cost in speed.
        keep: checkpoints kept besides that of the best epoch.
        checkpoint_steps: steps between checkpoints, besides the one of each epoch; 0: none.
        checkpoint_minutes: a checkpoint is due when the last is so many minutes old; 0: never.
        max_minutes: minutes of this start after which the run saves and stops; 0: no limit.
        log_steps: progress and scalars are logged every so many steps of an epoch; 0: only after each epoch;
            None: the length of an epoch decides, see `callbacks.progress.log_steps`.
        profile_steps: (A, B): training steps A to B - 1 of the run, counted from 0, are profiled; (): none.
        callbacks: functions package.module:function, which return Keras callbacks for this configuration.
        fold: I/K: of K folds over train and val, the one that takes the place of val; "": the data's own
            splits.
        fold_of: folder of the conversion that a run with `fold` divides; `data` is the fold's own then.
        threads_per_process: TensorFlow's threads, on which the bits of the weights depend; 0: as many as the
            cores that may be used at the run's first start. The run keeps that number.
        sampling_sha256: of the file that `pipeline.sampling` names, when the run starts; "" without one.
    """

    data: str
    run_dir: str
    pipeline: PipelineOptions = field(default_factory=PipelineOptions)
    strategy: str = "one_device"
    devices: tuple[int, ...] = ()
    logical_cpus: int = 0
    model: str = "cnn"
    model_args: tuple[tuple[str, ModelArg], ...] = ()
    weights: str = "none"
    weights_sha256: str = ""
    model_sha256: str = ""
    epochs: int = 100
    patience: int = 20
    min_delta: float = 0.001
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    optimizer_args: tuple[tuple[str, ModelArg], ...] = ()
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    accumulate: int = 1
    freeze: str = ""
    unfreeze_epoch: int = 0
    backbone_learning_rate: float = 0.0
    ema: float = 0.0
    schedule: str = "constant"
    warmup_epochs: int = 0
    plateau_factor: float = 0.1
    plateau_patience: int = 10
    monitor: str = MONITORS[0]
    label_smoothing: float = 0.0
    mixup: float = 0.0
    jit_compile: str = "off"
    recipe: str = ""
    from_recipe: tuple[str, ...] = ()
    precision: str = "auto"
    normalize: str = "none"
    class_weights: bool = False
    tta_flip: bool = False
    tta_shift: int = 0
    temperature: str = "none"
    threshold_rule: str = ""
    tuned: tuple[str, ...] = ()
    deterministic: bool = False
    keep: int = 2
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 10.0
    max_minutes: float = 0.0
    fold: str = ""
    fold_of: str = ""
    threads_per_process: int = 0
    data_url: str = ""
    remote: str = "fetch"
    positive: str = ""
    log_steps: int | None = None
    profile_steps: tuple[int, ...] = ()
    callbacks: tuple[str, ...] = ()
    sampling_sha256: str = ""

    def __post_init__(self) -> None:
        choices = {
            "strategy": STRATEGIES,
            "schedule": SCHEDULES,
            "optimizer": OPTIMIZERS,
            "remote": REMOTES,
            "precision": PRECISIONS,
            "normalize": NORMALIZE,
            "monitor": MONITORS,
            "jit_compile": JIT_COMPILE,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"--{name}={getattr(self, name)}: must be one of {', '.join(allowed)}")
        for name in ("epochs", "patience", "keep", "accumulate"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}={getattr(self, name)}: must be 1 or more")
        if not self.learning_rate > 0:
            raise InputError(f"--learning_rate={self.learning_rate}: must be more than 0")
        self._check_not_negative()
        check_devices(self)
        check_schedule(self)
        check_loss(self)
        if self.pipeline.keys != _keys(self.mixup, self.normalize):
            raise ValueError(f"keys={self.pipeline.keys} does not follow from mixup and normalize")
        check_profile_steps(self)
        for name in self.callbacks:
            if not re.fullmatch(r"[\w.]+:\w+", name):
                raise InputError(f"--callbacks={name}: must be package.module:function")
        check_sampling(self)
        self._check_fold()
        check_optimizer(self)
        ThresholdRule.parse(self.threshold_rule)
        fixed_temperature(self.temperature)
        check_model(self.model, BASELINES)
        check_model_args(self.model, self.model_args)
        check_weights(self.weights, self.model)
        if self.pipeline.shards_at != _shards_at(self.data_url, self.remote):
            raise ValueError(f"shards_at={self.pipeline.shards_at} does not follow from data_url and remote")

    def _check_not_negative(self) -> None:
        if self.log_steps is not None and self.log_steps < 0:
            raise InputError(f"--log_steps={self.log_steps}: must be 0 or more")
        for name in (
            *("logical_cpus", "min_delta", "warmup_epochs", "checkpoint_steps", "checkpoint_minutes"),
            *("max_minutes", "threads_per_process", "weight_decay", "clip_norm", "tta_shift"),
            *("unfreeze_epoch", "backbone_learning_rate"),
        ):
            if not getattr(self, name) >= 0:
                raise InputError(f"--{name}={getattr(self, name)}: must be 0 or more")

    def _check_fold(self) -> None:
        if self.fold:
            Fold.parse(self.fold)
        if self.fold and self.direct:
            raise InputError(
                f"--fold={self.fold}: needs the shards on this machine; use --remote=fetch, not direct"
            )

    @property
    def free_to_change(self) -> frozenset[str]:
        """What may differ when the run is resumed; the end of a cosine may not."""
        return FREE_TO_CHANGE - ({"epochs"} if self.schedule == "cosine" else set())

    @property
    def seed(self) -> int:
        """The seed of weights, order and Dropout."""
        return self.pipeline.seed

    @property
    def direct(self) -> bool:
        """Whether shards are read from the data's URL."""
        return bool(self.pipeline.shards_at)

    def values(self) -> dict[str, Any]:
        """Returns all values in one flat mapping, by the names of their flags; `of` takes them."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "pipeline"}
        options = {each.name: getattr(self.pipeline, each.name) for each in fields(PipelineOptions)}
        del options["shards_at"]  # follows from data_url and remote
        del options["keys"]  # follows from mixup and normalize
        return own | options

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Returns the configuration with these values, by the names of their flags.

        Raises:
            InputError: a value is not allowed.
        """
        own = {name: values.pop(name) for name in _OWN & values.keys()}
        at = _shards_at(own.get("data_url", cls.data_url), own.get("remote", cls.remote))
        keys = _keys(own.get("mixup", cls.mixup), own.get("normalize", cls.normalize))
        return cls(**own, pipeline=PipelineOptions(**values, shards_at=at, keys=keys))

    def changed(self, **values: Any) -> Self:
        """Returns this configuration with other values, by the names of their flags.

        Raises:
            InputError: a value is not allowed.
        """
        return self.of(**self.values() | values)

    def to_json(self) -> dict[str, Any]:
        """Returns `values` for JSON, with the arguments of the model as their flag has them."""
        arguments = {name: model_args_text(sorted(getattr(self, name))) for name in _ARGUMENTS}
        return self.values() | arguments

    def to_stored(self) -> dict[str, Any]:
        """Returns what a file keeps: `to_json` without later fields that have their default."""
        return {k: v for k, v in self.to_json().items() if k not in _LATER or v != _LATER[k]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Returns the configuration that `to_stored` gave, of this version or an earlier one.

        Raises:
            InputError: a field is unknown, or a value is not allowed.
        """
        if unknown := sorted(values.keys() - _OWN - {each.name for each in fields(PipelineOptions)}):
            names = ", ".join(map(repr, unknown))
            raise InputError(f"it has {names}, which this version does not know; remove it to go on without")
        tuples = {"devices": tuple(values["devices"]), "tuned": tuple(values.get("tuned", ()))}
        tuples |= {
            name: tuple(values.get(name, ())) for name in ("profile_steps", "callbacks", "from_recipe")
        }
        for name in _ARGUMENTS:
            tuples[name] = parse_model_args(list(filter(None, values.get(name, "").split(","))), name)
        return cls.of(**values | tuples)


_OWN: Final = {each.name for each in fields(TrainConfig)} - {"pipeline"}


def _keys(mixup: float, normalize: str) -> bool:
    """Returns whether a train step draws from the records' keys, besides augmentation."""
    return mixup > 0 or normalize == "blend"


def _shards_at(data_url: str, remote: str) -> str:
    """Returns the URL from which shards are read; "" where they are local."""
    return data_url if remote == "direct" else ""
