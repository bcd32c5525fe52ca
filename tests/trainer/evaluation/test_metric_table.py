import math

import pytest

from trainer.evaluation.metric_table import MONITORS, best_epoch, direction, epoch_in_words


def test_each_metric_of_validation_can_be_monitored_and_has_a_direction():
    assert MONITORS == ("val_loss", "val_accuracy", "val_mcc", "val_auc", "last")
    assert [direction(name) for name in MONITORS[:-1]] == ["min", "max", "max", "max"]


@pytest.mark.parametrize(
    ("monitor", "values", "expected"),
    [
        ("val_loss", (0.5, 0.25, 0.25), 2),
        ("val_loss", (math.nan, 0.25, math.inf), 2),
        ("val_loss", (math.nan,), 0),
        ("val_auc", (0.5, 0.75, 0.75), 2),
        ("val_auc", (0.0, -1.0), 1),
        ("val_auc", (), 0),
        ("last", (0.5, 0.75, 0.25), 3),
        ("last", (), 0),
    ],
)
def test_the_best_epoch_is_the_first_with_the_best_value(monitor, values, expected):
    assert best_epoch(monitor, [{monitor: value} for value in values]) == expected


@pytest.mark.parametrize(
    ("monitor", "said"),
    [("val_loss", "best epoch 4"), ("val_auc", "best epoch 4 by val_auc"), ("last", "last epoch 4")],
)
def test_words_say_which_epoch_it_is(monitor, said):
    assert epoch_in_words(monitor, 4) == said
