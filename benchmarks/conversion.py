"""Conversion beside its peers, in one run: whole processes, medians, CPU time and memory.

    pip install tensorflow-datasets webdataset mosaicml-streaming      (those that are missing are left out)
    python benchmarks/conversion.py --images=chest_xray/train

Every contender reads the same files, decodes them to grayscale, resizes them to 180x180 with
antialiasing and writes them raw, in a process of its own from its start to its end; "limit" only
decodes, on all cores, with what is imported for that alone, JPEGs at the fraction of their size that
ours takes; "limit, full size" without. Each repeat runs all of them one after the
other. Inputs: (a) the images as they are, (b) some of them enlarged to 1,857x1,317 JPEG of quality 90,
the size of the originals of the chest X-rays. All files are in the page cache.
"""

import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from absl import flags

from tfrecords.command import run
from tfrecords.files.outputs import write_output

_IMAGES = flags.DEFINE_string("images", None, "Class folders of images.", required=True)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Repeats of each.", lower_bound=1)
_LARGE = flags.DEFINE_integer("large", 1000, "Images enlarged for (b); 0: no (b).", lower_bound=0)
_JSON = flags.DEFINE_string("json", None, "Also write the figures here.")

_SIZE = 180
_LARGE_SIZE = (1857, 1317)
_CHUNK = 64


def main(_: list[str]) -> None:
    """Measures and prints the tables."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = {"a: as they are": Path(_IMAGES.value)}
        if _LARGE.value:
            inputs["b: 1857x1317"] = _enlarge(Path(_IMAGES.value), Path(folder) / "large", _LARGE.value)
        found = {name: _measure(images, Path(folder)) for name, images in inputs.items()}
    print(f"{os.cpu_count()} cores, {_REPEATS.value} repeats, medians, files in the page cache")
    for name, rows in found.items():
        print(_table(name, rows))
    if _JSON.value:
        write_output("--json", _JSON.value, json.dumps(found, indent=1).encode())


def _measure(images: Path, folder: Path) -> dict[str, list[dict[str, float]]]:
    count = len(_files(images))
    for path in _files(images):  # into the page cache
        path.read_bytes()
    rows: dict[str, list[dict[str, float]]] = {}
    for _ in range(_REPEATS.value):
        for name, (package, _) in CONTENDERS.items():
            if package and importlib.util.find_spec(package) is None:
                continue
            with tempfile.TemporaryDirectory(dir=folder) as out:
                rows.setdefault(name, []).append(_timed(name, images, Path(out), count))
    return rows


def _timed(name: str, images: Path, out: Path, count: int) -> dict[str, float]:
    started = time.perf_counter()
    command = [sys.executable, __file__, "--child", name, str(images), str(out)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    errors = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{name} failed:\n{errors.decode()}")
    return {
        "images_per_second": count / seconds,
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
        "output_mb": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6,
    }


def _table(name: str, rows: dict[str, list[dict[str, float]]]) -> str:
    def median(who: str, key: str) -> float:
        return statistics.median(row[key] for row in rows[who])

    lines = [
        f"\n({name})\n",
        "| | images/s | of the limit | ours / this | seconds | CPU s | peak MB of a process | output MB |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for who, theirs in rows.items():
        triples = zip(rows["ours, no copies"], theirs, rows["limit"], strict=True)
        ratios = [tuple(row["images_per_second"] for row in triple) for triple in triples]
        lines.append(
            f"| {who} | {median(who, 'images_per_second'):,.0f} "
            f"| {statistics.median(w / k for _, w, k in ratios):.2f} "
            f"| {statistics.median(o / w for o, w, _ in ratios):.2f} | {median(who, 'seconds'):.1f} "
            f"| {median(who, 'cpu_seconds'):.1f} | {median(who, 'peak_mb'):,.0f} "
            f"| {median(who, 'output_mb'):,.0f} |"
        )
    return "\n".join(lines)


def _enlarge(images: Path, out: Path, count: int) -> Path:
    from PIL import Image

    files = _files(images)
    for path in files[:: max(1, len(files) // count)][:count]:
        target = out / path.relative_to(images)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            large = image.convert("L").resize(_LARGE_SIZE, Image.Resampling.BICUBIC)
        large.save(target, "JPEG", quality=90)
    return out


def _files(images: Path) -> list[Path]:
    return sorted(path for path in images.rglob("*.jp*g") if path.is_file())


def _pillow_image(path: Path) -> Any:
    """The plain way: decode all, then resize."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((_SIZE, _SIZE), Image.Resampling.BILINEAR))


def _labelled(images: Path) -> Iterator[tuple[Path, int]]:
    names = sorted(path.name for path in images.iterdir() if path.is_dir())
    for path in _files(images):
        yield path, names.index(path.parent.name)


# What follows runs in a process of its own.


def _limit(least: int) -> Callable[[Path, Path], None]:
    def decode_all(images: Path, out: Path) -> None:
        files = _files(images)
        parts = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
            for _ in pool.map(partial(_decode_only, least), parts):
                pass

    return decode_all


def _decode_only(least: int, paths: list[Path]) -> None:
    from PIL import Image

    for path in paths:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.draft("L", (least, least))
            image.load()


def _ours(copies: int) -> Callable[[Path, Path], None]:
    def convert(images: Path, out: Path) -> None:
        from tfrecords.convert.conversion import convert_images
        from tfrecords.convert.options import ConvertOptions

        convert_images(ConvertOptions(images, out / "data", copies=copies, size=(_SIZE, _SIZE)))

    return convert


def _plain_loop(images: Path, out: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(out / "data.tfrecord")) as writer:
        for path, label in _labelled(images):
            image = tf.io.decode_jpeg(tf.io.read_file(str(path)), channels=1)
            image = tf.cast(tf.image.resize(image, (_SIZE, _SIZE), antialias=True), tf.uint8)
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.numpy().tobytes()])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def _tensorflow_datasets(images: Path, out: Path) -> None:
    import numpy as np
    import tensorflow_datasets as tfds

    class Images(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            shape = tfds.features.Tensor(shape=(_SIZE, _SIZE, 1), dtype=np.uint8)
            features = {"image": shape, "label": tfds.features.ClassLabel(num_classes=2)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _: Any) -> Any:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Any:
            for path, label in _labelled(images):
                yield path.name, {"image": _pillow_image(path)[..., None], "label": label}

    Images(data_dir=str(out)).download_and_prepare()


def _webdataset(images: Path, out: Path) -> None:
    import webdataset

    with webdataset.ShardWriter(str(out / "%05d.tar"), maxsize=64 << 20, verbose=0) as writer:
        for number, (path, label) in enumerate(_labelled(images)):
            writer.write({"__key__": f"{number:08d}", "image.npy": _pillow_image(path), "label.cls": label})


def _mosaic(images: Path, out: Path) -> None:
    from streaming import MDSWriter

    columns = {"image": "ndarray:uint8:180,180", "label": "int"}
    with MDSWriter(out=str(out), columns=columns, size_limit=64 << 20) as writer:
        for path, label in _labelled(images):
            writer.write({"image": _pillow_image(path), "label": label})


CONTENDERS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "limit": ("", _limit(2 * _SIZE)),
    "limit, full size": ("", _limit(1 << 30)),
    "ours, no copies": ("", _ours(0)),
    "ours, one copy": ("", _ours(1)),
    "plain TensorFlow loop": ("", _plain_loop),
    "tensorflow-datasets": ("tensorflow_datasets", _tensorflow_datasets),
    "WebDataset ShardWriter": ("webdataset", _webdataset),
    "MosaicML MDSWriter": ("streaming", _mosaic),
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        CONTENDERS[sys.argv[2]][1](Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        run(main)
