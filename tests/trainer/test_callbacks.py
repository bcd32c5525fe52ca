import csv
import io
import json
from itertools import chain, repeat

import keras
import pytest

from tfrecords.progress import duration
from trainer.callbacks import HistoryFiles, ProgressLine, SaveCheckpoints, progress_line
from trainer.checkpoint import Checkpoints, State, callback_state

LOGS = {
    "loss": 0.51239,
    "accuracy": 0.75,
    "auc": 0.81234,
    "val_loss": 0.6,
    "val_accuracy": 0.7,
    "val_auc": 0.8,
    "images_per_second": 1234.5,
    "input_wait": 0.0312,
    "learning_rate": 0.001,
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (200, "3m20s"),
        (3599.4, "59m59s"),
        (3599.6, "1h00m"),
        (7500, "2h05m"),
        (360_000, "100h00m"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_line_of_an_epoch():
    assert progress_line(2, 100, LOGS, 75) == (
        "epoch   3/100  loss 0.5124 acc 0.7500 auc 0.8123 | val loss 0.6000 acc 0.7000 auc 0.8000 | "
        "1,234 images/s, input wait 3.1%, at most 1m15s left"
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def drive(line, epochs):
    for epoch in epochs:
        line.on_epoch_begin(epoch)
        line.on_train_batch_begin(0, {})
        line.on_train_batch_end(49, LOGS)
        line.on_train_batch_end(99, LOGS)
        line.on_epoch_end(epoch, LOGS)


def test_a_file_gets_one_line_an_epoch_with_the_time_left():
    out, times = io.StringIO(), iter([100.0, 110.0, 130.0])  # begun, first epoch done, second
    drive(ProgressLine(6, 100, out, lambda: next(times)), [2, 3])
    lines = out.getvalue().splitlines()
    assert lines == [progress_line(2, 6, LOGS, 30), progress_line(3, 6, LOGS, 30)]  # 3 * 10 s, 2 * 15 s
    assert lines[0].startswith("epoch   3/6  loss")


def test_a_terminal_sees_how_far_the_epoch_is_in_the_same_line():
    out = Terminal()
    drive(ProgressLine(6, 100, out, lambda: 0.0), [0])
    assert out.getvalue() == (
        "\repoch   1  50%  loss 0.5124\033[K\repoch   1 100%  loss 0.5124\033[K"
        f"\r\033[K{progress_line(0, 6, LOGS, 0)}\n"
    )


def test_history_files_hold_a_row_for_each_epoch(tmp_path):
    earlier = {"epoch": 1, "loss": 1 / 3, "val_loss": 0.5}
    history = HistoryFiles(tmp_path, [earlier])
    history.on_epoch_end(1, {"loss": 0.1, "val_loss": 0.2})
    assert (tmp_path / "history.csv").read_text() == (
        "epoch,loss,val_loss\n1,0.3333333333333333,0.5\n2,0.1,0.2\n"
    )
    history.on_epoch_end(2, {"loss": 1e-9, "val_loss": 0.0})
    rows = [earlier, {"epoch": 2, "loss": 0.1, "val_loss": 0.2}, {"epoch": 3, "loss": 1e-9, "val_loss": 0.0}]
    assert history.rows == rows
    assert json.loads((tmp_path / "history.json").read_text()) == rows
    with (tmp_path / "history.csv").open() as file:
        assert [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)] == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "history.json"]


def test_a_column_that_a_version_before_had_not_is_added(tmp_path):
    history = HistoryFiles(tmp_path, [{"epoch": 1, "loss": 0.5}])
    history.on_epoch_end(1, {"loss": 0.25, "weighted_loss": 0.125})
    expected = "epoch,loss,weighted_loss\n1,0.5,\n2,0.25,0.125\n"
    assert (tmp_path / "history.csv").read_text() == expected


def test_a_helping_worker_keeps_rows_but_writes_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = HistoryFiles(None)
    history.on_epoch_end(0, {"loss": 0.1})
    assert history.rows == [{"epoch": 1, "loss": 0.1}]
    assert list(tmp_path.iterdir()) == []


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


def epochs(callbacks, losses, first=0):
    for epoch, loss in enumerate(losses, first):
        for callback in callbacks:
            callback.on_epoch_end(epoch, {"val_loss": loss})


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


def test_time_left_counts_from_the_epoch_this_process_began_with():
    out, times = io.StringIO(), chain([0.0], repeat(5.0))
    drive(ProgressLine(10, 100, out, lambda: next(times)), [8])
    assert out.getvalue().endswith("at most 5s left\n")


def test_time_left_counts_from_the_step_this_process_began_with():
    out, times = io.StringIO(), chain([0.0], repeat(5.0))
    line = ProgressLine(10, 100, out, lambda: next(times))
    line.on_epoch_begin(7)
    line.on_train_batch_begin(50)  # half of the epoch was done before
    line.on_epoch_end(7, LOGS)
    assert out.getvalue().endswith("at most 20s left\n")  # half an epoch in 5 s, two to come
