"""What the numbers say of a split's records: learned from train alone, each record by its own id."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.manifest import Manifest
from trainer.evaluation.data import STREAM, DataSet
from trainer.evaluation.evaluate_run import evaluate_run
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.report import read_report, render_text
from trainer.evaluation.shortcut import finding
from trainer.evaluation.shortcut.cells import contradicts
from trainer.evaluation.shortcut.finding import numbers_say

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """Images whose class is told by their brightness, but for a tenth of them."""
    root = tmp_path_factory.mktemp("bright")
    random = np.random.default_rng(3)
    for number in range(400):
        label = number % 2
        middle = 150 if label != (number % 20 < 2) else 90
        folder = root / "images" / ("dark", "light")[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.normal(middle, 12, (16, 16)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    out = root / "data"
    convert_images(
        ConvertOptions(
            root / "images", out, size=(16, 16), group_regex="(.*)", workers=1, copies=1, test_fraction=0.2
        )
    )
    return DataSet(out, Manifest.load(out), True, STREAM)


def asked(bright, split, monkeypatch, fewest=60):
    monkeypatch.setattr(finding, "FEWEST", fewest)
    measured = finding._measured(bright, split, lambda: None)
    order = np.random.default_rng(0).permutation(len(measured.ids))
    predictions = Predictions(
        ("dark", "light"),
        tuple(measured.ids[k] for k in order),
        tuple(measured.groups[k] for k in order),
        measured.labels[order],
        np.full((len(order), 2), 0.5),
    )
    return predictions, numbers_say(None, bright, split, predictions, lambda: None)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_record_gets_what_its_own_numbers_say(bright, split, monkeypatch):
    predictions, said = asked(bright, split, monkeypatch)
    odd = [int(name.split("/")[-1].split(".")[0]) % 20 < 2 for name in predictions.ids]
    assert (contradicts(predictions, said) == np.array(odd)).mean() > 0.95
    assert said.learned_from == Manifest.load(bright.folder).split("train").images
    assert len(said.strongest) == 3


def test_too_few_images_or_too_many_classes_are_told(bright, monkeypatch):
    predictions, said = asked(bright, "test", monkeypatch, fewest=1000)
    assert "1000" in said
    many = replace(
        predictions,
        class_names=tuple(map(str, range(30))),
        probabilities=np.full((len(predictions.ids), 30), 1 / 30),
    )
    assert "30 classes" in numbers_say(None, bright, "test", many, lambda: None)
    direct = replace(bright, options=replace(bright.options, shards_at="http://x"))
    assert "URL" in numbers_say(None, direct, "test", predictions, lambda: None)


def test_a_report_has_the_audit_or_the_reason(run, without_pictures, monkeypatch):
    evaluation = evaluate_run(run, split="test")
    report = read_report(run.report("test"))
    assert "100 of each" in report["shortcut"]["missing"]
    assert "no shortcut audit" in evaluation.text
    monkeypatch.setattr(finding, "FEWEST", 1)
    evaluation = evaluate_run(run, split="test", stress=False)
    report = json.loads((run.report("test") / "report.json").read_text())
    assert sum(cell["records"] for cell in report["shortcut"]["cells"]) == report["records"]
    assert "accuracy on images that contradict" in render_text(report)
    assert "Shortcut audit" in evaluation.page.read_text()
