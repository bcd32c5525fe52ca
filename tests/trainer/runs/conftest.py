"""Run directories as the trainer leaves them, made by its own writers, without training."""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from trainer.config import TrainConfig
from trainer.evaluation import report
from trainer.evaluation.predictions import Predictions
from trainer.result import Result
from trainer.run import DataFacts, Run

PLAN = "0123456789abcdef"
CLASSES = ("NORMAL", "PNEUMONIA")
LOSSES = (0.7, 0.4, 0.5)


def _predictions_of(strength, *, seed=0, records=400, noise=1, classes=CLASSES, in_group=2):
    """Answers of a model: the same labels and groups for all, the surer the higher the strength."""
    labels = np.random.default_rng(0).integers(len(classes), size=records)
    logits = np.random.default_rng(seed).normal(size=(records, len(classes))) * noise
    logits[np.arange(records), labels] += strength
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = tuple(f"folder/image {number}.png" for number in range(records))
    groups = tuple(f"group {number // in_group}" for number in range(records))
    return Predictions(classes, ids, groups, labels, rows)


class _Same:
    """Predictions that are equal where their answers are, so that their summary is computed once."""

    def __init__(self, predictions):
        self.predictions = predictions
        fields = (predictions.class_names, predictions.groups, predictions.positive)
        self.key = (*fields, predictions.probabilities.tobytes())

    def __eq__(self, other):
        return self.key == other.key

    def __hash__(self):
        return hash(self.key)


@functools.cache
def _summary(same, threshold, split):
    return report.summarise(
        split=split,
        predictions=same.predictions,
        threshold=threshold,
        threshold_source="chosen on validation",
        facts={},
    )


@dataclass(frozen=True)
class MakeRun:
    """Makes run directories below a folder."""

    root: Path

    def __call__(
        self, name, *, losses=LOSSES, epochs=None, done=True, diverged=None, plan=PLAN, data="chest", **config
    ):
        """A run that has done these epochs; `done`: its model is published after them."""
        folder = self.root / name
        classes = CLASSES
        config = TrainConfig(
            data="data",
            run_dir=str(folder),
            epochs=epochs or max(len(losses), 1),
            **{"model": "cnn", **config},
        )
        facts = DataFacts(data, classes, (24, 32, 1), plan)
        is_baseline = config.model == "pca_svm"
        run = Run(config, facts, {"data": data}, diverged=diverged, baseline={} if is_baseline else None)
        run.save()
        rows = [{"epoch": number, "loss": loss, "val_loss": loss} for number, loss in enumerate(losses, 1)]
        if rows:
            (folder / "history.json").write_text(json.dumps(rows))
        if done:
            run.model.write_bytes(name.encode())
            best = 0 if is_baseline else int(np.argmin(losses)) + 1
            run.save_result(
                Result(
                    model_sha256=hashlib.sha256(name.encode()).hexdigest(),
                    epoch=best,
                    val_loss=min(losses, default=0.3),
                    epochs=len(rows),
                    waited=0,
                    threshold=0.4,
                    chosen_on=100,
                    plan=plan,
                    precision="float32",
                    positive="PNEUMONIA",
                )
            )
        return folder

    def report(self, folder, predictions, *, threshold=0.4, split="test", plan=PLAN):
        """Gives a run its report, all but the pictures: report.json and predictions.csv."""
        result = Run.load(folder).stored_result()
        facts = {
            "evaluated": f"{split} of chest: data",
            "data plan": plan,
            "model file": f"SHA-256 {result.model_sha256}" if result else "none yet",
        }
        content = {**_summary(_Same(predictions), threshold, split), "facts": facts}
        place = folder / "report" / split
        place.mkdir(parents=True)
        (place / "report.json").write_text(json.dumps(content))
        (place / "predictions.csv").write_text(report._predictions_csv(predictions, threshold))
        return place


@pytest.fixture
def make_run(tmp_path):
    """`make_run(name, ...)` makes a run directory below `tmp_path / "runs"`; see `MakeRun`."""
    (tmp_path / "runs").mkdir()
    return MakeRun(tmp_path / "runs")


@pytest.fixture(scope="session")
def reported_runs(tmp_path_factory):
    """A folder with two finished runs and their reports; read only."""
    make = MakeRun(tmp_path_factory.mktemp("two") / "runs")
    for name, strength, seed in (("strong", 3, 1), ("weak", 1, 2)):
        make.report(make(name), _predictions_of(strength, seed=seed))
    return make.root


@pytest.fixture(scope="session")
def predictions_of():
    """`predictions_of(strength, seed=..., records=...)`: the same records and labels for each strength."""
    return _predictions_of
