import json
import random
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrecords.errors import InputError
from trainer import checkpoint
from trainer.checkpoint import Checkpoints, State, callback_state, read_best, set_callback_state

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 1), np.uint8)


def build(seed=0, units=8):
    """A model with Dropout, one of them in a nested model, and an optimizer with slots."""
    keras.utils.set_random_seed(seed)
    inner = keras.Sequential([keras.layers.Dropout(0.4), keras.layers.Dense(units)])
    x = inputs = keras.Input((6, 6, 1), dtype="uint8")
    x = inner(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(x)))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dropout(0.5)(x)))
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def step(model, optimizer):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(IMAGES, training=True) ** 2)
    variables = model.trainable_variables
    optimizer.apply(tape.gradient(loss, variables), variables)
    return float(loss)


def values(model, optimizer):
    return [np.asarray(variable.value) for variable in [*model.variables, *optimizer.variables]]


def state(step, best_step=1, **changes):
    """Epochs of one step."""
    return State(
        **{
            "step": step,
            "epoch": step,
            "best_epoch": best_step,
            "best_step": best_step,
            "best_loss": 0.25,
            "history": tuple({"epoch": row + 1, "loss": 0.1 + row / 3} for row in range(step)),
            "callbacks": {},
            **changes,
        }
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_a_restored_run_goes_on_to_the_bit(tmp_path):
    model, optimizer = build(seed=1)
    for _ in range(3):
        step(model, optimizer)
    kept = state(3, callbacks={"EarlyStopping": {"wait": 2, "best": 0.1 + 0.2}}, best_loss=1 / 3)
    Checkpoints(tmp_path / "run" / "c", model, optimizer).save(kept)
    saved = values(model, optimizer)
    losses = [step(model, optimizer) for _ in range(3)]
    assert len(set(losses)) == 3

    other, other_optimizer = build(seed=2)
    found = Checkpoints(tmp_path / "run" / "c", other, other_optimizer).restore(3)
    assert found == kept
    assert [a.tolist() for a in values(other, other_optimizer)] == [a.tolist() for a in saved]
    assert [step(other, other_optimizer) for _ in range(3)] == losses  # the same Dropout masks too
    for ours, theirs in zip(values(other, other_optimizer), values(model, optimizer), strict=True):
        assert np.array_equal(ours, theirs)


def test_masks_after_a_restore_are_the_next_ones(tmp_path):
    model, optimizer = build(seed=1)
    model(IMAGES, training=True)
    checkpoints = Checkpoints(tmp_path, model, optimizer)
    checkpoints.save(state(1))
    following = [np.asarray(model(IMAGES, training=True)) for _ in range(3)]
    checkpoints.restore(1)
    for expected in following:
        assert np.array_equal(model(IMAGES, training=True), expected)
    assert all(not np.array_equal(a, b) for a, b in pairwise(following))


@pytest.mark.parametrize(
    ("keep", "bests", "left"),
    [
        (2, [1, 2, 2, 2, 2, 2], [2, 5, 6]),
        (1, [1, 1, 1, 1, 1, 1], [1, 6]),
        (1, [1, 2, 3, 4, 5, 6], [6]),
        (3, [1, 2, 2, 2, 5, 5], [4, 5, 6]),
        (2, [1, 1, 1, 1, 5, 5], [5, 6]),  # a best that is surpassed goes
        (9, [1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]),
    ],
)
def test_the_last_and_the_best_are_kept(tmp_path, keep, bests, left):
    checkpoints = Checkpoints(tmp_path, *build(), keep=keep)
    for step, best in enumerate(bests, 1):
        checkpoints.save(state(step, best))
    assert checkpoints.steps() == left
    assert names(tmp_path) == [f"step-{step:010d}" for step in left]
    for step in left:
        assert checkpoints.state(step) == state(step, bests[step - 1])


def test_a_folder_that_is_not_there_has_no_steps(tmp_path):
    assert Checkpoints(tmp_path / "none", *build()).steps() == []


def test_a_launcher_is_told_what_is_saved_and_only_by_the_chief(tmp_path, monkeypatch):
    monkeypatch.setenv("LAUNCH_PROGRESS", str(tmp_path / "progress"))
    model, optimizer = build()
    Checkpoints(tmp_path / "helper", model, optimizer, chief=False).save(state(2))
    assert not (tmp_path / "progress").exists()
    Checkpoints(tmp_path / "chief", model, optimizer).save(state(3))
    assert (tmp_path / "progress").read_text() == "step 3\n"


def test_leftovers_of_a_kill_do_not_disturb_and_go(tmp_path):
    checkpoints = Checkpoints(tmp_path, *build())
    checkpoints.save(state(1))
    for name in (
        ".step-0000000002.tmp",
        ".step-0000000002.77.tmp",  # of another worker, which may be writing it now
        ".step-0000000001.77.tmp",
        ".step-0000000003.gone.tmp",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "variables.index").write_bytes(b"half")
    (tmp_path / "step-1").mkdir()  # not ours
    assert checkpoints.steps() == [1]
    checkpoints.save(state(2))
    assert checkpoints.restore(2) == state(2)
    assert names(tmp_path) == [".step-0000000002.77.tmp", "step-0000000001", "step-0000000002", "step-1"]


def test_an_epoch_saved_again_is_replaced(tmp_path):
    checkpoints = Checkpoints(tmp_path, *build())
    checkpoints.save(state(1))
    checkpoints.save(state(1, best_loss=0.125))
    assert checkpoints.restore(1).best_loss == 0.125
    assert names(tmp_path) == ["step-0000000001"]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


DATA = "variables.data-00000-of-00001"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (DATA, flip),
        (DATA, cut),
        (DATA, Path.unlink),
        ("variables.index", cut),
        ("variables.index", Path.unlink),
        ("state.json", cut),
        ("state.json", Path.unlink),
        ("state.json", lambda path: path.write_text("{}")),
        ("state.json", lambda path: path.write_text("[]")),
        ("state.json", lambda path: path.write_text('{"history": [], "epoch": 1}')),
    ],
)
def test_a_damaged_checkpoint_is_named_with_the_fix(tmp_path, name, damage):
    checkpoints = Checkpoints(tmp_path, *build())
    checkpoints.save(state(1))
    damage(tmp_path / "step-0000000001" / name)
    with pytest.raises(InputError) as error:
        checkpoints.restore(1)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'step-0000000001'}: the checkpoint cannot be restored (")
    assert message.endswith(
        "); remove this folder to resume from the one before, or start in another --run_dir"
    )
    assert "restored ()" not in message


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    Checkpoints(tmp_path, *build()).save(state(1))
    with pytest.raises(InputError, match="step-0000000001: the checkpoint cannot be restored"):
        Checkpoints(tmp_path, *build(units=9)).restore(1)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, facts):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError) as error:
        Checkpoints(tmp_path / "file" / "checkpoints", *build()).save(state(1))
    assert re.search(
        facts(
            f"{tmp_path}/file/checkpoints/step-0000000001: the checkpoint cannot be written: Not a "
            f"directory; make room, then the same command again resumes"
        ),
        str(error.value),
    )


def test_only_the_chief_writes(tmp_path):
    folder = tmp_path / "checkpoints"
    helper = Checkpoints(folder, *build(), chief=False)
    chief = Checkpoints(folder, *build())
    for step in (1, 2, 3, 4):
        helper.save(state(step))
        chief.save(state(step))
    assert names(folder) == ["step-0000000001", "step-0000000003", "step-0000000004"]
    helper.save(state(5))
    assert names(folder) == ["step-0000000001", "step-0000000003", "step-0000000004"]


_EVENTS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})
_watched: list[tuple[Path, Path]] = []


def _watch(event, arguments):
    if _watched and event in _EVENTS:
        folder, snapshots = _watched.pop()  # copying raises such events too
        if folder.is_dir():
            shutil.copytree(folder, snapshots / str(len(list(snapshots.iterdir()))))
        _watched.append((folder, snapshots))


@contextmanager
def snapshots_before_each_change(folder, snapshots):
    """Copies the folder before each of Python's calls that may change it: what a kill there leaves."""
    snapshots.mkdir()
    sys.addaudithook(_watch)
    _watched.append((folder, snapshots))
    try:
        yield
    finally:
        _watched.clear()


@pytest.mark.slow
def test_whatever_has_its_final_name_is_whole_at_every_moment(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run", *build(), keep=1)
    with snapshots_before_each_change(tmp_path / "run", tmp_path / "snapshots"):
        for step in (1, 2, 3, 3):  # prunes, and replaces
            checkpoints.save(state(step, best_step=step))
    taken = sorted((tmp_path / "snapshots").iterdir(), key=lambda path: int(path.name))
    assert len(taken) > 20
    last = 0
    for snapshot in taken:
        found = Checkpoints(snapshot, *build(seed=5), keep=1)
        for step in found.steps():
            assert found.restore(step) == state(step, best_step=step)
        newest = max(found.steps(), default=0)
        assert newest >= last or (last, newest) == (3, 0)  # absent only while it is replaced
        last = newest
    assert last == 3


_SAVER = """
import sys
from itertools import count
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import Checkpoints, build, state

checkpoints = Checkpoints(Path(sys.argv[1]), *build(), keep=1)
for step in count(1):
    checkpoints.save(state(step, best_step=step // 3 + 1))
    print(step, flush=True)
"""


@pytest.mark.stops
@pytest.mark.slow
def test_a_killed_process_leaves_only_whole_checkpoints(tmp_path, start):
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    savers = [
        start("-c", _SAVER, tmp_path / str(number), Path(__file__).parent, stderr=subprocess.DEVNULL)
        for number in range(2)
    ]
    for number, saver in enumerate(savers):
        for _ in range(4):
            assert saver.stdout.readline()
        time.sleep(moments.uniform(0, 0.2))
        saver.kill()
        saver.wait()
        checkpoints = Checkpoints(tmp_path / str(number), *build(), keep=1)
        found = checkpoints.steps()
        assert found, seed
        assert found[-1] >= 4
        for step in found:
            assert checkpoints.restore(step) == state(step, best_step=step // 3 + 1), seed
        checkpoints.save(state(found[-1] + 1))
        assert names(tmp_path / str(number))[-1] == f"step-{found[-1] + 1:010d}"
        assert not [name for name in names(tmp_path / str(number)) if name.startswith(".")]


def losses(callback, values, first=0):
    for epoch, loss in enumerate(values, first):
        callback.on_epoch_end(epoch, {"val_loss": loss, "learning_rate": 0.1})


@pytest.mark.filterwarnings("ignore:Learning Rate Plateau Reducing")
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.callbacks.EarlyStopping(min_delta=0.01, patience=3),
        lambda: keras.callbacks.ReduceLROnPlateau(min_delta=0.01, patience=5, cooldown=2),
    ],
    ids=["EarlyStopping", "ReduceLROnPlateau"],
)
def test_callbacks_go_on_where_they_were(make):
    model, optimizer = build()
    model.compile(optimizer=optimizer)
    before, after = make(), make()
    for callback in (before, after):
        callback.set_model(model)
        callback.on_train_begin()
    losses(before, [0.5, 0.4, 0.395, 0.45])
    kept = json.loads(json.dumps(callback_state([before, keras.callbacks.CSVLogger("unused")])))
    assert list(kept) == [type(before).__name__]
    set_callback_state([after], kept)
    assert (before.wait, after.wait) == (2, 2)
    assert after.best == before.best == 0.4
    model.stop_training = False
    losses(after, [0.6], first=4)
    losses(before, [0.6], first=4)
    assert after.wait == before.wait == 3
    assert model.stop_training == (type(before).__name__ == "EarlyStopping")


def test_state_of_a_callback_that_is_gone_is_ignored():
    set_callback_state([keras.callbacks.TerminateOnNaN()], {"EarlyStopping": {"wait": 1}})


def saved(folder, *best_steps):
    """Saves one step after the other, each naming the best one; returns the weights of each."""
    model, optimizer = build()
    checkpoints, weights = Checkpoints(folder, model, optimizer, keep=1), {}
    for number, best in enumerate(best_steps, 1):
        step(model, optimizer)
        weights[number] = model.get_weights()
        checkpoints.save(state(number, best))
    return weights


def test_a_reader_gets_the_best_epochs_weights_and_the_newest_state(tmp_path):
    weights, (model, _) = saved(tmp_path / "c", 1, 2, 2), build(seed=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*")}
    assert read_best(tmp_path / "c", model) == state(3, 2)
    for ours, theirs in zip(model.get_weights(), weights[2], strict=True):
        assert np.array_equal(ours, theirs)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*")} == before


def test_a_reader_finds_nothing_before_the_first_epoch_is_done(tmp_path):
    model, _ = build()
    assert read_best(tmp_path / "none", model) is None
    saved(tmp_path / "c", 0)
    state_path = tmp_path / "c" / "step-0000000001" / "state.json"
    state_path.write_text(json.dumps({**json.loads(state_path.read_text()), "best_epoch": 0}))
    assert read_best(tmp_path / "c", model) is None


def test_a_reader_whose_checkpoint_is_replaced_by_a_better_one_takes_that(tmp_path, monkeypatch):
    weights, (model, _) = saved(tmp_path / "later", 1, 2), build(seed=1)
    saved(tmp_path / "c", 1)
    looked = []

    def look(path):
        found = read(path)
        looked.append(path.name)
        if len(looked) == 1:  # now the run saves a better epoch, and removes the one before
            (tmp_path / "later" / "step-0000000002").rename(tmp_path / "c" / "step-0000000002")
            shutil.rmtree(tmp_path / "c" / "step-0000000001")
        return found

    read = checkpoint._state
    monkeypatch.setattr(checkpoint, "_state", look)
    assert read_best(tmp_path / "c", model) == state(2, 2)
    assert looked == ["step-0000000001", "step-0000000002"]
    for ours, theirs in zip(model.get_weights(), weights[2], strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("other", [False, True])
def test_a_reader_names_a_checkpoint_that_is_damaged_or_of_another_model(tmp_path, other):
    saved(tmp_path / "c", 1)
    model, _ = build(units=9 if other else 8)
    (data,) = (tmp_path / "c").glob("*/variables.data*")
    if not other:
        data.write_bytes(bytes(255 - byte for byte in data.read_bytes()))
    with pytest.raises(InputError, match=r"step-0000000001: the checkpoint cannot be read \("):
        read_best(tmp_path / "c", model)
