"""What happens between two blocks of steps, by itself: no process, no collective."""

import signal

import pytest
import tensorflow as tf

from tfrecords import signals
from tfrecords.errors import EndedEarly
from trainer.blocks import Block
from trainer.checkpoint import NotFinite
from trainer.stopping import Pause, Stopping, next_length


class Saver:
    """Notes what is saved."""

    def __init__(self, due=()):
        self.saved, self._due = [], due

    def due(self, step):
        return step in self._due

    def save(self, step, epochs):
        self.saved.append((step, epochs))


def block(phase="train", epoch=1, end=5, steps=5, seconds=1.0, loss=0.5):
    return Block(phase, epoch, end, steps, seconds, loss)


def paused(saver, add=list, *, chief=True, minutes=0.0, now=0.0):
    stopping = Stopping(add, max_minutes=minutes, began=0.0, clock=lambda: now)
    return Pause(saver, stopping, chief=chief, steps_per_epoch=10)


@pytest.fixture
def heard(monkeypatch):
    def hear(number):
        monkeypatch.setattr(signals._state, "first", number)

    return hear


@pytest.mark.parametrize(
    ("steps", "seconds", "length"),
    [
        (1, 9.0, 1),
        (1, 0.1, 2),
        (2, 0.1, 4),
        (32, 0.3, 50),
        (50, 1.0, 50),
        (50, 8.0, 25),
        (8, 16.0, 2),
        (1, 0.0, 2),
    ],
)
def test_a_block_lasts_four_seconds_at_most(steps, seconds, length):
    assert next_length(block(steps=steps, end=steps, seconds=seconds)) == length


def test_nothing_happens_where_nothing_is_due():
    saver = Saver()
    assert paused(saver)(block()) == 10
    assert saver.saved == []


@pytest.mark.parametrize(
    ("due", "given", "saved"),
    [
        ({15}, block(end=5), [(15, 1)]),
        ({20}, block(end=10), []),  # the epoch's end is saved with its validation
        ({20}, block("val", end=3), []),
    ],
)
def test_a_checkpoint_that_is_due(due, given, saved):
    saver = Saver(due)
    paused(saver)(given)
    assert saver.saved == saved


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    ("given", "saved", "where"),
    [
        (block(end=5), (15, 1), "step 5 of 10 of epoch 2"),
        (block(end=10), (20, 1), "step 10 of 10 of epoch 2"),
        (block("val", end=3), (20, 1), "epoch 2's training, before its validation"),
    ],
)
def test_a_signal_saves_and_ends(heard, number, code, given, saved, where):
    heard(number)
    saver = Saver()
    with pytest.raises(EndedEarly) as end:
        paused(saver)(given)
    assert end.value.code == code
    assert where in str(end.value)
    assert "the same command goes on from there" in str(end.value)
    assert saver.saved == [saved]


def test_a_signal_elsewhere_ends_this_worker_too(heard):
    saver = Saver()
    with pytest.raises(EndedEarly, match="stopped by SIGTERM on another worker") as end:
        paused(saver, lambda own: [own[0] + 1, *own[1:]], chief=False)(block())
    assert end.value.code == 75
    assert saver.saved == [(15, 1)]


def test_what_the_chief_decides_counts():
    saver = Saver({15})  # due here, but this is not the chief, which sends 7 steps and no save
    assert paused(saver, lambda own: [*own[:-1], own[-1] + 7], chief=False)(block()) == 7
    assert saver.saved == []


def test_a_limit_of_the_runs_own():
    saver = Saver()
    paused(saver, minutes=2.0, now=119.0)(block())
    with pytest.raises(EndedEarly, match="stopped by --max_minutes=2: saved after step 5") as end:
        paused(saver, minutes=2.0, now=120.0)(block())
    assert end.value.code == 75


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
@pytest.mark.parametrize(("phase", "step", "name"), [("train", 15, "loss"), ("val", 20, "val_loss")])
def test_a_loss_that_is_not_finite_is_never_saved(heard, loss, phase, step, name):
    heard(signal.SIGTERM)
    saver = Saver({15, 20})
    with pytest.raises(NotFinite) as end:
        paused(saver)(block(phase, loss=loss))
    assert (end.value.code, end.value.step) == (77, step)
    assert f"epoch 2, step {step}: {name} is {loss}" in str(end.value)
    assert saver.saved == []


def test_a_loss_that_is_not_finite_elsewhere_ends_this_worker_too():
    saver = Saver()
    with pytest.raises(NotFinite):
        paused(saver, lambda own: [*own[:-2], 1, own[-1]])(block())
    assert saver.saved == []


@pytest.mark.parametrize(
    ("why", "error"), [("loss", NotFinite), ("max_minutes", EndedEarly), ("while it waits", EndedEarly)]
)
def test_who_leaves_first_waits_until_all_know_why(why, error):
    """Else the others would miss his share of the collective that says so, and call him lost."""
    told = []

    def add(own):
        told.append(own)
        if len(own) == 1:
            raise tf.errors.UnavailableError(None, None, "another was faster out of this one")
        return [*own[:-2], 1, own[-1]] if why == "loss" else own

    minutes, now = (0.0, 0.0) if why == "loss" else (1.0, 61.0)
    pause = paused(Saver(), add, minutes=minutes, now=now)
    waiting = Stopping(add, max_minutes=minutes, began=0.0, clock=lambda: now)
    with pytest.raises(error):
        waiting.leave_together("", chief=False) if why == "while it waits" else pause(block())
    assert [len(own) for own in told][1:] == [1]


def test_now_and_then_looks_and_all_leave_with_the_chief():
    told, now = [], [0.0]
    stopping = Stopping(
        lambda own: told.append(own[-1]) or own, max_minutes=1.0, began=0.0, clock=lambda: now[0]
    )
    tick = stopping.now_and_then("all is saved")
    for _ in range(5):
        tick()
        now[0] += 0.1
    assert len(told) == 3
    stopping.leave_together("all is saved", chief=True)
    now[0] = 61.0
    with pytest.raises(EndedEarly, match="stopped by --max_minutes=1: all is saved"):
        tick()
    stopping.leave_together("all is saved", chief=True)  # the work is done: no stop undoes that
    answers = iter([[0, 0, 0, 0], [0, 0, 0, 1]])
    waiting = Stopping(lambda own: next(answers), max_minutes=0, began=0.0)
    waiting.leave_together("all is saved", chief=False)


def test_what_is_saved_is_looked_at(tmp_path):
    """The loss of a step is that of the weights before it; so a save looks at the weights themselves."""
    import keras

    from trainer.checkpoint import Checkpoints, State

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(tmp_path / "checkpoints", model, optimizer)
    checkpoints.save(State(1, 0, 0, 0, 1.0, (), {}))
    for variable in (model.weights[0], optimizer.variables[2]):
        before = variable.numpy()
        variable.assign(before * float("nan"))
        with pytest.raises(NotFinite, match="not finite") as end:
            checkpoints.save(State(2, 0, 0, 0, 1.0, (), {}))
        assert end.value.step == 2
        variable.assign(before)
    assert checkpoints.steps() == [1]
