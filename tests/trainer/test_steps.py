"""What one step computes, in training and in validation."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sklearn_metrics
from small_loop import SHAPE, Recorder, Records, data, drawn, make_loop

from data_pipeline.step.soft_targets import SoftTargets, own_shares
from trainer.loop import Loop


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


@pytest.mark.stops
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


@pytest.mark.stops
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


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_mixed_records_count_by_the_shares_of_their_labels(jit_compile):
    """Steps of plain TensorFlow on pairs mixed by NumPy; each share of a label weighs as its class does."""
    records, weights, smoothing, recorder = drawn(32), np.float32([0.4, 3.0]), 0.2, Recorder()
    keys = np.random.default_rng(2).integers(0, 2**62, 32)
    loop = make_loop(
        optimizer=lambda: keras.optimizers.SGD(0.3),
        class_weights=tuple(map(float, weights)),
        soft_targets=SoftTargets(2, smoothing, 0.5),
        jit_compile=lambda _: jit_compile,
    )
    plain, plain_optimizer = keras.models.clone_model(loop.model), keras.optimizers.SGD(0.3)
    plain.set_weights(loop.model.get_weights())
    own, partner, one_hot = (
        own_shares(tf.constant(keys), 0.5).numpy(),
        np.arange(32) ^ 1,
        np.eye(2)[records.label],
    )
    each = own[:, None, None, None]
    image = np.rint(each * records.image + (1 - each) * records.image[partner]).astype(np.uint8)
    shares = np.float32(own[:, None] * one_hot + (1 - own[:, None]) * one_hot[partner])
    losses = []
    for at in range(0, 32, 8):
        rows = slice(at, at + 8)
        target, weight = (1 - smoothing) * shares[rows] + smoothing / 2, shares[rows] @ weights
        with tf.GradientTape() as tape:
            found = -tf.reduce_sum(target * tf.nn.log_softmax(plain(image[rows], training=True)), 1)
            loss = tf.reduce_sum(found * weight) / weight.sum()
        variables = plain.trainable_variables
        plain_optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        losses += found.numpy().tolist()

    given = data(loop, records, drawn(8), 8)
    keyed = tf.data.Dataset.zip(records.batches(8), tf.data.Dataset.from_tensor_slices(keys).batch(8))
    keyed = keyed.map(lambda batch, key: batch | {"key": key}).repeat()
    spread = loop.strategy.experimental_distribute_dataset
    loop.run(replace(given, train=lambda _: spread(keyed)), [recorder], epochs=1)
    for ours, theirs in zip(loop.model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert recorder.epochs[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-5)  # without class weights


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, [0.5, 2.0]])
def test_a_batch_in_parts_is_the_same_batch(weights):
    found = []
    for parts in (1, 4):
        loop = make_loop(optimizer=lambda: keras.optimizers.SGD(0.1), class_weights=weights, parts=parts)
        recorder = Recorder()
        loop.run(data(loop, drawn(30), drawn(9), 8), [recorder], epochs=2)
        found.append((recorder.epochs, loop.model.get_weights()))
    (epochs, one), (epochs_in_parts, four) = found
    for name in ("loss", "accuracy", "auc", "val_loss"):
        assert epochs[-1][name] == pytest.approx(epochs_in_parts[-1][name], rel=1e-5)
    for here, there in zip(one, four, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)
