"""The table of metrics: the name of each, its meaning, and how it is shown.

Everything that lists metrics reads it: the report, its page and text, TensorBoard, the history, the progress
line, the training curves and the objectives of a search. The formulas stand elsewhere: `intervals` computes
the metrics of a report, `epoch_metrics` those of each epoch.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "val_"  # before the name of a metric of an epoch: the one of validation


@dataclass(frozen=True)
class Metric:
    """What is known of a metric before it is computed.

    Attributes:
        name: In report.json, in history.csv and in TensorBoard's tags.
        title: On the page and in charts.
        meaning: What its value says, in one clause; `{positive}` and `{other}` stand for names of classes.
        better: Whether a higher or a lower value is better.
        of: Of two classes the one that it describes: the positive one, the other one, or both.
        averaged: Of more classes, whether it is the mean over each class against the rest.
        needs_threshold: Whether the threshold of two classes changes it.
        bounds: The lowest and the highest value that it can have; None if it is shown without a bar, and has
            no interval that needs no bootstrap.
        reported: Whether a report has it.
        of_a_class: Whether the table of each class against the rest has it.
        headline: Whether it has a card at the top of the page.
        of_an_epoch: Whether it is computed after each epoch, of training and of validation.
        in_the_line: What the progress line calls it; "" if it is not there.
    """

    name: str
    title: str
    meaning: str
    better: Literal["high", "low"] = "high"
    of: Literal["positive", "other", "both"] = "both"
    averaged: bool = False
    needs_threshold: bool = True
    bounds: tuple[float, float] | None = (0.0, 1.0)
    reported: bool = True
    of_a_class: bool = False
    headline: bool = False
    of_an_epoch: bool = False
    in_the_line: str = ""


METRICS: Final = (
    Metric(
        "accuracy",
        "Accuracy",
        "share of records whose class is predicted right",
        headline=True,
        of_an_epoch=True,
        in_the_line="acc",
    ),
    Metric(
        "auroc",
        "AUROC",
        "chance that a record of {positive} scores above a randomly chosen record of {other}",
        averaged=True,
        needs_threshold=False,
        of_a_class=True,
        headline=True,
    ),
    Metric(
        "auprc",
        "AUPRC",
        "average precision over all thresholds",
        of="positive",
        averaged=True,
        needs_threshold=False,
    ),
    Metric(
        "sensitivity",
        "Sensitivity",
        "share of the records of {positive} that are predicted as {positive}",
        of="positive",
        averaged=True,
        of_a_class=True,
        headline=True,
    ),
    Metric(
        "specificity",
        "Specificity",
        "share of the records of {other} that are not predicted as {positive}",
        of="other",
        averaged=True,
        headline=True,
    ),
    Metric(
        "precision",
        "Precision",
        "share of the records predicted as {positive} that are of {positive}",
        of="positive",
        averaged=True,
        of_a_class=True,
    ),
    Metric(
        "f1",
        "F1",
        "harmonic mean of precision and sensitivity",
        of="positive",
        averaged=True,
        of_a_class=True,
    ),
    Metric(
        "balanced_accuracy",
        "Balanced accuracy",
        "mean over the classes of the share of each that is predicted right",
    ),
    Metric(
        "mcc",
        "MCC",
        "Matthews correlation of predicted and true classes, from -1 to 1; 1 is perfect, 0 is chance",
        bounds=(-1.0, 1.0),
        of_an_epoch=True,
    ),
    Metric(
        "loss",
        "Cross-entropy loss",
        "in nats; 0 is perfect",
        better="low",
        needs_threshold=False,
        bounds=None,
        of_an_epoch=True,
        in_the_line="loss",
    ),
    Metric(
        "brier",
        "Brier score",
        "squared error of the probabilities; 0 is perfect",
        better="low",
        needs_threshold=False,
        bounds=None,
    ),
    Metric(
        "auc",
        "AUC",
        "AUROC, approximated by 200 thresholds after each epoch",
        averaged=True,
        needs_threshold=False,
        reported=False,
        of_an_epoch=True,
        in_the_line="auc",
    ),
)
BY_NAME: Final = {metric.name: metric for metric in METRICS}
REPORTED: Final = tuple(metric for metric in METRICS if metric.reported)
OF_A_CLASS: Final = tuple(metric for metric in METRICS if metric.of_a_class)
# The loss comes first: it is what training minimises.
OF_AN_EPOCH: Final = tuple(
    sorted((metric for metric in METRICS if metric.of_an_epoch), key=lambda metric: metric.name != "loss")
)

LAST: Final = "last"  # in place of a metric: the last epoch is kept, however good it is
MONITORS: Final = (*(PREFIX + metric.name for metric in OF_AN_EPOCH), LAST)


def direction(monitor: str) -> Literal["min", "max"]:
    """Returns whether the least or the highest value of a metric of validation is the best, for Keras."""
    return "min" if BY_NAME[monitor.removeprefix(PREFIX)].better == "low" else "max"


def is_better(monitor: str, value: float, best: float | None) -> bool:
    """Returns whether an epoch's value makes it the best so far; equals do not, and with `LAST` all do.

    Args:
        monitor: One of `MONITORS`.
        value: Of the epoch.
        best: The best of the epochs before; None if there is none.
    """
    if monitor == LAST:
        return True
    if not math.isfinite(value):
        return False
    return best is None or (value < best if direction(monitor) == "min" else value > best)


def monitored(monitor: str, row: Mapping[str, float]) -> float:
    """Returns the value of an epoch that decides; with `LAST`, which needs none, NaN."""
    return math.nan if monitor == LAST else row[monitor]


def best_epoch(monitor: str, history: Iterable[Mapping[str, float]]) -> int:
    """Returns the number of the best epoch, from 1, the first of equals; 0 if there is none.

    Args:
        monitor: One of `MONITORS`.
        history: One row an epoch.
    """
    number, best = 0, None
    for epoch, row in enumerate(history, 1):
        if is_better(monitor, value := monitored(monitor, row), best):
            number, best = epoch, value
    return number


def epoch_in_words(monitor: str, epoch: int) -> str:
    """Returns what an epoch is whose weights are kept: `best epoch 5 by val_auc`."""
    if monitor == LAST:
        return f"last epoch {epoch}"
    return f"best epoch {epoch}" + f" by {monitor}" * (monitor != MONITORS[0])


def title_of(name: str) -> str:
    """Returns a metric's title, or its name where the table has none: in a history of another version."""
    return BY_NAME[name].title if name in BY_NAME else name


def meaning_of(metric: Metric, positive: str, other: str) -> str:
    """Returns what a metric says of these classes; of more than two classes both names are "".

    Args:
        metric: The metric.
        positive: Name of the positive class.
        other: Name of the other class.
    """
    if positive:
        return metric.meaning.replace("{positive}", positive).replace("{other}", other)
    meaning = metric.meaning.replace("{positive}", "the class").replace("{other}", "the other classes")
    return meaning + ", averaged over the classes" * metric.averaged


def in_the_line(logs: Mapping[str, float], prefix: str = "") -> str:
    """Returns an epoch's metrics as the progress line shows them: `loss 0.5124 acc 0.7500 auc 0.8123`.

    Args:
        logs: Of the epoch.
        prefix: `PREFIX` for those of validation.
    """
    shown = [metric for metric in OF_AN_EPOCH if metric.in_the_line]
    return " ".join(f"{metric.in_the_line} {logs[prefix + metric.name]:.4f}" for metric in shown)


def names(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """Returns the names of some metrics."""
    return tuple(metric.name for metric in metrics)
