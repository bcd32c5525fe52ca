"""The input pipeline beside its peers, in one run: images/s, CPU time an image and memory.

    pip install tensorflow-datasets torch torchvision grain array_record webdataset mosaicml-streaming
    pip install nvidia-dali-cuda120                                  (those that are missing are left out)
    python benchmarks/input.py --images=chest_xray/train

Every contender reads the same images at 180x180x1, shuffled, and hands out batches of uint8, or of
float32 where it knows no other; nothing is trained. Each has a process of its own, warmed up by an
epoch before anything is timed; then each repeat times all of them one after the other.
Ratios are medians over the repeats of what was measured in the same repeat. All files are in the page
cache. `input_contenders.py` has each contender and its settings.
"""

import importlib.util
import json
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path

import input_contenders
from absl import flags
from input_contenders import COPIES, ENCODINGS, PEERS, Source
from input_timing import Row, interleaved

from data_pipeline.options import CACHES
from tfrecords.command import run
from tfrecords.manifest import Manifest

_IMAGES = flags.DEFINE_string("images", None, "Class folders of images.", required=True)
_DATA = flags.DEFINE_string("data", None, "Keep what is converted here, for the next run; else nowhere.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Repeats of each.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 0.8, "Timed seconds a repeat.", lower_bound=0.05)
_BATCHES = flags.DEFINE_multi_integer("batch", [32, 256], "Images a batch; may be repeated.")
_ONLY = flags.DEFINE_list("only", [], "Contenders with one of these words in their name; all if none.")
_JSON = flags.DEFINE_string("json", None, "Also write the figures here.")

_LIMIT = "limit: numpy.take, one thread"
_MEMORY, _STREAM = "ours, memory, raw", "ours, stream, raw"


def main(_: list[str]) -> None:
    """Measures and prints the tables."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        source = Source(Path(_IMAGES.value), Path(_DATA.value or folder), 0)
        _prepare(source)
        manifest = Manifest.load(source.raw)
        records = manifest.split("train").records
        shape = "x".join(map(str, manifest.image_shape))
        print(
            f"{os.cpu_count()} cores; {records:,} images, {shape}, in the page cache; {_REPEATS.value} "
            f"repeats of {_SECONDS.value:g} s, medians"
        )
        found: dict[str, dict[str, list[Row]]] = {}
        for batch in _BATCHES.value:
            for what, names in (("tiers and encodings", _ours()), ("peers", _peers())):
                makes = {_LIMIT: input_contenders.limit} | names
                at = Source(source.images, source.data, batch)
                title = f"batch {batch}, {what}"
                found[title] = interleaved(makes, at, records, _REPEATS.value, _SECONDS.value)
                print(_table(title, found[title]), flush=True)
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(found, indent=1))


def _ours() -> dict:
    tiers = {"stream" if cache == "off" else cache: cache for cache in CACHES if cache != "auto"}
    return {
        f"ours, {tier}, {encoding}": partial(input_contenders.ours, cache=cache, encoding=encoding)
        for tier, cache in tiers.items()
        for encoding in ENCODINGS
        if _wanted(f"ours, {tier}, {encoding}")
    }


def _peers() -> dict:
    there = {name: make for name, (package, make) in PEERS.items() if _installed(package) and _wanted(name)}
    return {name: make for name, make in _ours().items() if name in (_MEMORY, _STREAM)} | there


def _wanted(name: str) -> bool:
    return not _ONLY.value or any(word in name for word in _ONLY.value) or name in (_MEMORY, _STREAM)


def _installed(package: str) -> bool:
    return all(
        importlib.util.find_spec(".".join(package.split(".")[: depth + 1])) is not None
        for depth in range(package.count(".") + 1)
    )


def _prepare(source: Source) -> None:
    input_contenders.convert(source.images, source.data)
    for name, (package, write) in COPIES.items():
        out = source.data / name
        if _installed(package) and not out.exists():
            with tempfile.TemporaryDirectory(dir=source.data) as temporary:
                part = Path(temporary) / name
                part.mkdir()
                write(source, part)
                part.rename(out)
    for path in source.images.rglob("*"):  # into the page cache
        if path.is_file():
            path.read_bytes()


def _table(title: str, rows: dict[str, list[Row]]) -> str:
    def median(name: str, key: str) -> float:
        return statistics.median(row[key] for row in rows[name])

    def ratio(upper: str, lower: str) -> str:
        pairs = zip(rows[upper], rows[lower], strict=True)
        found = statistics.median(a["images_per_second"] / b["images_per_second"] for a, b in pairs)
        return f"{found:.2f}"

    lines = [
        f"\n({title})\n",
        "| | images/s | CPU us/image | peak MB | of the limit | our memory / this | our stream / this |",
        "|-|-|-|-|-|-|-|",
    ]
    lines += [
        f"| {name} | {median(name, 'images_per_second'):,.0f} | {median(name, 'cpu_us_per_image'):.1f} "
        f"| {median(name, 'peak_mb'):,.0f} | {ratio(name, _LIMIT)} | {ratio(_MEMORY, name)} "
        f"| {ratio(_STREAM, name)} |"
        for name in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
