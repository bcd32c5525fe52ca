"""The input pipeline against the number of records, its first batch, its memory, and a training's wait.

    python benchmarks/input_scale.py --images=chest_xray/train
    python benchmarks/input_scale.py --parts=size --sizes=10000,100000      (size alone needs no images)

size: images/s and peak memory at 10,000, 100,000 and 1,000,000 generated records beside the limit; batch
    256, each contender in a process of its own, warmed up by an epoch. The images are of 32x32x1, random,
    10,000 of them repeated under new ids: 1 KB each, so that a million take 1.2 GB on disk and 1.0 in
    memory, and what a record costs shows, not what its bytes do.
start: seconds to the first batch of 32 with 10,000 records of 180x180x1 (the images, repeated), each time
    in a new process that has imported TensorFlow, from the call of `make_dataset` on.
memory: memory of a process (RSS) after each of 20 epochs of streaming the images.
step: a step of the notebook's CNN, as `trainer` builds it and in the precision that it chooses, on real input
    over the same step on one constant batch of 32, by `data_pipeline.benchmark.step`, in turn.

Files are in the page cache. Each part prints its table when it is done; all of them need 2.5 GB of disk.
"""

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags
from input_contenders import limit, our_dataset, ours
from input_copies import ENCODINGS, Source, convert
from input_generated import generate, images_of, noise
from input_timing import interleaved

from data_pipeline.quiet import quiet_start
from tfrecords.command import run
from tfrecords.errors import InputError
from tfrecords.files.outputs import write_output
from tfrecords.manifest import Manifest

_PARTS_THERE = ("size", "start", "memory", "step")

_IMAGES = flags.DEFINE_string("images", None, "Class folders of images, for all parts but size.")
_DATA = flags.DEFINE_string("data", None, "Keep what is made here, for the next run; else nowhere.")
_PARTS = flags.DEFINE_list("parts", list(_PARTS_THERE), "What to measure, in this order.")
_SIZES = flags.DEFINE_list("sizes", ["10000", "100000", "1000000"], "Records, of size.")
_FIRST = flags.DEFINE_integer("first", 10_000, "Records, of start.", lower_bound=32)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Repeats of each.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 0.5, "Timed seconds a repeat, of size.", lower_bound=0.05)
_STEP_SECONDS = flags.DEFINE_float("step_seconds", 3, "Timed seconds a repeat, of step.", lower_bound=0.1)
_JSON = flags.DEFINE_string("json", None, "Also write the figures here, after each part.")

_SMALL = (32, 32, 1)
_DISTINCT = 10_000  # of the small images
_EPOCHS = 20
_TIERS = ("memory", "stream")


def main(_: list[str]) -> None:
    """Measures and prints the tables."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    _check_flags()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Source(Path(_IMAGES.value or ""), Path(_DATA.value or folder), 32)
        if _PARTS.value != ["size"]:
            convert(source.images, source.data)
        print(f"{os.cpu_count()} cores; {_REPEATS.value} repeats, medians; files in the page cache")
        measure = {"size": _against_size, "start": _first_batches, "memory": _memory, "step": _steps}
        for part in _PARTS.value:
            found[part] = measure[part](source)
            if _JSON.value:
                write_output("--json", _JSON.value, json.dumps(found, indent=1).encode())


def _check_flags() -> None:
    if not _PARTS.value or not {*_PARTS.value} <= {*_PARTS_THERE}:
        raise InputError(f"--parts={','.join(_PARTS.value)}: must be some of {', '.join(_PARTS_THERE)}")
    if wrong := [size for size in _SIZES.value if not size.isdecimal() or int(size) < 256]:
        raise InputError(f"--sizes={','.join(wrong)}: must be numbers of records, 256 or more")
    if not _IMAGES.value and _PARTS.value != ["size"]:
        raise InputError("--images is missing: give class folders of images, or --parts=size")


def _against_size(source: Source) -> dict[str, Any]:
    print("\n(size: batch 256, 32x32x1)\n\n| records | | images/s | CPU us/image | peak MB | of the limit |")
    print("|-|-|-|-|-|-|")
    makes = {"limit": limit} | {f"ours, {tier}": partial(ours, cache=tier, encoding="raw") for tier in _TIERS}
    images, found = noise(_DISTINCT, _SMALL), {}
    for size in map(int, _SIZES.value):
        data = source.data / "size" / f"{size}"
        generate(data / "raw", images, size, _SMALL, "raw")
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


def _first_batches(source: Source) -> dict[str, list[float]]:
    print(f"\n(start: first batch of 32, {_FIRST.value:,} records of 180x180x1)\n")
    print("| tier, encoding | seconds (range) |\n|-|-|")
    found = {}
    at = Source(source.images, source.data / "start" / f"{_FIRST.value}", 32)
    for encoding in ENCODINGS:
        shape = Manifest.load(source.data / encoding).image_shape
        generate(at.data / encoding, images_of(source.data / encoding), _FIRST.value, shape, encoding)
        for tier in _TIERS:
            name = f"{tier}, {encoding}"
            found[name] = [_apart(_first_batch, at, tier, encoding) for _ in range(_REPEATS.value)]
            print(f"| {name} | {_median_and_range(found[name], 2)} |", flush=True)
    return found


def _memory(source: Source) -> list[float]:
    found = _apart(_epochs, source)
    print(f"\n(memory: RSS of a process after each of {_EPOCHS} streamed epochs, raw)\n")
    print(f"| epoch | {' | '.join(str(epoch) for epoch in range(1, _EPOCHS + 1))} |\n|{'-|' * (_EPOCHS + 1)}")
    print(f"| RSS MB | {' | '.join(f'{mb:,.0f}' for mb in found)} |", flush=True)
    return found


def _steps(source: Source) -> dict[str, Any]:
    print("\n(step: cnn, batch 32)\n")
    print("| input | ms a step | over that of a constant batch (range) | waiting |\n|-|-|-|-|")
    found = {}
    for tier, encoding in [("memory", "raw"), *(("stream", encoding) for encoding in ENCODINGS)]:
        name = f"{tier}, {encoding}"
        found[name] = _apart(_step, source, tier, encoding, _STEP_SECONDS.value, _REPEATS.value)
        real = found[name]["real_seconds"]
        ratios = [a / b for a, b in zip(real, found[name]["constant_seconds"], strict=True)]
        print(
            f"| {name} | {statistics.median(real) * 1e3:.1f} | {_median_and_range(ratios, 3)} "
            f"| {found[name]['waited_share']:.2%} |",
            flush=True,
        )
    return found


def _median_and_range(values: list[float], digits: int) -> str:
    middle, least, most = (f"{f(values):.{digits}f}" for f in (statistics.median, min, max))
    return f"{middle} ({least}-{most})"


def _apart(task: Any, *arguments: Any) -> Any:
    """Returns what a task gives in a process of its own.

    It is killed as soon as it has answered: threads that make batches ahead can hold up its own end.
    """
    context = multiprocessing.get_context("spawn")
    own, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, task, arguments))
    process.start()
    theirs.close()
    try:
        return own.recv()
    except EOFError:
        raise RuntimeError(f"{task.__name__} failed; its error is above") from None
    finally:
        process.kill()
        process.join()


# What follows runs in a process of its own.


def _answer(pipe: Any, task: Any, arguments: tuple[Any, ...]) -> None:
    with quiet_start():
        import tensorflow as tf

        import data_pipeline.dataset  # noqa: F401

        tf.constant(0)  # finds the devices
    pipe.send(task(*arguments))


def _first_batch(source: Source, cache: str, encoding: str) -> float:
    started = time.perf_counter()
    next(iter(our_dataset(source, cache=cache, encoding=encoding)))
    return time.perf_counter() - started


def _epochs(source: Source) -> list[float]:
    steps = -(-Manifest.load(source.raw).split("train").records // source.batch)
    take, found = ours(source, cache="stream", encoding="raw"), []
    for _ in range(_EPOCHS):
        take(steps)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        found.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return found


def _step(source: Source, cache: str, encoding: str, seconds: float, repeats: int) -> dict[str, Any]:
    from data_pipeline.benchmark.step import TimedStep
    from data_pipeline.options import PipelineOptions
    from trainer.devices.precision import choose_precision, cpu_flags, gpu_capabilities
    from trainer.models.registry import build_model

    data = source.data / encoding
    manifest = Manifest.load(data)
    policy = choose_precision("auto", gpu_capabilities(), cpu_flags()).policy
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.keras"
        build_model("cnn", manifest.image_shape, len(manifest.class_names), dtype=policy).save(model)
        options = PipelineOptions(global_batch_size=source.batch, cache=cache)
        timed = TimedStep(data, manifest, "train", options, model=str(model), place="/cpu:0")
    return timed.measure(seconds, repeats).to_json() | {"policy": policy}


if __name__ == "__main__":
    run(main)
