"""The input pipeline beside its peers, in one run: images/s, CPU time an image and memory.

    pip install tensorflow-datasets torch torchvision grain array_record webdataset mosaicml-streaming
    pip install nvidia-dali-cuda120                                  (those that are missing are left out)
    python benchmarks/input.py --images=chest_xray/train

Every contender reads the same images at 180x180x1, shuffled, and hands out batches of uint8, or of
float32 where it knows no other; nothing is trained. Each has a process of its own, warmed up by an
epoch before anything is timed; then each repeat times all of them one after the other. Peers whose best
number of threads or workers depends on the machine are timed once with each number before, by
themselves, for each batch size; the fastest is the one that takes part, and its name says which.
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
from input_contenders import PEERS, SETTINGS
from input_copies import COPIES, ENCODINGS, Source, convert
from input_timing import Row, interleaved

from data_pipeline.tiers.registry import TIERS
from tfrecords.command import run
from tfrecords.files.outputs import write_output
from tfrecords.manifest import Manifest

_IMAGES = flags.DEFINE_string("images", None, "Class folders of images.", required=True)
_DATA = flags.DEFINE_string("data", None, "Keep what is converted here, for the next run; else nowhere.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Repeats of each.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 0.8, "Timed seconds a repeat.", lower_bound=0.05)
_BATCHES = flags.DEFINE_multi_integer("batch", [32, 256], "Images a batch; may be repeated.")
_ONLY = flags.DEFINE_list("only", [], "Contenders with one of these words in their name; all if none.")
_SETTINGS = flags.DEFINE_enum(
    "settings",
    "best",
    ["best", "all"],
    "How peers' numbers of threads and workers are tried: best: one repeat each; all: --repeats of each, and "
    "a table of them.",
)
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
            at = Source(source.images, source.data, batch)
            title = f"batch {batch}, tiers and encodings"
            found[title] = _measured(title, _ours(), at, records)
            peers, tried = _peers(at, records)
            if tried:
                found[f"batch {batch}, settings"] = tried
            title = f"batch {batch}, peers"
            found[title] = _measured(title, peers, at, records)
    if _JSON.value:
        write_output("--json", _JSON.value, json.dumps(found, indent=1).encode())


def _measured(title: str, makes: dict, source: Source, records: int) -> dict[str, list[Row]]:
    makes = {_LIMIT: input_contenders.limit} | makes
    rows = interleaved(makes, source, records, _REPEATS.value, _SECONDS.value)
    print(_table(title, rows), flush=True)
    return rows


def _ours() -> dict:
    return {
        f"ours, {tier.name}, {encoding}": partial(input_contenders.ours, cache=tier.name, encoding=encoding)
        for tier in TIERS
        for encoding in ENCODINGS
        if _wanted(f"ours, {tier.name}, {encoding}")
    }


def _peers(source: Source, records: int) -> tuple[dict, dict[str, list[Row]]]:
    """Returns the peers, each at its fastest setting, and what was measured to find it."""
    makes = {name: make for name, make in _ours().items() if name in (_MEMORY, _STREAM)}
    tried: dict[str, list[Row]] = {}
    for name, (package, make) in PEERS.items():
        if not (_installed(package) and _wanted(name)):
            continue
        if name not in SETTINGS:
            makes[name] = make
            continue
        argument, values = SETTINGS[name]
        units = {value: argument if value != 1 else argument.removesuffix("s") for value in values}
        settings = {
            f"{name} ({value} {unit})": partial(make, **{argument: value}) for value, unit in units.items()
        }
        repeats = _REPEATS.value if _SETTINGS.value == "all" else 1
        for setting, one in settings.items():  # by itself: two of MosaicML's would share their memory
            tried |= interleaved({setting: one}, source, records, repeats, _SECONDS.value)
        best = max(settings, key=lambda setting: _median(tried[setting], "images_per_second"))
        makes[best] = settings[best]
    if tried and _SETTINGS.value == "all":
        print(_settings_table(f"batch {source.batch}, settings, each by itself", tried), flush=True)
    return makes, tried


def _wanted(name: str) -> bool:
    return not _ONLY.value or any(word in name for word in _ONLY.value) or name in (_MEMORY, _STREAM)


def _installed(package: str) -> bool:
    return all(
        importlib.util.find_spec(".".join(package.split(".")[: depth + 1])) is not None
        for depth in range(package.count(".") + 1)
    )


def _prepare(source: Source) -> None:
    convert(source.images, source.data)
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


def _median(rows: list[Row], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def _settings_table(title: str, rows: dict[str, list[Row]]) -> str:
    lines = [f"\n({title})\n", "| | images/s | CPU us/image | peak MB |", "|-|-|-|-|"]
    lines += [
        f"| {name} | {_median(each, 'images_per_second'):,.0f} | {_median(each, 'cpu_us_per_image'):.1f} "
        f"| {_median(each, 'peak_mb'):,.0f} |"
        for name, each in rows.items()
    ]
    return "\n".join(lines)


def _table(title: str, rows: dict[str, list[Row]]) -> str:
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
        f"| {name} | {_median(each, 'images_per_second'):,.0f} | {_median(each, 'cpu_us_per_image'):.1f} "
        f"| {_median(each, 'peak_mb'):,.0f} | {ratio(name, _LIMIT)} | {ratio(_MEMORY, name)} "
        f"| {ratio(_STREAM, name)} |"
        for name, each in rows.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
