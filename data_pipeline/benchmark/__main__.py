"""Measures what each stage of the input costs and whether training is input-bound; says what to change.

    python -m data_pipeline.benchmark --data=data/chest_xray
    python -m data_pipeline.benchmark --data=data/chest_xray --model=runs/chest_xray-cnn

Prints a table, and writes benchmark.json and benchmark.png. docs/performance.md explains how to read them.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from absl import flags
from tqdm import tqdm

from data_pipeline.fetch import resolve_data
from data_pipeline.options import CACHE_FLAG, CACHE_HELP, PipelineOptions
from data_pipeline.quiet import quiet_start
from data_pipeline.settings import load_settings
from data_pipeline.tiers.choice import AUTO
from tfrecords.command import define_path, run
from tfrecords.errors import InputError
from tfrecords.files.outputs import write_output
from tfrecords.manifest import Manifest

_DATA = define_path(
    "data",
    None,
    "The folder of the data set, which has manifest.json, or the URL of that folder.",
    required=True,
)
_SPLIT = flags.DEFINE_string("split", "train", "The split that the benchmark reads in the order of training.")
_BATCH = flags.DEFINE_integer(
    "global_batch_size",
    PipelineOptions().global_batch_size,
    "The number of records in a training step, over all devices.",
)
_MODEL = flags.DEFINE_string(
    "model",
    "cnn",
    "The model whose training step is timed. cnn: the built-in convolutional net in float32. A folder: the "
    "model of this finished run. A .keras file: the model in it. none: no step is timed.",
)
_CACHE = flags.DEFINE_enum(
    "cache", AUTO, CACHE_FLAG, f"{CACHE_HELP} Default: the value in pipeline.json, or auto without that file."
)
_CACHE_DIR = define_path(
    "cache_dir",
    "",
    "The folder for remote data and for the files of --cache=disk. Default: shardlight in the user's cache "
    "folder.",
)
_SECONDS = flags.DEFINE_float(
    "seconds", 45, "The time of the whole benchmark in seconds, without the start of TensorFlow."
)
_REPEATS = flags.DEFINE_integer(
    "repeats",
    5,
    "The number of times that each measurement is repeated, after one that warms up.",
    lower_bound=1,
)
_OUT = define_path(
    "out", None, "The folder for benchmark.json and benchmark.png. Default: benchmark-NAME-SPLIT."
)

_LEAST_SECONDS = 5


def main(_: list[str]) -> None:
    """Parses the flags, measures, prints the table and writes the files."""
    if not _LEAST_SECONDS <= _SECONDS.value < float("inf"):
        raise InputError(f"--seconds={_SECONDS.value:g}: must be {_LEAST_SECONDS} or more; 45 is usual")
    data = resolve_data(_DATA.value, [_SPLIT.value], cache_dir=_CACHE_DIR.value)
    manifest = Manifest.load(data, check_shards=False)
    manifest.check_shards(data, _SPLIT.value)
    settings = dict(load_settings(data, manifest))
    if _CACHE.present:
        settings.pop("cache", None)
    options = PipelineOptions(global_batch_size=_BATCH.value, cache=_CACHE.value, cache_dir=_CACHE_DIR.value)
    options = replace(options, **settings)  # type: ignore[arg-type]  # checked by load_settings
    out = Path(_OUT.value or f"benchmark-{manifest.name}-{_SPLIT.value}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out={out}: cannot be made: {error.strerror}; choose another folder") from None
    with quiet_start():
        from data_pipeline.benchmark.chart import chart
        from data_pipeline.benchmark.measurement import measure
    with tqdm(bar_format="{desc}: {elapsed}", leave=False, disable=not sys.stderr.isatty()) as line:
        measured = measure(
            data,
            manifest,
            _SPLIT.value,
            options,
            model=_MODEL.value,
            seconds=_SECONDS.value,
            repeats=_REPEATS.value,
            settings=settings,
            progress=line.set_description,
        )
    content = json.dumps(measured.to_json(), indent=1) + "\n"
    write_output("--out", str(out / "benchmark.json"), content.encode())
    title = (
        f"{manifest.name}, {_SPLIT.value}: {measured.facts['batch']} a batch, {measured.facts['hardware']}"
    )
    write_output("--out", str(out / "benchmark.png"), chart(measured.stages, title))
    print(f"{measured.text()}\n\nfigures: {out / 'benchmark.json'}\npicture: {out / 'benchmark.png'}")


if __name__ == "__main__":
    run(main)
