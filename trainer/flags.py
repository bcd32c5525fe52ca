"""Flags of a training run, shared by the commands that train; flags become one frozen config."""

from pathlib import Path

from absl import flags

from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.config import MODELS, PRECISIONS, STRATEGIES, TrainConfig

_DEFAULT = TrainConfig(data="", run_dir="")

_DATA = flags.DEFINE_string(
    "data", None, "Folder made by tfrecords.convert. Default: drawn demo data, made once and kept."
)
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "Folder of the run; the same command again resumes it. Default: runs/DATA-MODEL."
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    _DEFAULT.strategy,
    STRATEGIES,
    "one_device; mirrored: all devices of this machine; multi_worker: the machines in TF_CONFIG.",
)
_DEVICES = flags.DEFINE_list("devices", [], "Indices of the devices to use, as 0,1. Default: all.")
_LOGICAL_CPUS = flags.DEFINE_integer(
    "logical_cpus", _DEFAULT.logical_cpus, "Split the CPU into N devices, to try out mirrored training."
)
_MODEL = flags.DEFINE_enum("model", _DEFAULT.model, MODELS, "Architecture.")
_EPOCHS = flags.DEFINE_integer("epochs", _DEFAULT.epochs, "At most.")
_PATIENCE = flags.DEFINE_integer(
    "patience", _DEFAULT.patience, "Epochs without a better validation loss before stopping."
)
_MIN_DELTA = flags.DEFINE_float(
    "min_delta", _DEFAULT.min_delta, "Least decrease of the validation loss that counts as better."
)
_BATCH = flags.DEFINE_integer(
    "global_batch_size", _DEFAULT.global_batch_size, "Records a step, over all replicas."
)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", _DEFAULT.learning_rate, "Of Adam.")
_PRECISION = flags.DEFINE_enum(
    "precision",
    _DEFAULT.precision,
    PRECISIONS,
    "What layers compute in; weights and loss stay float32. auto: bfloat16 where the hardware has it, "
    "float16 with loss scaling on older GPUs, else float32.",
)
_CLASS_WEIGHTS = flags.DEFINE_bool(
    "class_weights", _DEFAULT.class_weights, "Let rare classes weigh more in the loss."
)
_CACHE = flags.DEFINE_enum(
    "cache",
    _DEFAULT.cache,
    ["auto", "memory", "off"],
    "memory: hold the split decoded; off: stream it from its shards; auto: hold what fits.",
)
_RAM_BUDGET_MB = flags.DEFINE_integer(
    "ram_budget_mb", 0, "Memory a split may take, MB. Default 0: half of what is free."
)
_LAST_BATCH = flags.DEFINE_enum(
    "last_batch",
    _DEFAULT.last_batch,
    ["wrap", "drop"],
    "A train epoch's last batch, if not full: fill it with the epoch's first records, or leave it out.",
)
_SEED = flags.DEFINE_integer("seed", _DEFAULT.seed, "Of weights, order and Dropout.")
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", _DEFAULT.deterministic, "Same command, same weights, to the bit; slower."
)
_KEEP = flags.DEFINE_integer("keep", _DEFAULT.keep, "Checkpoints kept besides the best.")


def devices(values: list[str]) -> tuple[int, ...]:
    """Returns device indices from text.

    Raises:
        InputError: one is no whole number.
    """
    if not all(value.isdecimal() for value in values):
        raise InputError(f"--devices={','.join(values)}: must be whole numbers, as 0,1")
    return tuple(int(value) for value in values)


def config_from_flags(data: Path) -> TrainConfig:
    """Returns the configuration that the flags describe.

    Args:
        data: the data set's folder, the demo's if --data was not given.

    Raises:
        InputError: a value is not allowed, or the data set has no manifest.
    """
    name = Manifest.load(data).name
    return TrainConfig(
        data=str(data),
        run_dir=_RUN_DIR.value or f"runs/{name}-{_MODEL.value}",
        strategy=_STRATEGY.value,
        devices=devices(_DEVICES.value),
        logical_cpus=_LOGICAL_CPUS.value,
        model=_MODEL.value,
        epochs=_EPOCHS.value,
        patience=_PATIENCE.value,
        min_delta=_MIN_DELTA.value,
        global_batch_size=_BATCH.value,
        learning_rate=_LEARNING_RATE.value,
        precision=_PRECISION.value,
        class_weights=_CLASS_WEIGHTS.value,
        cache=_CACHE.value,
        ram_budget=_RAM_BUDGET_MB.value << 20,
        last_batch=_LAST_BATCH.value,
        seed=_SEED.value,
        deterministic=_DETERMINISTIC.value,
        keep=_KEEP.value,
    )


def data_flag() -> Path | None:
    """Returns --data, or None for the demo data."""
    return Path(_DATA.value) if _DATA.value else None
