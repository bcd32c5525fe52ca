"""Times a training step on real batches and on one constant batch: the difference is what the input costs."""

import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf

from data_pipeline.damage import named_damage
from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.step.gradient import expect_summed_gradients, train_step
from data_pipeline.step.network import classifier, cnn
from data_pipeline.tiers.device_tables import look_up
from data_pipeline.tiers.registry import tier_named
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest

BUILT_IN: Final = "cnn"
_SUFFIX: Final = ".keras"


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a step, one entry for each repeat; those of one repeat are measured one after the other.

    Attributes:
        constant: on one batch that is in memory already.
        real: on batches from the pipeline.
        waited: the part of `real` before the batch arrives.
    """

    constant: tuple[float, ...]
    real: tuple[float, ...]
    waited: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Real over constant, of each repeat."""
        return tuple(real / same for real, same in zip(self.real, self.constant, strict=True))

    @property
    def ratio(self) -> float:
        """The median of `ratios`."""
        return statistics.median(self.ratios)

    @property
    def share(self) -> float:
        """The share of a step's time that the input takes; noise can make it negative."""
        return 1 - 1 / self.ratio

    @property
    def waited_share(self) -> float:
        """The share of a step's time that passes before its batch arrives."""
        return statistics.median(wait / real for wait, real in zip(self.waited, self.real, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "constant_seconds": list(self.constant),
            "real_seconds": list(self.real),
            "waited_seconds": list(self.waited),
            "ratio": self.ratio,
            "input_share": self.share,
            "waited_share": self.waited_share,
        }


def open_model(name: str, manifest: Manifest) -> keras.Model:
    """Returns the model whose step is timed: uint8 [B, H, W, C] to float32 logits [B, classes].

    Args:
        name: "cnn" for the built-in one, a .keras file, or a run's folder with one.
        manifest: of the data set.

    Raises:
        InputError: the file does not exist, Keras' safe mode does not load it, or it is for other data.
    """
    if name == BUILT_IN:
        classes = len(manifest.class_names)
        try:
            return classifier(cnn, manifest.image_shape, classes, dtype="float32", name=BUILT_IN)
        except InputError as error:
            raise InputError(f"{error}; use --model=none") from None
    path = Path(name) / "model.keras" if Path(name).is_dir() else Path(name)
    if path.suffix != _SUFFIX or not path.is_file():
        raise InputError(
            f"--model={name}: must be {BUILT_IN}, none, a {_SUFFIX} file or the folder of a finished run"
        )
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise InputError(f"--model={path}: cannot be loaded: {str(error).splitlines()[0]}") from None
    wanted = ((None, *manifest.image_shape), (None, len(manifest.class_names)))
    if (model.input_shape, model.output_shape) != wanted:
        raise InputError(
            f"--model={path}: takes {model.input_shape} and gives {model.output_shape}, this data set needs "
            f"{wanted[0]} and {wanted[1]}; choose a model that was trained on it"
        )
    return model


class TimedStep:
    """Runs training steps of a model with Adam on one device, in blocks inside a `tf.function`.

    Args:
        directory: of the data set.
        manifest: of the data set.
        split: name of the split to read.
        options: of the pipeline; `cache` must not be "auto".
        model: see the name of `open_model`.
        place: the device, "/gpu:0" or "/cpu:0".
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        split: str,
        options: PipelineOptions,
        *,
        model: str,
        place: str,
    ) -> None:
        def named() -> AbstractContextManager[None]:
            return named_damage(directory, manifest, split)

        self._named = named
        self._prefetch = options.prefetch
        self._strategy = tf.distribute.OneDeviceStrategy(place)
        with self._strategy.scope():
            self.model = open_model(model, manifest)
            self._optimizer = keras.optimizers.Adam()
            self._optimizer.build(self.model.trainable_variables)
            expect_summed_gradients(self._optimizer)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
        with self._named():
            self._batches = iter(
                self._strategy.distribute_datasets_from_function(
                    lambda _: make_dataset(
                        directory, manifest, split, options, training=True, worker=Worker()
                    )
                )
            )
            tables = tier_named(options.cache).tables(directory, manifest, split, [place])
            self._table = tables[0] if tables else None
            first = look_up(next(self._batches), self._table)
        with self._strategy.scope():
            # Variables, because what depends on constants alone would be computed once, before the steps.
            self._same = {name: tf.Variable(value, trainable=False) for name, value in first.items()}
        self._constant_block = tf.function(self._constant)
        self._real_block = tf.function(self._real)

    def measure(self, seconds: float, repeats: int) -> StepTimes:
        """Times pairs of blocks, constant and real, of about `seconds` each, after a warm-up of both.

        The two take turns to be first, so that a machine that slows down favours neither.

        Raises:
            InputError: a shard is missing, cut or damaged; the message names it and the record.
        """
        with self._named():
            self._time(self._constant_block, 1)  # traces
            steps = max(2, round(seconds / self._time(self._constant_block, 2)[0]))
            self._time_real(1)
            constant, real = [], []
            for repeat in range(repeats):
                if repeat % 2:
                    real.append(self._time_real(steps))
                constant.append(self._time(self._constant_block, steps))
                if not repeat % 2:
                    real.append(self._time_real(steps))
        return StepTimes(_first(constant), _first(real), tuple(waited for _, waited in real))

    def _time_real(self, steps: int) -> tuple[float, float]:
        for _ in range(self._prefetch):  # left out: these batches were made while the other block ran
            next(self._batches)
        return self._time(lambda count: self._real_block(self._batches, count), steps)

    def _time(self, block: Any, steps: int) -> tuple[float, float]:
        """Returns the seconds of a step, and the part of them that it waits for its batch."""
        started = time.perf_counter()
        waited = float(block(tf.constant(steps)))  # returns when the block has ended
        self._optimizer.iterations.numpy()
        return (time.perf_counter() - started) / steps, waited / steps

    def _train(self, given: dict[str, Any]) -> None:
        # The constant batch holds its images, whatever the tier.
        batch = look_up(given, self._table) if "index" in given else given
        train_step(self.model, self._optimizer, self._loss, batch["image"], batch["label"], batch["weight"])

    def _constant(self, count: Any) -> Any:
        for _ in tf.range(count):
            batch = {name: value.read_value() for name, value in self._same.items()}
            self._strategy.run(self._train, args=(batch,))
        return tf.constant(0.0, tf.float64)

    def _real(self, batches: Any, count: Any) -> Any:
        waited = tf.constant(0.0, tf.float64)
        for _ in tf.range(count):
            asked = tf.timestamp()
            with tf.control_dependencies([asked]):
                batch = next(batches)
            with tf.control_dependencies(tf.nest.flatten(batch)):
                waited += tf.timestamp() - asked
            self._strategy.run(self._train, args=(batch,))
        return waited


def _first(pairs: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    return tuple(first for first, _ in pairs)
