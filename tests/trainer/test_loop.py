import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

from tfrecords.errors import EndedEarly
from trainer.evaluation.metric_table import OF_AN_EPOCH, PREFIX, names
from trainer.loop import Data, Loop, block_end
from trainer.models import build_model

SHAPE = (6, 6, 1)


@dataclass(frozen=True)
class Records:
    """Drawn records: image uint8 [N, 6, 6, 1], label int32 [N]."""

    image: np.ndarray
    label: np.ndarray

    def batches(self, size):
        """A dataset of batches of `size`, the last filled up with white images of weight 0."""
        filling = -len(self.label) % size
        return tf.data.Dataset.from_tensor_slices(
            {
                "image": np.concatenate([self.image, np.full((filling, *SHAPE), 255, np.uint8)]),
                "label": np.concatenate([self.label, np.zeros(filling, np.int32)]),
                "weight": np.repeat([1, 0], [len(self.label), filling]).astype(np.float32),
            }
        ).batch(size, drop_remainder=True)


def drawn(records, classes=2, seed=0):
    random = np.random.default_rng(seed)
    label = random.integers(classes, size=records).astype(np.int32)
    image = random.integers(0, 200, (records, *SHAPE)) + 20 * label[:, None, None, None]
    return Records(image.astype(np.uint8), label)


def make_loop(
    classes=2, *, optimizer: Callable = lambda: keras.optimizers.Adam(0.01), dtype="float32", **options
):
    keras.utils.set_random_seed(3)

    def build():
        return build_model("mlp", SHAPE, classes, dtype=dtype), optimizer()

    return Loop(tf.distribute.OneDeviceStrategy("CPU:0"), build, classes, **options)


def data(loop, train, val, size):
    spread = loop.strategy.experimental_distribute_dataset
    steps = -(-len(train.label) // size)
    return Data(
        train=lambda start: spread(train.batches(size).repeat().skip(start)),
        val=lambda: spread(val.batches(size).repeat()),
        steps_per_epoch=steps,
        val_steps=-(-len(val.label) // size),
        global_batch_size=size,
    )


class Recorder(keras.callbacks.Callback):
    """Notes each call with its index and logs; `on_epoch` is done at the start of each epoch."""

    def __init__(self, on_epoch=lambda model, epoch: None):
        super().__init__()
        self.calls, self.epochs, self._on_epoch = [], [], on_epoch

    def _note(self, name, index, logs):
        self.calls.append((name, index, set(logs or ())))

    def on_train_begin(self, logs=None):
        self._note("train_begin", None, logs)

    def on_train_end(self, logs=None):
        self._note("train_end", None, logs)

    def on_epoch_begin(self, epoch, logs=None):
        self._note("epoch_begin", epoch, logs)
        self._on_epoch(self.model, epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._note("epoch_end", epoch, logs)
        self.epochs.append(dict(logs))

    def on_train_batch_begin(self, batch, logs=None):
        self._note("batch_begin", batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self._note("batch_end", batch, logs)

    def on_test_begin(self, logs=None):
        self._note("test_begin", None, logs)

    def on_test_end(self, logs=None):
        self._note("test_end", None, logs)


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "records"), [(2, 21), (3, 21), (2, 5)])
def test_validation_over_padded_batches_is_that_of_the_records_alone(classes, records):
    loop, val, recorder = make_loop(classes), drawn(records, classes, seed=1), Recorder()
    loop.run(data(loop, drawn(32, classes), val, 8), [recorder], epochs=2)
    logits = np.asarray(loop.model(val.image, training=False), np.float64)
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = recorder.epochs[-1]
    assert found["val_loss"] == pytest.approx(
        sklearn_metrics.log_loss(val.label, probability, labels=range(classes)), rel=1e-6
    )
    assert found["val_accuracy"] == np.float32(sklearn_metrics.accuracy_score(val.label, logits.argmax(1)))
    if classes == 2:
        auc = keras.metrics.AUC()
        auc.update_state(val.label, probability[:, 1])
    else:
        auc = keras.metrics.AUC(multi_label=True, num_labels=3)
        auc.update_state(np.eye(3)[val.label], probability)
    assert found["val_auc"] == pytest.approx(float(auc.result()), abs=1e-6)


@pytest.mark.slow
def test_each_validation_starts_anew():
    loop, recorder = make_loop(optimizer=lambda: keras.optimizers.SGD(0.0)), Recorder()
    loop.run(data(loop, drawn(16), drawn(21), 8), [recorder], epochs=3)
    first, *others = ({name: v for name, v in e.items() if "val_" in name} for e in recorder.epochs)
    assert first
    assert others == [first, first]
    assert len({e["loss"] for e in recorder.epochs}) == 1


@pytest.mark.slow
def test_train_images_alone_are_augmented_each_by_its_key():
    """As training on images that were changed before; validation is on the images as they are."""
    train, val, found = drawn(32), drawn(21, seed=1), []

    def keyed(records, size):
        key = np.arange(len(records.label)) % 50
        return tf.data.Dataset.zip(
            records.batches(size), tf.data.Dataset.from_tensor_slices(key).batch(size)
        ).map(lambda batch, key: batch | {"key": key})

    def darker(image, key):
        return image - tf.cast(tf.reshape(key, [-1, 1, 1, 1]) % 20, tf.uint8)

    changed = Records(darker(train.image, np.arange(32)).numpy(), train.label)
    for records, options in ((train, {"augment": darker}), (changed, {})):
        loop, recorder = make_loop(**options), Recorder()
        spread = loop.strategy.experimental_distribute_dataset
        given = data(loop, records, val, 8)
        keys = replace(
            given, train=lambda start, records=records, spread=spread: spread(keyed(records, 8).repeat())
        )
        loop.run(keys, [recorder], epochs=2)
        found.append([{n: v for n, v in e.items() if "loss" in n or "auc" in n} for e in recorder.epochs])
    assert found[0] == found[1]
    assert len(found[0][0]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("class_weights", [None, (0.4, 3.0)])
@pytest.mark.parametrize(
    "optimizer",
    [lambda: keras.optimizers.SGD(0.3, momentum=0.9), lambda: keras.optimizers.Adam(0.01)],
    ids=["sgd", "adam"],
)
def test_steps_are_those_of_plain_tensorflow(class_weights, optimizer):
    loop, records, recorder = (
        make_loop(optimizer=optimizer, class_weights=class_weights),
        drawn(30),
        Recorder(),
    )
    plain, plain_optimizer = keras.models.clone_model(loop.model), optimizer()
    plain.set_weights(loop.model.get_weights())
    before = loop.model.get_weights()

    weights, losses, unweighted = np.asarray(class_weights or (1, 1), np.float32), [], []
    for batch in records.batches(8).repeat(2):  # the last batch of the four is padded
        weight = batch["weight"] * weights[batch["label"].numpy()]
        with tf.GradientTape() as tape:
            logits = plain(batch["image"], training=True)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], logits)
            loss = tf.reduce_sum(each * weight) / tf.reduce_sum(weight)
        gradients = tape.gradient(loss, plain.trainable_variables)
        plain_optimizer.apply_gradients(zip(gradients, plain.trainable_variables, strict=True))
        losses.append((float(loss), float(tf.reduce_sum(weight))))
        unweighted += each[batch["weight"] > 0].numpy().tolist()

    loop.run(data(loop, records, drawn(8), 8), [recorder], epochs=2)
    for ours, theirs, start in zip(loop.model.get_weights(), plain.get_weights(), before, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        assert np.abs(ours - start).max() > 1e-5  # they moved
    for epoch, logs in enumerate(recorder.epochs):
        values, sizes = zip(*losses[epoch * 4 : epoch * 4 + 4], strict=True)
        weighted = np.average(values, weights=sizes)
        assert logs["weighted_loss" if class_weights else "loss"] == pytest.approx(weighted, rel=1e-5)
        assert logs["loss"] == pytest.approx(np.mean(unweighted[epoch * 30 : epoch * 30 + 30]), rel=1e-5)


@pytest.mark.slow
def test_metrics_of_training_are_those_of_validation_whatever_the_classes_weigh():
    logs = {}
    for weights in (None, (0.1, 5.0)):
        recorder, records = Recorder(), drawn(24)
        loop = make_loop(optimizer=lambda: keras.optimizers.SGD(0.0), class_weights=weights)
        loop.run(data(loop, records, records, 8), [recorder], epochs=1)
        logs[weights] = recorder.epochs[0]
    plain, weighted = logs.values()
    for name in ("loss", "accuracy", "auc"):  # nothing was learned, of the same records
        assert weighted[name] == plain[name] == weighted[f"val_{name}"] == plain[f"val_{name}"], name
    assert abs(weighted["weighted_loss"] - weighted["loss"]) > 1e-3
    assert "weighted_loss" not in plain


@pytest.mark.slow
def test_callbacks_get_keras_calls_in_order_with_all_logs():
    loop, recorder = make_loop(), Recorder()
    began = []
    loop.run(
        data(loop, drawn(120), drawn(5), 1),
        [recorder],
        epochs=3,
        start=(1, 0),
        on_begin=lambda: began.append(len(recorder.calls)),
    )
    train = set(names(OF_AN_EPOCH))
    val = {PREFIX + name for name in train}
    every = {*train, "images_per_second", "input_wait", *val, "learning_rate"}
    expected = [("train_begin", None, set())]
    for epoch in (1, 2):
        expected.append(("epoch_begin", epoch, set()))
        for first, last in ((0, 49), (50, 99), (100, 119)):  # blocks of 50 steps
            expected += [("batch_begin", first, set()), ("batch_end", last, train)]
        expected += [("test_begin", None, set()), ("test_end", None, train)]
        expected.append(("epoch_end", epoch, every))
    assert recorder.calls == [*expected, ("train_end", None, every)]
    assert began == [1]  # after train_begin, before all else
    assert recorder.params == {"epochs": 3, "steps": 120, "verbose": 0}
    assert recorder.model is loop.model


def test_a_resumed_run_reads_on_where_it_stopped():
    loop, starts = make_loop(), []
    plain = data(loop, drawn(24), drawn(8), 8)

    def train(start):
        starts.append(start)
        return plain.train(start)

    loop.run(Data(train, plain.val, 3, 1, 8), [], epochs=5, start=(4, 0))
    assert starts == [12]
    assert int(loop.optimizer.iterations.numpy()) == 3


@pytest.mark.parametrize(
    ("epoch", "steps", "done", "length", "cut_every", "ends"),
    [
        (0, 120, 0, 50, 0, [50, 100, 120]),
        (3, 7, 0, 50, 0, [7]),
        (0, 120, 73, 50, 0, [120]),
        (0, 10, 0, 50, 4, [4, 8, 10]),
        (1, 10, 0, 50, 4, [2, 6, 10]),  # steps 12 and 16 of the run, and 20, its end
        (2, 10, 4, 50, 4, [8, 10]),  # 24 is done, 28 comes
        (0, 60, 0, 50, 1000, [50, 60]),
        (1, 3, 0, 50, 1, [1, 2, 3]),
        (0, 10, 0, 3, 0, [3, 6, 9, 10]),
        (0, 10, 0, 3, 5, [3, 5, 8, 10]),
    ],
)
def test_where_blocks_end(epoch, steps, done, length, cut_every, ends):
    found = []
    while done < steps:
        done = block_end(epoch, done, length, steps, cut_every)
        found.append(done)
    assert found == ends


def test_what_comes_after_each_block_says_how_long_the_next_one_is():
    loop, blocks = make_loop(), []
    ticks = count(step=1.0)

    def pause(block):
        blocks.append(block)
        return 2 * block.steps

    loop.run(
        data(loop, drawn(80), drawn(40), 8),
        [],
        epochs=1,
        pause=pause,
        first_block=1,
        clock=lambda: next(ticks),
    )
    assert [(block.phase, block.epoch, block.end, block.steps) for block in blocks] == [
        ("train", 0, 1, 1),
        ("train", 0, 3, 2),
        ("train", 0, 7, 4),
        ("train", 0, 10, 3),
        ("val", 0, 5, 5),
    ]
    assert all(block.seconds == 1.0 and np.isfinite(block.loss) for block in blocks)


def test_an_end_between_blocks_lets_the_callbacks_close_their_files():
    loop, recorder = make_loop(), Recorder()

    def pause(block):
        raise EndedEarly("enough", 75)

    with pytest.raises(EndedEarly, match="enough"):
        loop.run(data(loop, drawn(80), drawn(40), 8), [recorder], epochs=1, pause=pause)
    assert recorder.calls[-1][0] == "train_end"


@pytest.mark.slow
def test_an_epoch_whose_training_is_done_is_only_validated():
    records, val = drawn(80), drawn(40, seed=1)
    rows = {}
    for name in ("whole", "resumed"):
        loop, recorder = make_loop(), Recorder()
        saved = {}

        def keep(loop=loop, saved=saved):
            loop.keep_meters()
            saved["kept"] = loop.kept_meters.numpy()
            saved["values"] = [
                np.asarray(v.value) for v in (*loop.model.variables, *loop.optimizer.variables)
            ]

        def pause(block, keep=keep, name=name):
            if block.phase == "train" and block.end == 10 and name == "whole":
                keep()
            return 50

        if name == "resumed":
            loop.kept_meters.assign(rows["saved"]["kept"])
            for variable, value in zip(
                (*loop.model.variables, *loop.optimizer.variables), rows["saved"]["values"], strict=True
            ):
                variable.assign(value)
        loop.run(
            data(loop, records, val, 8),
            [recorder],
            epochs=1,
            start=(0, 10 * (name == "resumed")),
            pause=pause,
        )
        rows[name], rows["saved"] = recorder.epochs[0], rows.get("saved") or saved
    speeds = [
        {each: row.pop(each) for each in ("images_per_second", "input_wait")}
        for row in (rows["whole"], rows["resumed"])
    ]
    assert rows["resumed"] == rows["whole"]
    assert speeds[1]["images_per_second"] == 0
    assert speeds[0]["images_per_second"] > 0


@pytest.mark.slow
def test_gradients_are_summed_once(run_python):
    """Two replicas move the weights as one device does with the same global batch; twice would be too far."""
    done = run_python(Path(__file__).with_name("summed_once.py"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"SGD", "float16"}
    for one, two in found.values():
        assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 1e-5
        assert max(map(abs, one)) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker"])
def test_an_overflow_on_one_replica_is_passed_over_by_all(run_python, tmp_path, strategy):
    """float16: no weight changes in that step, on any replica, and the loss scale is halved on all."""
    command = [Path(__file__).with_name("overflow.py"), strategy]
    if strategy == "multi_worker":
        launch = ["-m", "launch.local", "--processes=2", "--max_restarts=0", f"--log_dir={tmp_path}"]
        done = run_python(*launch, "--", sys.executable, *command)
    else:
        done = run_python(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [json.loads(line[line.index("[[") :]) for line in done.stdout.splitlines() if "[[" in line]
    assert len(printed) == (4 if strategy == "multi_worker" else 2)
    for steps in printed:
        iterations, scales, sums, same = zip(*steps, strict=True)
        assert iterations == (1, 2, 2, 3, 4, 5)  # the third step is none
        assert scales == (1024, 1024, 512, 512, 512, 512)
        assert sums[1] == sums[2]
        assert len(set(sums)) == 5
        assert np.isfinite(sums).all()
        assert all(same)
    assert all(steps == printed[0] for steps in printed)


@pytest.mark.slow
def test_a_run_resumed_in_mid_epoch_ends_that_epoch_with_the_logs_of_all_of_it():
    records, ticks = drawn(80), count(step=2.0)

    def run(start, kept=None):
        loop, recorder = make_loop(), Recorder()

        def keep(batch, logs):
            if batch == 5:
                loop.keep_meters()
                weights.extend(values(loop))

        if kept is not None:
            loop.kept_meters.assign(kept)
            for variable, value in zip(variables(loop), weights, strict=True):
                variable.assign(value)
        loop.run(
            data(loop, records, drawn(8), 8),
            [recorder, *([keras.callbacks.LambdaCallback(on_train_batch_end=keep)] if kept is None else [])],
            epochs=1,
            start=(0, start),
            cut_every=3,
            clock=lambda: next(ticks),
        )
        return loop, recorder

    def variables(loop):
        return [*loop.model.variables, *loop.optimizer.variables]

    def values(loop):
        return [np.asarray(variable.value) for variable in variables(loop)]

    weights = []
    loop, recorder = run(0)
    assert loop.kept_meters.numpy().shape == (1, sums_of_an_epoch(loop))
    again, resumed = run(6, loop.kept_meters)
    assert [index for name, index, _ in resumed.calls if name == "batch_begin"] == [6, 9]
    for ours, theirs in zip(values(again), values(loop), strict=True):
        assert np.array_equal(ours, theirs)
    (whole,), (rest,) = recorder.epochs, resumed.epochs
    for name in ("loss", "accuracy", "auc", "val_loss"):
        assert rest[name] == whole[name], name
    # By the clock, read twice a block and once before: ten batches of 8 in four blocks, four in two.
    assert (whole["images_per_second"], rest["images_per_second"]) == (80 / 18, 32 / 10)


def sums_of_an_epoch(loop):
    return sum(np.prod(sums.shape, dtype=int) for sums in loop._train_meters.sums)


def test_meters_of_more_replicas_are_summed():
    loop = make_loop()
    kept = np.random.default_rng(0).integers(0, 9, (3, sums_of_an_epoch(loop))).astype(np.float32)
    loop.kept_meters.assign(kept)
    loop._load_meters()
    loop.keep_meters()
    assert np.array_equal(loop.kept_meters, kept.sum(0, keepdims=True))


def test_meters_that_a_version_before_kept_of_weighted_classes_are_taken():
    loop = make_loop(class_weights=(0.5, 2.0))
    kept = np.random.default_rng(0).integers(0, 9, (1, 804)).astype(np.float32)
    loop.kept_meters.assign(kept)
    loop._load_meters()
    loop.keep_meters()
    assert np.array_equal(loop.kept_meters[:, :806], [[*kept[0], *kept[0, :2]]])
    assert not np.any(loop.kept_meters[:, 806:])  # metrics that were added later


def test_stop_training_ends_the_run_after_the_epoch():
    def stop(model, epoch):
        model.stop_training = epoch == 1

    loop, recorder = make_loop(), Recorder(stop)
    loop.run(data(loop, drawn(8), drawn(8), 8), [recorder], epochs=9)
    assert [index for name, index, _ in recorder.calls if name == "epoch_end"] == [0, 1]
    assert recorder.calls[-1][0] == "train_end"


def test_a_run_that_had_stopped_does_not_go_on():
    loop, recorder = make_loop(), Recorder()

    def stopped():
        loop.model.stop_training = True

    loop.run(data(loop, drawn(8), drawn(8), 8), [recorder], epochs=9, on_begin=stopped)
    assert [name for name, *_ in recorder.calls] == ["train_begin", "train_end"]


def test_a_learning_rate_set_by_a_callback_is_used_and_logged():
    def halve(model, epoch):
        model.optimizer.learning_rate = 0.5 if epoch == 0 else 0.0

    loop, recorder = make_loop(optimizer=lambda: keras.optimizers.SGD(0.1)), Recorder(halve)
    weights = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(loop.model.get_weights()[0])
    )
    loop.run(data(loop, drawn(8), drawn(8), 8), [recorder, keep], epochs=3)
    assert [logs["learning_rate"] for logs in recorder.epochs] == [0.5, 0.0, 0.0]
    assert np.array_equal(weights[1], weights[0])
    assert np.array_equal(weights[2], weights[0])


@pytest.mark.slow
def test_keras_own_callbacks_work():
    loop, recorder = make_loop(), Recorder()
    plateau = keras.callbacks.ReduceLROnPlateau(min_delta=9.0, factor=0.1, patience=1)
    stopping = keras.callbacks.EarlyStopping(min_delta=9.0, patience=3)
    loop.run(data(loop, drawn(8), drawn(8), 8), [plateau, stopping, recorder], epochs=9)
    rates = [logs["learning_rate"] for logs in recorder.epochs]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.0001], rel=1e-5)  # set for the next epoch


@pytest.mark.slow
def test_images_per_second_are_of_training_by_the_clock():
    ticks = count(step=2.0)
    loop, recorder = make_loop(), Recorder()
    loop.run(data(loop, drawn(21), drawn(80), 8), [recorder], epochs=2, clock=lambda: next(ticks))
    assert [logs["images_per_second"] for logs in recorder.epochs] == [4.0, 4.0]  # 3 batches of 8 in 6 s
    for logs in recorder.epochs:
        assert 0 <= logs["input_wait"] <= 1


def slow(batches):
    def wait():
        import time

        time.sleep(0.25)  # far longer than a step of the small model, on a busy machine too
        return np.int32(0)

    def late(batch):
        with tf.control_dependencies([tf.numpy_function(wait, [], tf.int32)]):
            return {name: tf.identity(value) for name, value in batch.items()}

    return batches.map(late, num_parallel_calls=1)


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [False, True])
def test_input_wait_is_the_share_of_time_the_model_waits(deterministic):
    random = np.random.default_rng(0)
    batch = {
        "image": random.integers(0, 256, (32, 64, 64, 1), np.uint8),
        "label": random.integers(0, 2, 32).astype(np.int32),
        "weight": np.ones(32, np.float32),
    }
    ready = tf.data.Dataset.from_tensors(batch).cache().repeat()
    waits, strategy = {}, tf.distribute.OneDeviceStrategy("CPU:0")
    spread = strategy.experimental_distribute_dataset
    for name, dataset, model in (("starved", slow(ready), "mlp"), ("fed", ready, "cnn")):

        def build(model=model):
            return build_model(model, (64, 64, 1), 2, dtype="float32"), keras.optimizers.SGD(0.0)

        loop = Loop(strategy, build, 2, deterministic=deterministic)
        recorder = Recorder()
        loop.run(Data(lambda _, d=dataset: spread(d), lambda: spread(ready), 4, 1, 32), [recorder], epochs=2)
        waits[name] = recorder.epochs[-1]["input_wait"]  # the first epoch has the tracing in it
    assert waits["starved"] > 0.6
    assert waits["fed"] < waits["starved"] / 2


@pytest.mark.slow
def test_float16_trains_with_a_scaled_loss():
    def optimizer():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))

    loop, recorder = make_loop(optimizer=optimizer, dtype="mixed_float16"), Recorder()
    loop.run(data(loop, drawn(64), drawn(32), 8), [recorder], epochs=12)
    assert recorder.epochs[-1]["loss"] < 0.8 * recorder.epochs[0]["loss"]
    assert recorder.epochs[-1]["learning_rate"] == pytest.approx(0.01)
    # Logged is the loss itself, not the scaled one: ln 2 for two classes that are not told apart.
    assert recorder.epochs[0]["loss"] < 2


@pytest.mark.slow
def test_dropout_is_on_in_training_and_off_in_validation():
    keras.utils.set_random_seed(0)

    def build():
        x = inputs = keras.Input(SHAPE, dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(x)
        x = keras.layers.Dropout(0.9)(keras.layers.Flatten()(x))
        return keras.Model(inputs, keras.layers.Dense(2)(x)), keras.optimizers.SGD(0.0)

    loop, recorder, records = Loop(tf.distribute.OneDeviceStrategy("CPU:0"), build, 2), Recorder(), drawn(24)
    loop.run(data(loop, records, records, 8), [recorder], epochs=3)
    assert len({logs["loss"] for logs in recorder.epochs}) == 3
    assert len({logs["val_loss"] for logs in recorder.epochs}) == 1
