"""The notebook's way beside ours, in one run: an epoch of training, and the input alone.

    python benchmarks/notebook.py --images=IMAGE_FOLDER

The notebook's way is `image_dataset_from_directory` and Keras `fit` in float32; ours is the converted
data set, `make_dataset` and our loop with the default precision. Same model (`cnn`), same batch size,
the same share of the same images for training, no augmented copies. Each repeat runs one after the
other, so that a change of the machine's speed meets both; the first of each warms up and is not
counted. Training times are of the training steps alone, without validation.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from data_pipeline.quiet import quiet_start
from tfrecords.command import run
from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.files.outputs import write_output
from tfrecords.manifest import Manifest

_IMAGES = flags.DEFINE_string("images", None, "Class folders of images.", required=True)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Counted repeats of each.", lower_bound=1)
_BATCH = flags.DEFINE_integer("global_batch_size", 32, "Images a step.", lower_bound=1)
_PART = flags.DEFINE_enum("part", "all", ["all", "input", "training"], "What to measure.")
_JSON = flags.DEFINE_string("json", None, "Also write the figures here.")

_SIZE = (180, 180)
_VAL_FRACTION = 0.2
_EPOCHS = 10


def main(_: list[str]) -> None:
    """Measures and prints the table."""
    with quiet_start():
        import tensorflow as tf

        tf.config.list_logical_devices()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        options = ConvertOptions(
            Path(_IMAGES.value), data, copies=0, val_fraction=_VAL_FRACTION, test_fraction=0.0
        )
        manifest = convert_images(options).manifest
        rows: dict[str, dict[str, Any]] = {}
        if _PART.value != "training":
            rows["input alone"] = _compare(_their_input(), _our_input(data, manifest))
        if _PART.value != "input":
            rows["training"] = _compare(_their_training(), _our_training(data, manifest))
    print(_table(rows, manifest))
    if _JSON.value:
        write_output("--json", _JSON.value, json.dumps(rows, indent=1).encode())


Measure = Callable[[], tuple[float, int]]  # () -> seconds, images


def _compare(theirs: Measure, ours: Measure) -> dict[str, Any]:
    theirs(), ours()
    pairs = [(theirs(), ours()) for _ in range(_REPEATS.value)]
    ratios = [(b[1] / b[0]) / (a[1] / a[0]) for a, b in pairs]
    return {
        "theirs": [{"seconds": a[0], "images": a[1]} for a, _ in pairs],
        "ours": [{"seconds": b[0], "images": b[1]} for _, b in pairs],
        "speed_ratio": statistics.median(ratios),
        "speed_ratio_range": [min(ratios), max(ratios)],
    }


def _their_dataset() -> Any:
    import keras

    return keras.utils.image_dataset_from_directory(
        _IMAGES.value,
        color_mode="grayscale",
        image_size=_SIZE,
        batch_size=_BATCH.value,
        validation_split=_VAL_FRACTION,
        subset="training",
        seed=0,
        verbose=False,
    )


def _their_input() -> Measure:
    dataset = _their_dataset()

    def measure() -> tuple[float, int]:
        started, images = time.perf_counter(), 0
        for batch, _ in dataset:
            images += batch.shape[0]
        return time.perf_counter() - started, images

    return measure


def _our_input(data: Path, manifest: Manifest) -> Measure:
    from data_pipeline.dataset import epoch_steps, make_dataset
    from data_pipeline.options import PipelineOptions

    options = PipelineOptions(global_batch_size=_BATCH.value)
    dataset = make_dataset(data, manifest, "train", options, training=True)
    steps = epoch_steps(manifest, "train", options, training=True)

    def measure() -> tuple[float, int]:
        started, images = time.perf_counter(), 0
        for batch in dataset.take(_EPOCHS * steps):  # one is too short to be timed
            images += batch["label"].shape[0]
        return time.perf_counter() - started, images

    return measure


def _their_training() -> Measure:
    import keras
    from keras import layers

    dataset = _their_dataset()
    model = keras.Sequential(
        [keras.Input((*_SIZE, 1)), layers.Rescaling(1 / 255)]
        + [
            layer
            for filters in (16, 32, 64)
            for layer in (layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D())
        ]
        + [layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(2, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = len(dataset.file_paths)

    def measure() -> tuple[float, int]:
        started = time.perf_counter()
        model.fit(dataset, verbose=0)
        return time.perf_counter() - started, images

    return measure


def _our_training(data: Path, manifest: Manifest) -> Measure:
    import keras

    from data_pipeline.dataset import epoch_steps, make_dataset
    from data_pipeline.options import PipelineOptions
    from trainer.config import TrainConfig
    from trainer.devices.precision import choose_precision, cpu_flags, gpu_capabilities
    from trainer.devices.strategy import make_strategy
    from trainer.loop import Data, Loop
    from trainer.models.registry import build_model

    class Speed(keras.callbacks.Callback):
        images_per_second = 0.0

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            self.images_per_second = (logs or {})["images_per_second"]

    policy = choose_precision("auto", gpu_capabilities(), cpu_flags()).policy

    def build() -> tuple[Any, Any]:
        return build_model("cnn", manifest.image_shape, 2, dtype=policy), keras.optimizers.Adam()

    strategy = make_strategy(TrainConfig(data=str(data), run_dir="", strategy="mirrored"))
    loop = Loop(strategy, build, classes=2)
    options = PipelineOptions(global_batch_size=_BATCH.value)
    steps = epoch_steps(manifest, "train", options, training=True)
    sets = {
        name: strategy.distribute_datasets_from_function(
            lambda _, name=name: make_dataset(data, manifest, name, options, training=name == "train")
        )
        for name in ("train", "val")
    }
    # Validation is not measured here, so one step of it will do.
    reads = Data(lambda _: sets["train"], lambda: sets["val"], steps, 1, _BATCH.value)

    def measure() -> tuple[float, int]:
        speed = Speed()
        loop.run(reads, [speed], epochs=1)
        images = steps * _BATCH.value
        return images / speed.images_per_second, images

    return measure


def _table(rows: dict[str, dict[str, Any]], manifest: Manifest) -> str:
    import keras
    import tensorflow as tf

    from trainer.devices.precision import choose_precision, cpu_flags, gpu_capabilities

    precision = choose_precision("auto", gpu_capabilities(), cpu_flags())
    lines = [
        f"hardware: {os.cpu_count()} cores, {len(tf.config.list_physical_devices('GPU'))} GPUs; "
        f"tensorflow {tf.__version__}, keras {keras.__version__}",
        f"images: {manifest.splits['train'].images:,} to train on, {_SIZE[0]}x{_SIZE[1]}x1, in the page "
        f"cache; batch {_BATCH.value}; {_REPEATS.value} repeats, medians",
        f"precision: theirs float32, ours {precision.policy} ({precision.reason})",
        "",
        "| | notebook's way | ours | speed, ours / theirs (range) | epoch time, ours / theirs |",
        "|-|-|-|-|-|",
    ]
    images = manifest.splits["train"].images
    for name, row in rows.items():
        cells = [
            f"{statistics.median(r['images'] / r['seconds'] for r in row[who]):,.0f} images/s, "
            f"{statistics.median(images * r['seconds'] / r['images'] for r in row[who]):.2f} s an epoch"
            for who in ("theirs", "ours")
        ]
        low, high = row["speed_ratio_range"]
        ratio = row["speed_ratio"]
        lines.append(
            f"| {name} | {cells[0]} | {cells[1]} | {ratio:.2f} ({low:.2f}-{high:.2f}) | {1 / ratio:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
