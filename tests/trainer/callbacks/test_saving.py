import keras
import pytest

from trainer.callbacks.history import HistoryFiles
from trainer.callbacks.saving import SaveCheckpoints
from trainer.checkpoint import Checkpoints, State, callback_state


@pytest.fixture
def saving(tmp_path):
    """(checkpoints, make): `make(resumed)` gives the callbacks of a run as training puts them."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD()
    optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(tmp_path / "checkpoints", model, optimizer, keep=99)

    def make(resumed=None, **options):
        stopping = keras.callbacks.EarlyStopping(patience=2)
        stopping.set_model(model)
        stopping.on_train_begin()
        history = HistoryFiles(None, resumed.history if resumed else ())
        saver = SaveCheckpoints(checkpoints, history, [stopping], resumed, steps_per_epoch=10, **options)
        return [stopping, history, saver]

    return checkpoints, make


def epochs(callbacks, losses, first=0, aucs=None):
    for epoch, loss in enumerate(losses, first):
        logs = {"val_loss": loss} | ({"val_auc": aucs[epoch - first]} if aucs else {})
        for callback in callbacks:
            callback.on_epoch_end(epoch, logs)


def test_checkpoints_hold_the_best_epoch_the_rows_and_the_callbacks_after_the_epoch(saving):
    checkpoints, make = saving
    calls = make()
    epochs(calls, [0.5, 0.25, 0.25, 0.75])  # the first of equals is the best
    bests = [checkpoints.state(step) for step in (10, 20, 30, 40)]
    assert [(s.best_epoch, s.best_step, s.best_loss) for s in bests] == [
        (1, 10, 0.5),
        (2, 20, 0.25),
        (2, 20, 0.25),
        (2, 20, 0.25),
    ]
    last = checkpoints.state(40)
    assert last == State(
        40,
        4,
        2,
        20,
        0.25,
        tuple({"epoch": i + 1, "val_loss": loss} for i, loss in enumerate([0.5, 0.25, 0.25, 0.75])),
        callback_state(calls[:1]),
    )
    assert last.callbacks["EarlyStopping"]["wait"] == 2


def test_a_resumed_run_knows_the_best_of_before(saving):
    checkpoints, make = saving
    epochs(make(), [0.5, 0.25])
    epochs(make(checkpoints.state(20)), [0.375, 0.125], first=2)
    bests = [checkpoints.state(step) for step in (30, 40)]
    assert [(s.best_epoch, s.best_step, s.best_loss) for s in bests] == [(2, 20, 0.25), (4, 40, 0.125)]
    assert [row["epoch"] for row in checkpoints.state(40).history] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("monitor", "expected"),
    [
        ("val_loss", [(1, 0.5), (2, 0.25), (2, 0.25), (2, 0.25)]),
        ("val_auc", [(1, 0.5), (1, 0.5), (3, 0.75), (3, 0.75)]),  # the highest, the first of equals
        ("last", [(1, 0.5), (2, 0.25), (3, 0.75), (4, 1.0)]),
    ],
)
@pytest.mark.parametrize("cut", [0, 2, 3])
def test_the_monitored_metric_says_which_epoch_is_the_best(saving, monitor, expected, cut):
    checkpoints, make = saving
    losses, aucs = [0.5, 0.25, 0.75, 1.0], [0.75, 0.75, 0.875, 0.875]
    epochs(make(monitor=monitor), losses[:cut], aucs=aucs[:cut])
    resumed = checkpoints.state(10 * cut) if cut else None
    epochs(make(resumed, monitor=monitor), losses[cut:], first=cut, aucs=aucs[cut:])
    states = [checkpoints.state(step) for step in (10, 20, 30, 40)]
    assert [(s.best_epoch, s.best_loss) for s in states] == expected
    assert all(s.best_step == 10 * s.best_epoch for s in states)
