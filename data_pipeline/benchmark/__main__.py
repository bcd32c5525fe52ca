"""Measures what each stage of the input costs, and whether training is starved; says what to change.

    python -m data_pipeline.benchmark --data=data/chest_xray
    python -m data_pipeline.benchmark --data=data/chest_xray --model=runs/chest_xray-cnn

Prints a table, and writes benchmark.json and benchmark.png. docs/performance.md says how to read them.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from absl import flags
from tqdm import tqdm

from data_pipeline.fetch import resolve_data
from data_pipeline.options import CACHES, PipelineOptions
from data_pipeline.quiet import quiet_start
from data_pipeline.settings import load_settings
from tfrecords.command import define_path, run
from tfrecords.errors import InputError
from tfrecords.files.outputs import write_output
from tfrecords.manifest import Manifest

_DATA = define_path("data", None, "Folder with manifest.json, or its URL.", required=True)
_SPLIT = flags.DEFINE_string("split", "train", "Split to read, as training does.")
_BATCH = flags.DEFINE_integer("global_batch_size", PipelineOptions().global_batch_size, "Records a step.")
_MODEL = flags.DEFINE_string(
    "model",
    "cnn",
    "Whose training step is timed: cnn, the built-in convolutional net in float32; the folder of a finished "
    "run, or a .keras file; none for no step.",
)
_CACHE = flags.DEFINE_enum("cache", "auto", CACHES, "As in trainer.main. Default: pipeline.json's, or auto.")
_CACHE_DIR = define_path(
    "cache_dir", "", "Folder for remote data and for the file of --cache=disk. Default: ~/.cache/shardlight."
)
_SECONDS = flags.DEFINE_float("seconds", 45, "About how long it takes, TensorFlow's start aside.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Of each measurement, after one that warms up.", lower_bound=1)
_OUT = define_path("out", None, "Folder for the files. Default: benchmark-NAME-SPLIT.")

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
        from data_pipeline.benchmark.findings import find
    with tqdm(bar_format="{desc}: {elapsed}", leave=False, disable=not sys.stderr.isatty()) as line:
        findings = find(
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
    content = json.dumps(findings.to_json(), indent=1) + "\n"
    write_output("--out", str(out / "benchmark.json"), content.encode())
    title = (
        f"{manifest.name}, {_SPLIT.value}: {findings.facts['batch']} a batch, {findings.facts['hardware']}"
    )
    write_output("--out", str(out / "benchmark.png"), chart(findings.rows, title))
    print(f"{findings.text()}\n\nfigures: {out / 'benchmark.json'}\npicture: {out / 'benchmark.png'}")


if __name__ == "__main__":
    run(main)
