"""One frozen configuration of a training run, validated when built; imports no TensorFlow."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from data_pipeline.options import SPEED_ONLY, PipelineOptions
from tfrecords.errors import InputError

STRATEGIES: Final = ("one_device", "mirrored", "multi_worker")
ModelArg = int | float | str | bool
# The arguments of each model with their defaults. A whole number must be 1 or more; a fraction is a Dropout
# rate, from 0 to less than 1.
_CNN: Final[Mapping[str, ModelArg]] = {
    **{"filters_1": 16, "kernel_1": 3, "filters_2": 32, "kernel_2": 3, "filters_3": 64, "kernel_3": 3},
    **{"dropout": 0.0, "units": 128},
}
MODEL_ARGS: Final[Mapping[str, Mapping[str, ModelArg]]] = {
    "mlp": {"units": 128, "dropout": 0.0},
    "cnn": _CNN,
    "best_cnn": {**_CNN, "filters_1": 64, "filters_2": 128, "filters_3": 256, "dropout": 0.3},
    "resnet": {"width": 32, "dropout": 0.2},
}
MODELS: Final = tuple(MODEL_ARGS)
BASELINES: Final = ("pca_svm", "logistic", "random_forest")  # of trainer.baseline
SCHEDULES: Final = ("constant", "cosine")
REMOTES: Final = ("fetch", "direct")
MOST_PROFILED: Final = 1000  # steps
PRECISIONS: Final = ("auto", "float32", "bfloat16", "float16")

# May differ when a run is continued: how long, and on which devices. All else changes the result's
# meaning; these change it by rounding at most.
FREE_TO_CHANGE: Final = frozenset(
    {
        *("epochs", "patience", "strategy", "devices", "logical_cpus"),
        *("keep", "checkpoint_steps", "checkpoint_minutes", "max_minutes", "log_steps", "profile_steps"),
        *("ram_budget", "cache_dir"),  # a run keeps its tier
        *SPEED_ONLY,
        "tuned",
        *("data_url", "remote", "data_service"),
        "positive",  # of two classes: the threshold is chosen for it after the training
    }
)
_SINCE: Final = {
    "positive": "",
    "log_steps": None,
    "profile_steps": (),
}  # left out of config.json where it is so: files of before stay as they are


@dataclass(frozen=True)
class TrainConfig:
    """What a run is. Defaults are the notebook's, where it had them.

    Attributes:
        data: folder of the converted data set.
        run_dir: folder of the run.
        data_url: where the data set came from, if that was a URL: without user, password and query.
        remote: one of `REMOTES`: "direct" reads the shards from the URL, and `data` holds the manifest alone.
        data_service: see `PipelineOptions`.
        positive: of two classes the finding, whose sensitivity is told and for which the threshold is chosen;
            "": as the data set says, or the names.
        strategy: one of `STRATEGIES`.
        devices: indices of the devices to use; empty for all.
        logical_cpus: split the CPU into so many devices, to try out mirrored training; 0: do not.
        model: one of `MODELS`, or in a run of `trainer.baseline` one of `BASELINES`.
        model_args: what differs from the model's `MODEL_ARGS`, by name.
        epochs: at most.
        patience: epochs without an improvement of the validation loss before stopping.
        min_delta: the least decrease of the validation loss that counts as one.
        global_batch_size: records a step, over all replicas.
        learning_rate: of Adam; with a schedule the highest.
        schedule: one of `SCHEDULES`; "cosine" goes down to 0 at the last of `epochs`.
        warmup_epochs: epochs in which the rate rises from 0, step by step; "cosine" only.
        precision: one of `PRECISIONS`.
        class_weights: whether rare classes weigh more in the loss.
        cache: see `PipelineOptions`; the tier that "auto" chose is kept in the run.
        cache_dir: see `PipelineOptions`.
        ram_budget: see `PipelineOptions`.
        prefetch: see `PipelineOptions`.
        parallel_reads: see `PipelineOptions`.
        threads: see `PipelineOptions`.
        tuned: which of the options above are from the data set's pipeline.json.
        last_batch: see `PipelineOptions`.
        copies: see `PipelineOptions`.
        augment: see `PipelineOptions`.
        seed: of weights, order and Dropout.
        deterministic: whether the same command gives the same weights, to the bit, at some speed.
        keep: checkpoints kept besides that of the best epoch.
        checkpoint_steps: a checkpoint every so many steps, besides that of each epoch; 0: none.
        checkpoint_minutes: a checkpoint when the last is so old; 0: none.
        max_minutes: the run stops, saved, after so many minutes of this start; 0: never.
        log_steps: progress and scalars are logged every so many steps of an epoch; 0: only after each epoch;
            None: the length of an epoch decides, see `callbacks.progress.log_steps`.
        profile_steps: (A, B): training steps A to B - 1 of the run, counted from 0, are profiled; (): none.
        threads_per_process: TensorFlow's threads, on which the bits of the weights depend; 0: as many as the
            cores that may be used at the run's first start, which it keeps.
    """

    data: str
    run_dir: str
    strategy: str = "one_device"
    devices: tuple[int, ...] = ()
    logical_cpus: int = 0
    model: str = "cnn"
    model_args: tuple[tuple[str, ModelArg], ...] = ()
    epochs: int = 100
    patience: int = 20
    min_delta: float = 0.001
    global_batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_epochs: int = 0
    precision: str = "auto"
    class_weights: bool = False
    cache: str = "auto"
    cache_dir: str = ""
    ram_budget: int = 0
    prefetch: int = PipelineOptions.prefetch
    parallel_reads: int = PipelineOptions.parallel_reads
    threads: int = PipelineOptions.threads
    tuned: tuple[str, ...] = ()
    last_batch: str = "wrap"
    copies: str = "all"
    augment: str = "none"
    seed: int = 0
    deterministic: bool = False
    keep: int = 2
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 10.0
    max_minutes: float = 0.0
    threads_per_process: int = 0
    data_url: str = ""
    remote: str = "fetch"
    data_service: str = ""
    positive: str = ""
    log_steps: int | None = None
    profile_steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        choices = {
            "strategy": STRATEGIES,
            "model": MODELS + BASELINES,
            "schedule": SCHEDULES,
            "remote": REMOTES,
            "precision": PRECISIONS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"--{name}={getattr(self, name)}: must be one of {', '.join(allowed)}")
        for name in ("epochs", "patience", "keep"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}={getattr(self, name)}: must be 1 or more")
        if not self.learning_rate > 0:
            raise InputError(f"--learning_rate={self.learning_rate}: must be more than 0")
        if self.logical_cpus < 0 or self.min_delta < 0:
            raise InputError("--logical_cpus and --min_delta must be 0 or more")
        if len(set(self.devices)) < len(self.devices) or min(self.devices, default=0) < 0:
            raise InputError(f"--devices={self.devices}: must be different indices, as 0,1")
        if self.strategy == "one_device" and len(self.devices) > 1:
            raise InputError(f"--devices={self.devices}: --strategy=one_device takes one; use mirrored")
        if self.strategy == "multi_worker" and self.logical_cpus:
            raise InputError("--logical_cpus: tries out --strategy=mirrored on one machine, not multi_worker")
        self._check_intervals()
        check_model_args(self.model, self.model_args)
        _ = self.pipeline  # validates the rest

    def _check_intervals(self) -> None:
        if self.log_steps is not None and self.log_steps < 0:
            raise InputError(f"--log_steps={self.log_steps}: must be 0 or more")
        self._check_profile_steps()
        for name in (
            *("warmup_epochs", "checkpoint_steps", "checkpoint_minutes"),
            *("max_minutes", "threads_per_process"),
        ):
            if not getattr(self, name) >= 0:
                raise InputError(f"--{name}={getattr(self, name)}: must be 0 or more")
        if self.warmup_epochs and self.schedule != "cosine":
            raise InputError(f"--warmup_epochs={self.warmup_epochs}: needs --schedule=cosine")
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"--warmup_epochs={self.warmup_epochs}: must be less than --epochs={self.epochs}"
            )

    def _check_profile_steps(self) -> None:
        given = f"--profile_steps={','.join(map(str, self.profile_steps))}"
        if not self.profile_steps:
            return
        if len(self.profile_steps) != 2 or not 0 <= self.profile_steps[0] < self.profile_steps[1]:
            raise InputError(f"{given}: must be two steps A,B with 0 <= A < B, as 100,110")
        if self.profile_steps[1] - self.profile_steps[0] > MOST_PROFILED:
            raise InputError(f"{given}: profile {MOST_PROFILED:,} steps at most; the page cannot show more")

    @property
    def free_to_change(self) -> frozenset[str]:
        """What may differ when the run is continued; the end of a cosine may not."""
        return FREE_TO_CHANGE - ({"epochs"} if self.schedule == "cosine" else set())

    @property
    def pipeline(self) -> PipelineOptions:
        """The options of the input pipeline among these."""
        names = {field.name for field in fields(PipelineOptions)} & {f.name for f in fields(self)}
        values = {name: getattr(self, name) for name in names}
        return PipelineOptions(**values, shards_at=self.data_url if self.direct else "")

    @property
    def direct(self) -> bool:
        """Whether shards are read where the data's URL says."""
        return bool(self.data_url) and self.remote == "direct"

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        shown = ",".join(f"{name}={value}" for name, value in sorted(self.model_args))  # as its flag has it
        return {**asdict(self), "model_args": shown}

    def to_stored(self) -> dict[str, Any]:
        """Returns what a file keeps: `to_json` without what came later and has its default."""
        return {k: v for k, v in self.to_json().items() if k not in _SINCE or v != _SINCE[k]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Returns the configuration that `to_stored` gave, of this version or of one before.

        Raises:
            InputError: it has a field that is none, or a value that is not allowed.
        """
        if unknown := sorted(values.keys() - {field.name for field in fields(cls)}):
            names = ", ".join(map(repr, unknown))
            raise InputError(f"it has {names}, which this version does not know: to go on without, remove it")
        tuples = {"devices": tuple(values["devices"]), "tuned": tuple(values.get("tuned", ()))}
        tuples["profile_steps"] = tuple(values.get("profile_steps", ()))
        tuples["model_args"] = parse_model_args(list(filter(None, values.get("model_args", "").split(","))))
        return cls(**{**values, **tuples})


def parse_model_args(texts: Sequence[str]) -> tuple[tuple[str, ModelArg], ...]:
    """Returns NAME=VALUE texts as pairs, in the order of names: a whole number, a fraction, or a word.

    Raises:
        InputError: one is none, or a name stands there twice.
    """
    found: dict[str, ModelArg] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"--model_args={text}: must be NAME=VALUE, as units=64,dropout=0.5")
        if name in found:
            raise InputError(f"--model_args: {name} is given twice; give it once")
        found[name] = _value(value)
    return tuple(sorted(found.items()))


def check_model_args(model: str, args: Sequence[tuple[str, ModelArg]]) -> None:
    """Raises InputError unless these are arguments of the model, with values that it takes."""
    known = MODEL_ARGS.get(model, {})
    for name, value in args:
        if name not in known:
            raise InputError(
                f"--model_args={name}={value}: {model} has no such argument; it has "
                f"{', '.join(known) or 'none'}"
            )
        if isinstance(known[name], int) and not (type(value) is int and value >= 1):
            raise InputError(f"--model_args={name}={value}: must be a whole number, 1 or more")
        if isinstance(known[name], float) and not (type(value) in (int, float) and 0 <= float(value) < 1):
            raise InputError(f"--model_args={name}={value}: must be from 0 to less than 1")


def _value(text: str) -> ModelArg:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
