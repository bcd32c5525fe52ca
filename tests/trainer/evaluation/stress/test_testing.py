"""A stress test of a model that knows one thing: the mean grey level of an image."""

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.evaluation.data import STREAM, DataSet, predict_split
from trainer.evaluation.stress.changes import STRESSES
from trainer.evaluation.stress.showing import stress_csv, stress_figure, stress_lines
from trainer.evaluation.stress.testing import stress_test, to_json

FEW = tuple(stress for stress in STRESSES if stress.name in ("exposure", "noise", "rotation"))


class MeanLevel:
    """Predicts class 1 where the mean level is above the middle; counts the images."""

    def __init__(self, middle):
        self.middle, self.images, self.means = middle, 0, []

    def probabilities(self, images):
        self.images += len(images)
        means = images.mean(axis=(1, 2, 3))
        self.means += means.tolist()
        right = 1 / (1 + np.exp(-(means - self.middle)))
        return np.column_stack([1 - right, right])


@pytest.fixture(scope="module")
def data(converted):
    return DataSet(converted, Manifest.load(converted), True, STREAM)


@pytest.fixture(scope="module")
def tested(data):
    model = MeanLevel(0)
    predict_split(model, data.folder, data.manifest, "test", originals=True)
    model.middle = float(np.median(model.means))
    unchanged = predict_split(model, data.folder, data.manifest, "test", originals=True)
    model.images = 0
    ticks = []
    found = stress_test(
        model, data, "test", unchanged, 0.5, seed=3, stresses=FEW, tick=lambda: ticks.append(1)
    )
    assert model.images == len(unchanged.ids) * sum(len(stress.levels) - 1 for stress in FEW)
    assert ticks
    return model.middle, unchanged, found


@pytest.mark.slow
def test_each_level_has_the_figures_of_its_changed_images(tested):
    _, _, found = tested
    assert [each.stress.name for each in found] == [stress.name for stress in FEW]
    for each in found:
        assert [level.level for level in each.levels] == list(each.stress.levels)
        at = each.stress.levels.index(each.stress.unchanged)
        assert each.levels[at].changed_classes == 0
    exposure, noise, rotation = found
    # Brighter images have a higher mean: at last all are of class 1, then all of class 0.
    assert exposure.levels[-1].estimates["sensitivity"].value == 1
    assert exposure.levels[0].estimates["specificity"].value == 1
    assert exposure.levels[0].changed_classes > 0
    # Turning and noise keep the mean, so this model does not mind.
    for each in (noise, rotation):
        assert max(level.changed_classes for level in each.levels) < exposure.levels[0].changed_classes


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures(data, tested):
    middle, unchanged, found = tested
    again = stress_test(MeanLevel(middle), data, "test", unchanged, 0.5, seed=3, stresses=FEW)
    assert to_json(again) == to_json(found)


@pytest.mark.slow
def test_it_is_shown_as_picture_table_and_text(tested):
    _, _, found = tested
    content = json.loads(json.dumps(to_json(found), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(stress_csv(content))))
    levels = sum(len(stress.levels) for stress in FEW)
    assert len(rows) == levels * len(content[0]["levels"][0]["estimates"])
    assert {row["change"] for row in rows} == {"exposure", "noise", "rotation"}
    lines = stress_lines(content)
    assert len(lines) == len(FEW) + 2
    assert "0*" in lines[1]
    drawn = [axes for axes in stress_figure(content).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in drawn] == ["exposure", "noise", "rotation"]


@pytest.mark.slow
def test_a_shard_that_is_damaged_is_named(data, tested, tmp_path):
    middle, unchanged, _ = tested
    copy = shutil.copytree(data.folder, tmp_path / "data")
    shard = copy / data.manifest.split("test").shards[0].name
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=shard.name):
        stress_test(MeanLevel(middle), replace(data, folder=copy), "test", unchanged, 0.5, stresses=FEW)


@pytest.mark.slow
@pytest.mark.stops
def test_the_command_adds_it_to_the_report_and_takes_it_out_again(trained, run_command, tmp_path):
    out = tmp_path / "report"
    command = ("trainer.evaluate", f"--run_dir={trained.folder}", f"--out={out}")
    done = run_command(*command, "--stress")
    assert done.returncode == 0, done.stderr
    assert "stress test, accuracy by level" in done.stdout
    report = json.loads((out / "report.json").read_text())
    assert [each["change"] for each in report["stress"]] == [stress.name for stress in STRESSES]
    at = next(level for level in report["stress"][0]["levels"] if level["level"] == 0)
    chosen = report["decisions"].get("chosen", report["decisions"]["default"])
    assert at["estimates"]["accuracy"]["value"] == chosen["estimates"]["accuracy"]["value"]
    assert "Stress tests" in (out / "report.html").read_text()
    assert (out / "stress.csv").exists()
    assert (out / "stress.png").exists()
    assert run_command(*command).returncode == 0
    assert not list(out.glob("stress.*"))
    assert "Stress tests" not in (out / "report.html").read_text()
