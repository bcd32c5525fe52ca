"""Searches the fastest options of the input for a data set on this machine; trainer.main then uses them.

    python -m data_pipeline.tune --data=data/chest_xray --budget_seconds=120

Writes pipeline.json beside the manifest. A flag of trainer.main takes precedence over that file.
(trainer.tune is another command: it searches for hyperparameters, which change the result.)
"""

from absl import flags

from data_pipeline.fetch import resolve_data
from data_pipeline.options import CACHE_FLAG, CACHE_HELP, PipelineOptions
from data_pipeline.quiet import quiet_start
from data_pipeline.tiers.choice import AUTO
from tfrecords.command import define_path, run
from tfrecords.errors import InputError
from tfrecords.files.urls import is_remote, without_secrets
from tfrecords.manifest import Manifest

_DATA = define_path(
    "data",
    None,
    "The folder of the data set, which has manifest.json, or the URL of that folder. pipeline.json is "
    "written into the folder; for a URL, into the folder of the fetched copy.",
    required=True,
)
_SPLIT = flags.DEFINE_string("split", "train", "The split that the search reads in the order of training.")
_BATCH = flags.DEFINE_integer(
    "global_batch_size",
    PipelineOptions().global_batch_size,
    "The number of records in a training step, over all devices.",
)
_CACHE = flags.DEFINE_enum(
    "cache", AUTO, CACHE_FLAG, f"{CACHE_HELP} The search tries other tiers only if this is auto."
)
_CACHE_DIR = define_path(
    "cache_dir",
    "",
    "The folder for remote data and for the files of --cache=disk. Default: shardlight in the user's cache "
    "folder.",
)
_BUDGET = flags.DEFINE_float(
    "budget_seconds", 120, "The time of the whole search in seconds, without the start of TensorFlow."
)

_LEAST_SECONDS = 10


def main(_: list[str]) -> None:
    """Parses the flags, searches, and prints the gain."""
    if not _LEAST_SECONDS <= _BUDGET.value < float("inf"):
        raise InputError(
            f"--budget_seconds={_BUDGET.value:g}: must be {_LEAST_SECONDS} or more; 120 is usual"
        )
    data = resolve_data(_DATA.value, [_SPLIT.value], cache_dir=_CACHE_DIR.value)
    shown = without_secrets(_DATA.value) if is_remote(_DATA.value) else _DATA.value
    manifest = Manifest.load(data, check_shards=False)
    manifest.check_shards(data, _SPLIT.value)
    options = PipelineOptions(global_batch_size=_BATCH.value, cache=_CACHE.value, cache_dir=_CACHE_DIR.value)
    with quiet_start():
        from data_pipeline.tune.tuning import tune
    print(f"{shown}: {_SPLIT.value}, {_BUDGET.value:g} s", flush=True)
    tuned, path = tune(
        data,
        manifest,
        _SPLIT.value,
        options,
        seconds=_BUDGET.value,
        report=lambda line: print(line, flush=True),
    )
    print(f"{tuned.text()}\nwritten: {path}\nNext:\n  python -m trainer.main --data={shown}")


if __name__ == "__main__":
    run(main)
