"""Flags of a training run, shared by the commands that train; flags become one frozen config."""

from pathlib import Path

from absl import flags

from data_pipeline.fetch import is_remote, resolve_data, without_secrets
from data_pipeline.options import CACHES, COPIES
from data_pipeline.settings import load_settings
from tfrecords.augment import PRESETS
from tfrecords.command import define_path
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.config import (
    MODEL_ARGS,
    MODELS,
    PRECISIONS,
    REMOTES,
    SCHEDULES,
    STRATEGIES,
    TrainConfig,
    parse_model_args,
)
from trainer.run import CONFIG_NAME, Run

_DEFAULT = TrainConfig(data="", run_dir="")

_DATA = define_path(
    "data",
    None,
    "Folder made by tfrecords.convert, or its URL: s3://, gs://, https:// (see --remote). Default: drawn "
    "demo data, made once and kept.",
)
_REMOTE = flags.DEFINE_enum(
    "remote",
    _DEFAULT.remote,
    REMOTES,
    "How a --data that is a URL is read. fetch: the shards that are needed are copied to --cache_dir once, "
    "checked by SHA-256 (extra `remote`). direct: they stay where they are and are streamed from there "
    "(extra `tfio`: TensorFlow 2.16).",
)
_CACHE_LIMIT_MB = flags.DEFINE_integer(
    "cache_limit_mb",
    0,
    "Space for all fetched data sets, MB: those used longest ago make room. Default 0: what the disk has.",
    lower_bound=0,
)
_DATA_SERVICE = flags.DEFINE_string(
    "data_service",
    _DEFAULT.data_service,
    "grpc://HOST:PORT of a dispatcher (data_pipeline.serve) whose workers parse and decode the training "
    "batches: same batches, same order. They must see the shards under the same path. Private network only.",
)
_RUN_DIR = define_path(
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
_POSITIVE = flags.DEFINE_string(
    "positive",
    _DEFAULT.positive,
    "Of two classes the one that is looked for: the threshold is chosen for it, and sensitivity is its. It "
    "changes no weights; given later, the same command chooses the threshold anew. Default: what "
    "tfrecords.convert --positive said, else the one whose name does not say normal.",
)
_MODEL = flags.DEFINE_enum("model", _DEFAULT.model, MODELS, "Architecture.")
_MODEL_ARGS = flags.DEFINE_list(
    "model_args",
    [],
    "Arguments of the model that differ from its defaults, as units=64,dropout=0.5. "
    + " ".join(
        f"{name}: {', '.join(f'{key}={value}' for key, value in args.items())}."
        for name, args in MODEL_ARGS.items()
    ),
)
_EPOCHS = flags.DEFINE_integer(
    "epochs",
    _DEFAULT.epochs,
    "At most. May be changed when a run is resumed, but not with --schedule=cosine, which ends there.",
)
_PATIENCE = flags.DEFINE_integer(
    "patience", _DEFAULT.patience, "Epochs without a better validation loss before stopping."
)
_MIN_DELTA = flags.DEFINE_float(
    "min_delta", _DEFAULT.min_delta, "Least decrease of the validation loss that counts as better."
)
_BATCH = flags.DEFINE_integer(
    "global_batch_size", _DEFAULT.global_batch_size, "Records a step, over all replicas."
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", _DEFAULT.learning_rate, "Of Adam; with a schedule the highest."
)
_SCHEDULE = flags.DEFINE_enum(
    "schedule",
    _DEFAULT.schedule,
    SCHEDULES,
    "Of the learning rate. cosine: down to 0 at the end of --epochs, so early stopping cuts it short.",
)
_WARMUP_EPOCHS = flags.DEFINE_integer(
    "warmup_epochs",
    _DEFAULT.warmup_epochs,
    "First epochs, in which the learning rate rises from 0; for --schedule=cosine.",
)
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
    CACHES,
    "Where a split is held decoded. memory: in one array; disk: in a file, made once, that processes of a "
    "machine share; device: train in the memory of each device, where steps gather by index; off: nowhere, "
    "it is streamed from its shards. auto: device on GPUs if it fits into half of their free memory; disk "
    "for PNG, JPEG or several processes, memory for raw, if it fits into --ram_budget_mb; else off. A run "
    "keeps what auto chose at its first start.",
)
_CACHE_DIR = define_path(
    "cache_dir",
    _DEFAULT.cache_dir,
    "Folder of fetched data and of the decoded files of --cache=disk, which may be removed at any time; "
    "those whose data are gone are removed when one is made. Default: shardlight in the user's cache folder.",
)
_RAM_BUDGET_MB = flags.DEFINE_integer(
    "ram_budget_mb", 0, "Memory a split may take, MB. Default 0: half of what machine and cgroup have free."
)
_PREFETCH = flags.DEFINE_integer("prefetch", _DEFAULT.prefetch, "Batches made ahead for each replica.")
_PARALLEL_READS = flags.DEFINE_integer(
    "parallel_reads",
    _DEFAULT.parallel_reads,
    "Shards that a stream reads at the same time; 0: two, or for a stream that tf.data makes as many as it "
    "decides. The order is the same.",
)
_THREADS = flags.DEFINE_integer(
    "threads", _DEFAULT.threads, "Threads that the input has for itself; 0: it shares TensorFlow's."
)
# Taken from the data set's pipeline.json, if it has one, unless given.
_TUNED_FLAGS = {
    "cache": _CACHE,
    "prefetch": _PREFETCH,
    "parallel_reads": _PARALLEL_READS,
    "threads": _THREADS,
}
_LAST_BATCH = flags.DEFINE_enum(
    "last_batch",
    _DEFAULT.last_batch,
    ["wrap", "drop"],
    "A train epoch's last batch, if not full: fill it with the epoch's first records, or leave it out.",
)
_COPIES = flags.DEFINE_enum(
    "copies",
    _DEFAULT.copies,
    COPIES,
    "Which variants of an image, the original and its copies made by tfrecords.convert, a train epoch shows: "
    "all; one, drawn anew each epoch; none but the original.",
)
_AUGMENT = flags.DEFINE_enum(
    "augment",
    _DEFAULT.augment,
    list(PRESETS),
    "Change train images anew each epoch, on the device that trains: flips, turns, zooms, shifts and tones, "
    "as strong as tfrecords.convert --augment names them.",
)
_SEED = flags.DEFINE_integer("seed", _DEFAULT.seed, "Of weights, order, augmentation and Dropout.")
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    _DEFAULT.deterministic,
    "Same command, same weights, to the bit; slower, and a split in memory takes twice its size. On CPUs "
    "of several workers also set TF_ENABLE_ONEDNN_OPTS=0: oneDNN's sums depend on which of TensorFlow's "
    "threads is free.",
)
_KEEP = flags.DEFINE_integer("keep", _DEFAULT.keep, "Checkpoints kept besides that of the best epoch.")
_CHECKPOINT_STEPS = flags.DEFINE_integer(
    "checkpoint_steps",
    _DEFAULT.checkpoint_steps,
    "A checkpoint every N steps, besides that of each epoch; 0: none. A killed run resumes from the last.",
)
_CHECKPOINT_MINUTES = flags.DEFINE_float(
    "checkpoint_minutes",
    _DEFAULT.checkpoint_minutes,
    "A checkpoint within an epoch when the last is so many minutes old, looked at every 5 s; 0: none.",
)
_MAX_MINUTES = flags.DEFINE_float(
    "max_minutes",
    _DEFAULT.max_minutes,
    "Stop after so many minutes of this start, save, and leave with exit code 75: the same command goes on. "
    "For a time limit that the batch system does not announce. 0: no limit.",
)
_LOG_STEPS = flags.DEFINE_integer(
    "log_steps",
    _DEFAULT.log_steps,
    "Print progress and write TensorBoard's scalars every N steps of an epoch, besides after each epoch. "
    "0: only after each epoch. Default: the length of an epoch decides: an epoch of 1,000 steps or more is "
    "logged up to ten times, a shorter one only at its end.",
    lower_bound=0,
)
_PROFILE_STEPS = flags.DEFINE_list(
    "profile_steps",
    [],
    "A,B: profile the training steps A to B - 1 of the run, counted from 0, for TensorBoard's Profile page "
    "(extra `profile`). The first steps of a start are slower than the others: leave out ten.",
)
_THREADS_PER_PROCESS = flags.DEFINE_integer(
    "threads_per_process",
    _DEFAULT.threads_per_process,
    "TensorFlow's threads in each process. Another number gives weights that differ in the last bits, so a "
    "run records it and keeps it. 0: the cores that may be used at the run's first start.",
)


def devices(values: list[str]) -> tuple[int, ...]:
    """Returns device indices from text.

    Raises:
        InputError: one is no whole number.
    """
    return whole_numbers("devices", values)


def whole_numbers(name: str, values: list[str]) -> tuple[int, ...]:
    """Returns the numbers of a flag that takes a list.

    Raises:
        InputError: one is no whole number.
    """
    if not all(value.isdecimal() for value in values):
        raise InputError(f"--{name}={','.join(values)}: must be whole numbers, as 0,1")
    return tuple(int(value) for value in values)


def _tuned(data: Path, manifest: Manifest, run_dir: Path) -> dict[str, str | int]:
    """Returns the options that pipeline.json has and no flag gives.

    A run that is resumed keeps its tier, which may decide the order of records, whatever pipeline.json
    has become since; the other options change its speed only.
    """
    settings = dict(load_settings(data, manifest))
    if (run_dir / CONFIG_NAME).exists():
        settings.pop("cache", None)
        begun = Run.load(run_dir).config
        if "cache" in begun.tuned:
            settings["cache"] = begun.cache
    return {name: value for name, value in settings.items() if not _TUNED_FLAGS[name].present}


def config_from_flags(data: Path) -> TrainConfig:
    """Returns the configuration that the flags describe.

    Args:
        data: the data set's folder, the demo's if --data was not given.

    Raises:
        InputError: a value is not allowed, the data set has no manifest, or its pipeline.json is damaged.
    """
    manifest = Manifest.load(data, check_shards=False)
    run_dir = _RUN_DIR.value or f"runs/{manifest.name}-{_MODEL.value}"
    tuned = _tuned(data, manifest, Path(run_dir))
    options = {name: tuned.get(name, flag.value) for name, flag in _TUNED_FLAGS.items()}
    return TrainConfig(
        data=str(data),
        run_dir=run_dir,
        strategy=_STRATEGY.value,
        devices=devices(_DEVICES.value),
        logical_cpus=_LOGICAL_CPUS.value,
        model=_MODEL.value,
        model_args=parse_model_args(_MODEL_ARGS.value),
        epochs=_EPOCHS.value,
        patience=_PATIENCE.value,
        min_delta=_MIN_DELTA.value,
        global_batch_size=_BATCH.value,
        learning_rate=_LEARNING_RATE.value,
        schedule=_SCHEDULE.value,
        warmup_epochs=_WARMUP_EPOCHS.value,
        precision=_PRECISION.value,
        class_weights=_CLASS_WEIGHTS.value,
        **options,
        tuned=tuple(tuned),
        cache_dir=_CACHE_DIR.value,
        ram_budget=_RAM_BUDGET_MB.value << 20,
        last_batch=_LAST_BATCH.value,
        copies=_COPIES.value,
        augment=_AUGMENT.value,
        seed=_SEED.value,
        deterministic=_DETERMINISTIC.value,
        keep=_KEEP.value,
        checkpoint_steps=_CHECKPOINT_STEPS.value,
        checkpoint_minutes=_CHECKPOINT_MINUTES.value,
        max_minutes=_MAX_MINUTES.value,
        log_steps=_LOG_STEPS.value,
        profile_steps=whole_numbers("profile_steps", _PROFILE_STEPS.value),
        threads_per_process=_THREADS_PER_PROCESS.value,
        data_url=without_secrets(_DATA.value) if data_is_remote() else "",
        remote=_REMOTE.value,
        data_service=_DATA_SERVICE.value,
        positive=_POSITIVE.value,
    )


def data_flag(*, check: bool = False) -> Path | None:
    """Returns the folder of --data, fetched if it is a URL, or None for the demo data.

    Args:
        check: whether to hash again what was fetched earlier.

    Raises:
        InputError: the data cannot be fetched.
    """
    if not _DATA.value:
        return None
    return resolve_data(
        _DATA.value,
        ("train", "val", "test") if _REMOTE.value == "fetch" else (),
        cache_dir=_CACHE_DIR.value,
        limit=_CACHE_LIMIT_MB.value << 20,
        check=check,
    )


def data_is_remote() -> bool:
    """Returns whether --data is a URL."""
    return bool(_DATA.value) and is_remote(_DATA.value)
