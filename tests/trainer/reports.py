"""Predictions that are drawn at random, and reports on them, for the tests of `trainer.evaluation`.

`from reports import drawn, write`.
"""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np

from trainer.evaluation import report
from trainer.evaluation.page import render_page
from trainer.evaluation.predictions import Predictions

PICTURES = {
    "training_curves.png",
    "confusion_matrix.png",
    "roc.png",
    "precision_recall.png",
    "reliability.png",
}
FILES = PICTURES | {"report.json", "predictions.csv", "report.html"}
HISTORY = [
    {"epoch": 1.0, "loss": 0.9, "val_loss": 0.8, "val_auc": 0.7, "learning_rate": 1e-3},
    {"epoch": 2.0, "loss": 0.5, "val_loss": 0.6, "val_auc": 0.8, "learning_rate": 1e-3},
    {"epoch": 3.0, "loss": 0.2, "val_loss": 0.7, "val_auc": float("nan"), "learning_rate": 1e-4},
]


def drawn(names=("NORMAL", "PNEUMONIA"), records=60, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(len(names), size=records)
    logits = random.normal(size=(records, len(names)))
    logits[np.arange(records), labels] += 1
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = tuple(f"id{i}" for i in range(records))
    groups = tuple(f"group {i // 2}" for i in range(records))
    return Predictions(names, ids, groups, labels, rows)


def write(
    directory, predictions=None, threshold: float | None = 0.4, *, history=HISTORY, mistakes=None, **changes
):
    """Writes a report and returns its page."""
    predictions = predictions or drawn()
    arguments = {
        "threshold_source": "Youden's J on the val split",
        "facts": {"data": "demo data: drawn phantoms", "precision": "float32"},
        "best_epoch": 2 if history else None,
    }
    numbers = report.summarise(
        split="test", predictions=predictions, threshold=threshold, **{**arguments, **changes}
    )
    report.write_report(directory, numbers, predictions=predictions, history=history, mistakes=mistakes)
    return directory / "report.html"


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


class Page(HTMLParser):
    """Collects the tags, their attributes and the text; complains of tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text.append(data)


def summarised(predictions, threshold=0.4, **changes):
    """The numbers without a picture, which takes seconds, and what a page says of them."""
    told = {"threshold_source": "Youden's J on the val split", "facts": {}, **changes}
    numbers = report.summarise(split="test", predictions=predictions, threshold=threshold, **told)
    return numbers, " ".join("".join(Page(render_page(numbers, {})).text).split())


def of_covid(**changes):
    """Predictions whose finding is the first class, and a threshold."""
    drawn_so = drawn(names=("COVID", "NORMAL"), records=120)
    return replace(drawn_so, positive=0, **changes)
