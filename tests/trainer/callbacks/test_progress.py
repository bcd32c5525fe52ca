import io
from itertools import chain, repeat

import pytest

from tfrecords.progress import duration
from trainer.callbacks.progress import ProgressLine, log_steps, progress_line

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


@pytest.mark.parametrize(
    ("asked", "steps", "every"),
    [
        (None, 1, 0),
        (None, 999, 0),
        (None, 1000, 100),
        (None, 1001, 200),
        (None, 1630, 200),
        (None, 2001, 250),
        (None, 2501, 500),
        (None, 5000, 500),
        (None, 5001, 1000),
        (None, 10_000, 1000),
        (None, 1_281_167, 200_000),
        (0, 5000, 0),
        (7, 20, 7),
        (50, 20, 50),
    ],
)
def test_steps_between_two_logs(asked, steps, every):
    assert log_steps(asked, steps) == every
    if asked is None and every:
        assert 5 <= -(-steps // every) <= 10


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
    out, times = io.StringIO(), iter([100.0, 110.0, 110.0, 130.0])  # epochs begin and end
    drive(ProgressLine(6, 100, out=out, clock=lambda: next(times)), [2, 3])
    lines = out.getvalue().splitlines()
    assert lines == [progress_line(2, 6, LOGS, 30), progress_line(3, 6, LOGS, 30)]  # 3 * 10 s, 2 * 15 s
    assert lines[0].startswith("epoch   3/6  loss")


def test_a_file_gets_lines_within_a_long_epoch():
    """At multiples of the step alone, so that a resumed run prints those that are left; not at the end."""
    out, now = io.StringIO(), [0.0]
    line = ProgressLine(6, 100, 32, 25, out, lambda: now[0])
    line.on_epoch_begin(2)
    line.on_train_batch_begin(40, {})  # this process has resumed here
    for end in (45, 50, 60, 75, 100):
        now[0] = (end - 40) * 0.5
        line.on_train_batch_end(end - 1, LOGS)
    assert out.getvalue().splitlines() == [
        f"epoch   3/6  step {step} of 100, {left} left in epoch | "
        f"loss 0.5124 acc 0.7500 auc 0.8123 | 64 images/s"
        for step, left in ((50, "25s"), (75, "12s"))
    ]


def test_a_terminal_sees_how_far_the_epoch_is_in_the_same_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")  # less than the line has
    out, now = Terminal(), [0.0]
    line = ProgressLine(6, 100, 32, 25, out, lambda: now[0])
    line.on_epoch_begin(0)
    line.on_train_batch_begin(0, {})
    for end in (10, 100):  # each block is shown, whether a line is due or not
        now[0] = float(end)
        line.on_train_batch_end(end - 1, LOGS)
    line.on_epoch_end(0, LOGS)
    shown = out.getvalue().split("\r")
    assert shown[1] == "epoch   1/6  step 10 of 100, 1m30s left in epoch \033[K"
    assert shown[2] == "epoch   1/6  step 100 of 100, 0s left in epoch | \033[K"
    assert shown[3:] == [f"\033[K{progress_line(0, 6, LOGS, 500)}\n"]


def test_time_left_counts_from_the_epoch_this_process_began_with():
    out, times = io.StringIO(), chain([0.0], repeat(5.0))
    drive(ProgressLine(10, 100, out=out, clock=lambda: next(times)), [8])
    assert out.getvalue().endswith("at most 5s left\n")


def test_time_left_counts_from_the_step_this_process_began_with():
    out, times = io.StringIO(), chain([0.0], repeat(5.0))
    line = ProgressLine(10, 100, out=out, clock=lambda: next(times))
    line.on_epoch_begin(7)
    line.on_train_batch_begin(50)  # half of the epoch was done before
    line.on_epoch_end(7, LOGS)
    assert out.getvalue().endswith("at most 20s left\n")  # half an epoch in 5 s, two to come
