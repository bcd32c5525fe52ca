"""The input pipeline against the number of records, its first batch, its memory, and a training's wait.

    python benchmarks/input_scale.py --images=chest_xray/train

1. Images/s and peak memory at 10,000, 100,000 and 1,000,000 records of 32x32x1 (10,000 drawn at random,
   repeated), beside the limit; batch 256; each in a process of its own, warmed up by an epoch.
2. Seconds to the first batch of 32 with 10,000 records of 180x180x1 (the images, repeated): each time
   in a new process that has imported TensorFlow; from the call of `make_dataset` on; files in the page
   cache.
3. Memory of a process (RSS) after each of 20 epochs of streaming.
4. A step of the notebook's CNN with real input over the same step with one constant batch, in turn in
   one process, by `trainer.loop.Loop`; the first round warms up and is not counted.
"""

import hashlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from input_contenders import ENCODINGS, Source, convert, limit, our_dataset, ours
from input_timing import interleaved

from data_pipeline.quiet import quiet_start
from tfrecords.command import run
from tfrecords.example import Record, encode
from tfrecords.manifest import Manifest, Shard, Split
from tfrecords.records import frame, read_records

_IMAGES = flags.DEFINE_string("images", None, "Class folders of images.", required=True)
_DATA = flags.DEFINE_string("data", None, "Keep what is converted here, for the next run; else nowhere.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Repeats of each.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 0.5, "Timed seconds a repeat, of part 1.", lower_bound=0.05)
_SIZES = flags.DEFINE_multi_integer("size", [10_000, 100_000, 1_000_000], "Records; may be repeated.")
_STEPS = flags.DEFINE_integer("steps", 30, "Steps a repeat, of part 4.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Also write the figures here.")

_SHARD_RECORDS = {1 << 10: 60_000, 180 * 180: 2_000}  # by pixels: about 64 MB
_DRAWN = 10_000
_FIRST = 10_000
_FIRST_REPEATS = 3  # at most: each starts TensorFlow
_EPOCHS = 20
_TIERS = {"memory": "memory", "stream": "off"}


def main(_: list[str]) -> None:
    """Measures and prints the tables."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        source = Source(Path(_IMAGES.value), Path(_DATA.value or folder), 0)
        convert(source.images, source.data)
        print(f"{os.cpu_count()} cores; {_REPEATS.value} repeats, medians; files in the page cache")
        found = {
            "size": _against_size(Path(folder)),
            "first batch": _first_batches(source, Path(folder)),
            "flat": _in_new_process(_epochs, source),
            "train": _in_new_process(_training, source, _REPEATS.value, _STEPS.value),
        }
    rss = found["flat"]
    print(f"\n(RSS after each of {_EPOCHS} streamed epochs, MB): {', '.join(f'{mb:,.0f}' for mb in rss)}")
    print("\n(a step of cnn, batch 32)\n")
    print("| input | images/s | step time over that of a constant batch (range) | waiting |\n|-|-|-|-|")
    for name, rows in found["train"].items():
        pairs = zip(found["train"]["constant batch"], rows, strict=True)
        ratios = sorted(a["images_per_second"] / b["images_per_second"] for a, b in pairs)
        print(
            f"| {name} | {statistics.median(r['images_per_second'] for r in rows):,.0f} "
            f"| {statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f}) "
            f"| {statistics.median(r['input_wait'] for r in rows):.2%} |"
        )
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(found, indent=1))


def _against_size(folder: Path) -> dict[str, Any]:
    random = np.random.default_rng(0)
    drawn = [
        encode(Record(random.bytes(1 << 10), number % 2, b"%05d" % number, number, 0, b"%05d" % number))
        for number in range(_DRAWN)
    ]
    found: dict[str, Any] = {}
    print("\n(batch 256, 32x32x1)\n\n| records | | images/s | CPU us/image | peak MB | of the limit |")
    print("|-|-|-|-|-|-|")
    for size in _SIZES.value:
        data = folder / f"{size}"
        _write(data / "raw", cycle(drawn), size, (32, 32, 1), "raw")
        makes = {"limit": limit} | {
            f"ours, {tier}": partial(ours, cache=cache, encoding="raw") for tier, cache in _TIERS.items()
        }
        rows = interleaved(makes, Source(data, data, 256), size, _REPEATS.value, _SECONDS.value)
        for name, values in rows.items():
            pairs = zip(values, rows["limit"], strict=True)
            cells = [
                f"{statistics.median(row[key] for row in values):,.{digits}f}"
                for key, digits in (("images_per_second", 0), ("cpu_us_per_image", 2), ("peak_mb", 0))
            ]
            share = statistics.median(a["images_per_second"] / b["images_per_second"] for a, b in pairs)
            print(f"| {size:,} | {name} | {' | '.join(cells)} | {share:.2f} |", flush=True)
        found[f"{size}"] = rows
    return found


def _first_batches(source: Source, folder: Path) -> dict[str, Any]:
    print(f"\n(first batch of 32, {_FIRST:,} records of 180x180x1)\n")
    print("| tier, encoding | seconds (range) |\n|-|-|")
    found: dict[str, Any] = {}
    for encoding in ENCODINGS:
        data = source.data / encoding
        manifest = Manifest.load(data)
        shards = manifest.split("train").shards
        records = chain.from_iterable(read_records(data / shard.name) for _ in range(2) for shard in shards)
        records = islice(records, _FIRST)
        _write(folder / "first" / encoding, records, _FIRST, manifest.image_shape, encoding)
        for tier, cache in _TIERS.items():
            seconds = [
                _in_new_process(_first_batch, Source(data, folder / "first", 32), cache, encoding)
                for _ in range(min(_REPEATS.value, _FIRST_REPEATS))
            ]
            name = f"{tier}, {encoding}"
            found[name] = seconds
            middle = statistics.median(seconds)
            print(f"| {name} | {middle:.2f} ({min(seconds):.2f}-{max(seconds):.2f}) |", flush=True)
    return found


def _write(out: Path, serialized: Any, count: int, shape: tuple[int, int, int], encoding: str) -> None:
    """Writes a data set of one split from serialized records."""
    out.mkdir(parents=True)
    of_shard = _SHARD_RECORDS[shape[0] * shape[1]]
    total = -(-count // of_shard)
    shards, records = [], iter(serialized)
    for index in range(total):
        name = f"scale-train.tfrecord-{index:05d}-of-{total:05d}"
        size = min(of_shard, count - index * of_shard)
        data = b"".join(map(frame, islice(records, size)))
        (out / name).write_bytes(data)
        shards.append(Shard(name, size, len(data), hashlib.sha256(data).hexdigest()))
    split = Split(tuple(shards), count, count, count, (count - count // 2, count // 2))
    Manifest(
        name="scale",
        class_names=("a", "b"),
        image_shape=shape,
        encoding=encoding,
        splits={"train": split},
        copies=0,
        augmentation={},
        seed=0,
        sources_sha256="",
        plan="",
        rejected=(),
        versions={},
    ).save(out)


def _in_new_process(task: Any, *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


# What follows runs in a process of its own.


def _start_tensorflow() -> None:
    """Imports what the tasks use, and finds the devices, without TensorFlow's notes."""
    with quiet_start():
        import tensorflow as tf

        import data_pipeline.dataset  # noqa: F401

        tf.constant(0)


def _first_batch(source: Source, cache: str, encoding: str) -> float:
    _start_tensorflow()
    started = time.perf_counter()
    next(iter(our_dataset(source, cache=cache, encoding=encoding)))
    return time.perf_counter() - started


def _epochs(source: Source) -> list[float]:
    _start_tensorflow()
    source = replace(source, batch=32)
    steps = -(-Manifest.load(source.raw).split("train").records // source.batch)
    take = ours(source, cache="off", encoding="raw")

    def megabytes() -> Iterator[float]:
        for _ in range(_EPOCHS):
            take(steps)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            yield pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    return list(megabytes())


def _training(source: Source, repeats: int, steps: int) -> dict[str, list[dict[str, float]]]:
    _start_tensorflow()
    import keras
    import tensorflow as tf

    from trainer.config import TrainConfig
    from trainer.loop import Data, Loop
    from trainer.models import build_model
    from trainer.precision import choose_precision, cpu_flags, gpu_capabilities
    from trainer.strategy import make_strategy

    class Speed(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.row = {name: (logs or {})[name] for name in ("images_per_second", "input_wait")}

    policy = choose_precision("auto", gpu_capabilities(), cpu_flags()).policy
    shape = Manifest.load(source.raw).image_shape

    def build() -> tuple[Any, Any]:
        return build_model("cnn", shape, 2, dtype=policy), keras.optimizers.Adam()

    source = replace(source, batch=32)
    strategy = make_strategy(TrainConfig(data=str(source.raw), run_dir="", strategy="mirrored"))
    loop = Loop(strategy, build, classes=2)
    real = {
        f"{tier}, {encoding}": our_dataset(source, cache=cache, encoding=encoding)
        for tier, cache in _TIERS.items()
        for encoding in (ENCODINGS if tier == "stream" else ("raw",))
    }
    constant = tf.data.Dataset.from_tensors(next(iter(real["memory, raw"]))).repeat()
    rows: dict[str, list[dict[str, float]]] = {}
    for repeat in range(repeats + 1):
        for name, dataset in ({"constant batch": constant} | real).items():
            fed = strategy.distribute_datasets_from_function(lambda _, dataset=dataset: dataset)
            # Validation is not measured here, so one step of it will do.
            data = Data(lambda _, fed=fed: fed, lambda fed=fed: fed, steps, 1, source.batch)
            speed = Speed()
            loop.run(data, [speed], epochs=1)
            if repeat:
                rows.setdefault(name, []).append(speed.row)
    return rows


if __name__ == "__main__":
    run(main)
