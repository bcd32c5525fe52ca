"""One frozen configuration of a training run, validated when built; imports no TensorFlow."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError

STRATEGIES: Final = ("one_device", "mirrored", "multi_worker")
MODELS: Final = ("mlp", "cnn", "best_cnn")
PRECISIONS: Final = ("auto", "float32", "bfloat16", "float16")

# May differ when a run is continued: how long, and on which devices. All else changes the result's
# meaning; these change it by rounding at most.
FREE_TO_CHANGE: Final = frozenset({"epochs", "patience", "strategy", "devices", "logical_cpus", "keep"})


@dataclass(frozen=True)
class TrainConfig:
    """What a run is. Defaults are the notebook's, where it had them.

    Attributes:
        data: folder of the converted data set.
        run_dir: folder of the run.
        strategy: one of `STRATEGIES`.
        devices: indices of the devices to use; empty for all.
        logical_cpus: split the CPU into so many devices, to try out mirrored training; 0: do not.
        model: one of `MODELS`.
        epochs: at most.
        patience: epochs without an improvement of the validation loss before stopping.
        min_delta: the least decrease of the validation loss that counts as one.
        global_batch_size: records a step, over all replicas.
        learning_rate: of Adam.
        precision: one of `PRECISIONS`.
        class_weights: whether rare classes weigh more in the loss.
        cache: see `PipelineOptions`.
        ram_budget: see `PipelineOptions`.
        last_batch: see `PipelineOptions`.
        seed: of weights, order and Dropout.
        deterministic: whether the same command gives the same weights, to the bit, at some speed.
        keep: checkpoints kept besides the best.
    """

    data: str
    run_dir: str
    strategy: str = "one_device"
    devices: tuple[int, ...] = ()
    logical_cpus: int = 0
    model: str = "cnn"
    epochs: int = 100
    patience: int = 20
    min_delta: float = 0.001
    global_batch_size: int = 32
    learning_rate: float = 1e-3
    precision: str = "auto"
    class_weights: bool = False
    cache: str = "auto"
    ram_budget: int = 0
    last_batch: str = "wrap"
    seed: int = 0
    deterministic: bool = False
    keep: int = 2

    def __post_init__(self) -> None:
        for name, allowed in (("strategy", STRATEGIES), ("model", MODELS), ("precision", PRECISIONS)):
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
        _ = self.pipeline  # validates the rest

    @property
    def pipeline(self) -> PipelineOptions:
        """The options of the input pipeline among these."""
        names = {field.name for field in fields(PipelineOptions)} & {f.name for f in fields(self)}
        return PipelineOptions(**{name: getattr(self, name) for name in names})

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Returns the configuration that `to_json` gave."""
        return cls(**{**values, "devices": tuple(values["devices"])})
