from types import SimpleNamespace

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.util import tensor_util

from tfrecords.errors import InputError
from trainer.callbacks.scalars import Scalars

STEPS, EVERY, IMAGES = 10, 4, 32
LOSSES = (0.5, 0.75, 0.25, 0.25)  # of validation


def points(folder):
    """(tag, step) -> values; a value a point that TensorBoard shows."""
    found = {}
    events = EventAccumulator(str(folder), size_guidance={TENSORS: 0}, purge_orphaned_data=False).Reload()
    for tag in events.Tags()["tensors"]:
        for event in events.Tensors(tag):
            value = float(tensor_util.make_ndarray(event.tensor_proto))
            found.setdefault((tag, event.step), []).append(value)
    return found


def callback(folder, *, start=(0, 0), every=EVERY, clock=lambda: 0.0):
    history = [{"val_loss": loss} for loss in LOSSES[: start[0]]]
    made = Scalars(
        folder,
        steps_per_epoch=STEPS,
        images_per_step=IMAGES,
        log_steps=every,
        start=start,
        history=history,
        clock=clock,
    )
    made.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=tf.constant(0.5))))
    made.on_train_begin()
    return made


def drive(made, start, stop, *, block=2):
    """Runs from a step of the run to before another, in blocks that end where a point is due."""
    step = start
    while step < stop:
        epoch, done = divmod(step, STEPS)
        if done == 0 or step == start:
            made.on_epoch_begin(epoch)
        end = min(done + block, STEPS, stop - epoch * STEPS)
        made.on_train_batch_begin(done)
        made.on_train_batch_end(end - 1, {"loss": step + 1.0, "accuracy": 0.5})
        step += end - done
        if end == STEPS and step < stop:
            finish(made, epoch)


def finish(made, epoch):
    logs = {"loss": epoch + 2.0, "val_loss": LOSSES[epoch], "val_auc": 0.75, "learning_rate": 0.5}
    made.on_epoch_end(epoch, logs)


def test_points_by_epoch_and_by_step(tmp_path):
    now = [0.0]

    def clock():
        now[0] += 1.0
        return now[0]

    made = callback(tmp_path, clock=clock)
    drive(made, 0, 2 * STEPS)
    finish(made, 1)
    made.on_train_end()
    train, val = points(tmp_path / "train"), points(tmp_path / "validation")
    assert {step for tag, step in train if tag == "steps/loss"} == {4, 8, 10, 14, 18, 20}
    assert train["epoch_loss", 1] == [3.0]
    assert train["steps/loss", 4] == [3.0]
    assert train["steps/learning_rate", 10] == [0.5]
    speeds = [train["steps/images_per_second", step] for step in (4, 8, 10)]
    assert speeds == [[4 * IMAGES], [4 * IMAGES], [2 * IMAGES]]  # a second each, since the last point
    assert {tag for tag, _ in train} == {
        *("epoch_loss", "epoch_learning_rate", "steps/loss", "steps/accuracy"),
        *("steps/learning_rate", "steps/images_per_second"),
    }
    assert {(tag, step): value for (tag, step), value in val.items() if "auc" not in tag} == {
        ("epoch_loss", 0): [0.5],
        ("epoch_loss", 1): [0.75],
        ("steps/loss", 10): [0.5],
        ("steps/loss", 20): [0.75],
        ("best_epoch/loss", 1): [0.5],
    }


def test_short_epochs_have_no_points_by_step(tmp_path):
    made = callback(tmp_path, every=0)
    drive(made, 0, STEPS)
    finish(made, 0)
    made.on_train_end()
    found = {*points(tmp_path / "train"), *points(tmp_path / "validation")}
    assert not [tag for tag, _ in found if tag.startswith("steps/")]
    assert ("epoch_loss", 0) in found


@pytest.mark.parametrize(
    ("killed_at", "saved"),
    [(16, 12), (16, 0), (29, 20), (20, 14), (29, 29), (24, 24), (40, 30), (40, 39)],
)
def test_a_killed_run_that_is_resumed_has_the_points_of_one_that_was_not(tmp_path, killed_at, saved):
    """Killed after any step, with the checkpoint of an earlier one; a half-written point is removed too."""
    whole = callback(tmp_path / "whole")
    drive(whole, 0, 4 * STEPS)
    finish(whole, 3)
    whole.on_train_end()
    killed = callback(tmp_path / "killed")
    drive(killed, 0, killed_at)
    if killed_at == 4 * STEPS:
        finish(killed, 3)
    killed.on_train_end()
    for file in (tmp_path / "killed").rglob("events*"):
        with file.open("ab") as stream:
            stream.write(b"half a frame")
    resumed = callback(tmp_path / "killed", start=(saved // STEPS, saved))
    drive(resumed, saved, 4 * STEPS)
    finish(resumed, 3)
    resumed.on_train_end()
    for name in ("train", "validation"):
        expected, found = (points(tmp_path / run / name) for run in ("whole", "killed"))
        assert {key: len(values) for key, values in found.items()} == dict.fromkeys(expected, 1)
        for tag, step in expected:
            if name == "validation":
                assert found[tag, step] == expected[tag, step]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "validation").write_text("")
    made = callback(tmp_path)
    with pytest.raises(InputError, match=str(tmp_path / "validation")):
        finish(made, 0)
    made.on_train_end()


def test_points_of_an_earlier_version_are_removed_too(tmp_path):
    """Keras' own callback wrote them, with TensorFlow's writer."""
    with tf.summary.create_file_writer(str(tmp_path / "validation")).as_default():
        for epoch in range(3):
            tf.summary.scalar("epoch_loss", LOSSES[epoch], step=epoch)
            tf.summary.scalar("evaluation_loss_vs_iterations", LOSSES[epoch], step=(epoch + 1) * STEPS)
    callback(tmp_path, start=(2, 2 * STEPS)).on_train_end()
    assert points(tmp_path / "validation") == {
        ("epoch_loss", 0): [0.5],
        ("epoch_loss", 1): [0.75],
        ("evaluation_loss_vs_iterations", STEPS): [0.5],
        ("evaluation_loss_vs_iterations", 2 * STEPS): [0.75],
    }
