from itertools import count

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_loop import Recorder, data, drawn, make_loop

from tfrecords.errors import EndedEarly
from trainer.blocks import Cuts, block_end
from trainer.evaluation.metric_table import OF_AN_EPOCH, PREFIX, names
from trainer.loop import Data, Loop
from trainer.models.registry import build_model


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


@pytest.mark.slow
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
    ("epoch", "steps", "done", "length", "cuts", "ends"),
    [
        (0, 120, 0, 50, Cuts(), [50, 100, 120]),
        (3, 7, 0, 50, Cuts(), [7]),
        (0, 120, 73, 50, Cuts(), [120]),
        (0, 10, 0, 50, Cuts(of_run=4), [4, 8, 10]),
        (1, 10, 0, 50, Cuts(of_run=4), [2, 6, 10]),  # steps 12 and 16 of the run, and 20, its end
        (2, 10, 4, 50, Cuts(of_run=4), [8, 10]),  # 24 is done, 28 comes
        (0, 60, 0, 50, Cuts(of_run=1000), [50, 60]),
        (1, 3, 0, 50, Cuts(of_run=1), [1, 2, 3]),
        (0, 10, 0, 3, Cuts(), [3, 6, 9, 10]),
        (0, 10, 0, 3, Cuts(of_run=5), [3, 5, 8, 10]),
        (1, 10, 0, 50, Cuts(of_epoch=4), [4, 8, 10]),
        (1, 10, 5, 50, Cuts(of_epoch=4), [8, 10]),
        (1, 10, 0, 50, Cuts(of_run=7, of_epoch=5), [4, 5, 10]),
        (1, 10, 0, 50, Cuts(single=(13, 16)), [3, 4, 5, 6, 10]),
        (1, 10, 4, 2, Cuts(single=(13, 16)), [5, 6, 8, 10]),
        (0, 10, 0, 50, Cuts(single=(8, 12)), [8, 9, 10]),
        (1, 10, 0, 50, Cuts(single=(8, 12)), [1, 2, 10]),
        (2, 10, 0, 50, Cuts(single=(8, 12)), [10]),
    ],
)
def test_where_blocks_end(epoch, steps, done, length, cuts, ends):
    found = []
    while done < steps:
        done = block_end(epoch, done, length, steps, cuts)
        found.append(done)
    assert found == ends


@pytest.mark.slow
def test_steps_that_are_blocks_of_their_own_change_no_weight():
    weights, ends = [], []
    for cuts in (None, Cuts(single=(3, 12))):
        loop = make_loop()
        loop.run(
            data(loop, drawn(80), drawn(40), 8),
            [keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(batch + 1))],
            epochs=2,
            cuts=cuts,
        )
        weights.append(loop.model.get_weights())
    assert ends == [10, 10, *range(3, 11), 1, 2, 10]
    for mine, its in zip(*weights, strict=True):
        assert np.array_equal(mine, its)


@pytest.mark.slow
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


@pytest.mark.slow
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
            cuts=Cuts(of_run=3),
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


@pytest.mark.slow
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


@pytest.mark.slow
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
