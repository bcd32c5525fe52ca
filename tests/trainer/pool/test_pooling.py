from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tfrecords.errors import InputError
from tfrecords.folds.folded import folded
from tfrecords.folds.held_out import Fold
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.evaluation.data import DataSet, predict_split
from trainer.evaluation.intervals import point_values
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.report import read_report
from trainer.evaluation.shortcut.finding import NumbersSay
from trainer.inference import Predictor
from trainer.pool import pooling
from trainer.pool.pooling import PoolOptions, in_order, joined, pool_runs, require_parent
from trainer.run import DataFacts, Run
from trainer.runs.comparing import read_predictions
from trainer.served.rules import fixed_temperature
from trainer.served.temperature import fit_temperature, logits_of

CONFIG = TrainConfig(data="fold", run_dir="run", fold="1/3", fold_of="data")


def run_of(number, folds=3, **values):
    config = CONFIG.changed(fold=f"{number}/{folds}", run_dir=f"run-{number}", **values)
    plan = Fold(number, folds).plan("parent")
    return Run(config, DataFacts("drawn", ("a", "b"), (8, 8, 1), plan), {})


def test_the_runs_are_taken_in_the_order_of_their_folds():
    runs = [run_of(2), run_of(3, seed=7), run_of(1)]  # seeds may differ
    assert [run.config.fold for run in in_order(runs)] == ["1/3", "2/3", "3/3"]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([run_of(1), run_of(2)], "1/3, 2/3; needed is each of 1/3 to 3/3"),
        ([run_of(1), run_of(2), run_of(2)], "1/3, 2/3, 2/3; needed is each of 1/3 to 3/3"),
        ([run_of(1, 2), run_of(2, 3)], "1/2, 2/3; needed is each of 1/2 to 2/2"),
        ([run_of(1), run_of(2, learning_rate=0.5), run_of(3)], "--learning_rate=0.001 --learning_rate=0.5"),
        ([run_of(1), replace(run_of(2), config=CONFIG.changed(fold="", fold_of=""))], "run: --fold=I/K"),
    ],
)
def test_runs_that_are_not_those_of_all_folds(runs, message, facts):
    with pytest.raises(InputError, match=facts(message)):
        in_order(runs)


def test_another_conversion_is_refused(converted, facts):
    manifest = replace(Manifest.load(converted), plan="parent")
    require_parent([run_of(1), run_of(2)], Path("data"), manifest)
    with pytest.raises(InputError, match=facts("run-2: data; --data=FOLDER")):
        require_parent([run_of(2)], Path("data"), replace(manifest, plan="other"))


def test_each_image_must_be_there_once(converted):
    manifest = Manifest.load(converted)
    count = sum(manifest.split(name).images for name in ("train", "val"))

    def part(start, stop):
        ids = tuple(str(number) for number in range(start, stop))
        labels = np.arange(start, stop) % 2
        return Predictions(manifest.class_names, ids, ids, labels, np.eye(2)[labels])

    parts = [part(0, 10), part(10, count)]
    found = joined(parts, manifest)
    assert found.ids == parts[0].ids + parts[1].ids
    np.testing.assert_array_equal(found.labels, np.arange(count) % 2)
    for wrong in ([part(0, 10), part(11, count)], [part(0, 10), part(9, count - 1)]):
        with pytest.raises(InputError, match=f"{count} images"):
            joined(wrong, manifest)


def test_the_shortcut_is_what_each_folds_own_train_split_says(monkeypatch):
    """Joined in the order of the folds; one fold without an answer leaves none."""
    labels = [np.array([0, 0, 1]), np.array([0, 1, 1])]
    right = [np.array([1, 1, 0], bool), np.array([1, 0, 1], bool)]
    agrees = [np.array([1, 0, 0], bool), np.array([0, 1, 1], bool)]

    def sure(classes):
        return np.eye(2)[classes] * 0.8 + 0.1

    def part(fold):
        ids = tuple(f"{fold}/{number}" for number in range(3))
        classes = np.where(right[fold], labels[fold], 1 - labels[fold])
        return Predictions(("A", "B"), ids, ids, labels[fold], sure(classes))

    parts = [part(0), part(1)]
    pooled = Predictions(
        ("A", "B"),
        (*parts[0].ids, *parts[1].ids),
        (*parts[0].groups, *parts[1].groups),
        np.concatenate(labels),
        np.concatenate([each.probabilities for each in parts]),
    )
    said = [
        NumbersSay(sure(np.where(agrees[k], labels[k], 1 - labels[k])), 100 + k, ("mean", f"n{k}"))
        for k in (0, 1)
    ]

    runs, homes = [run_of(1, 2), run_of(2, 2)], ["home 1", "home 2"]

    def asked(run, home, split, predictions, tick):
        fold = homes.index(home)
        assert (run, split, predictions.ids) == (runs[fold], "val", parts[fold].ids)
        return said[fold]

    monkeypatch.setattr(pooling, "numbers_say", asked)
    content = pooling._shortcut(runs, homes, parts, pooled, 0.5)
    assert (content["learned_from"], content["strongest"][0]) == (100, "mean")
    cells = {(cell["class"], cell["agrees"]): cell for cell in content["cells"]}
    counts = {key: (cell["records"], cell["accuracy"]["value"]) for key, cell in cells.items()}
    assert counts == {
        ("A", True): (1, 1.0),
        ("A", False): (2, 1.0),
        ("B", True): (2, 0.5),
        ("B", False): (1, 0.0),
    }
    assert content["contradicting"]["records"] == 3
    said[1] = "no train split"
    assert pooling._shortcut(runs, homes, parts, pooled, 0.5) == {"missing": "fold 2/2: no train split"}


@pytest.mark.parametrize(("asked", "together"), [("none", 2.0), ("4", 8.0), ("8", 10.0)])
def test_the_temperature_of_out_of_fold_predictions_comes_on_top_of_the_runs(asked, together):
    random, names = np.random.default_rng(0), tuple(map(str, range(4000)))
    logits = random.normal(0, 3, (len(names), 2))
    calibrated = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (random.random(len(names)) > calibrated[:, 0]).astype(np.int64)
    sharper = calibrated**2 / (calibrated**2).sum(axis=1, keepdims=True)
    told = pooling._temperature(Predictions(("a", "b"), names, names, labels, sharper), asked)
    value = told.rpartition("--temperature=")[2]
    assert float(value) == pytest.approx(together, rel=0.05)
    assert told.startswith(value)
    assert fixed_temperature(value) == float(value)


@pytest.mark.slow
@pytest.mark.stops
@pytest.mark.storm
def test_the_report_is_that_of_a_pooling_by_hand(converted, tmp_path, run_command):
    """And a run whose fold has been removed from the cache makes it again."""
    cache = str(tmp_path / "cache")
    folders = [tmp_path / f"fold-{number}" for number in (1, 2)]
    for number, folder in enumerate(folders, 1):
        where = (f"--data={converted}", f"--run_dir={folder}", f"--fold={number}/2", f"--cache_dir={cache}")
        how = ("--model=mlp", "--model_args=units=8", "--epochs=1", "--global_batch_size=8")
        done = run_command("trainer.main", *where, *how)
        assert done.returncode == 0, done.stderr
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    evaluation = pool_runs(PoolOptions((folders[1], folders[0]), tmp_path / "pooled"))
    written = read_predictions(tmp_path / "pooled" / "predictions.csv")
    parent = Manifest.load(converted)
    ids, labels, probabilities = [], [], []
    for number, folder in enumerate(folders, 1):
        data = folded(converted, parent, Fold(number, 2), cache_dir=str(tmp_path / "elsewhere"))
        own = predict_split(Predictor(folder / "model.keras"), *data, "val")
        assert DataSet.of(Run.load(folder)).manifest == data[1]
        ids += own.ids
        labels.append(own.labels)
        probabilities.append(own.probabilities)
    assert sorted(written.ids) == sorted(ids)
    order = [written.ids.index(name) for name in ids]
    np.testing.assert_array_equal(written.labels[order], np.concatenate(labels))
    np.testing.assert_allclose(written.probabilities[order], np.concatenate(probabilities), atol=1e-6)
    assert len(ids) == parent.split("train").images + parent.split("val").images
    report = read_report(tmp_path / "pooled")
    assert report["decisions"].keys() == {"default"}
    value = report["decisions"]["default"]["estimates"]["auroc"]["value"]
    assert value == pytest.approx(point_values(written.of("PNEUMONIA"), 0.5)["auroc"])
    assert "out of fold" in evaluation.text
    best = fit_temperature(logits_of(written), written.labels)
    assert f"--temperature={best:.3g}" in report["facts"]["temperature by these records"]
    assert report["shortcut"]["missing"].startswith("fold 1/2: the smallest class has")
