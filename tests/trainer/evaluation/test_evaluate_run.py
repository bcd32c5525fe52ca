import csv
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from recomputation import read, recomputed, youden
from sklearn.metrics import precision_score, recall_score
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError
from tfrecords.files.atomic import file_sha256
from tfrecords.manifest import Manifest
from trainer.evaluation import report
from trainer.evaluation.data import predict_split
from trainer.evaluation.evaluate_run import evaluate_run, finished_evaluation
from trainer.evaluation.report import read_report, render_text
from trainer.finish import finished_again, positive_of
from trainer.inference import Predictor
from trainer.predict.files import predict_files
from trainer.run import Run

pytestmark = pytest.mark.slow


def snapshot(folder, *without):
    """All that is below a folder, with contents and times."""
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in folder.rglob("*")
        if path.relative_to(folder).parts[0] not in without
    }


def test_a_model_that_has_learned_nothing_is_told(run, without_pictures):
    told = "The model gives all images the same probabilities: it has learned nothing from them."
    assert told not in evaluate_run(run, split="test").text
    model, result = keras.models.load_model(run.model), run.result()
    for weight in model.layers[-1].weights + model.layers[-2].weights:
        weight.assign(weight * 0)
    model.save(run.model)
    run.save_result(replace(result, model_sha256=file_sha256(run.model)))
    assert told in evaluate_run(run, split="test").text


def test_the_threshold_comes_from_validation_only(run, without_pictures):
    on_test = evaluate_run(run, split="test")
    on_val = evaluate_run(run, split="val")
    records = Manifest.load(run.folder.parent / run.config.data).split("val").records
    test, val = (read_report(run.report(split)) for split in ("test", "val"))
    assert test["threshold_source"] == f"chosen on validation ({records} records), never on test"
    assert val["threshold_source"] == "chosen on this split itself: its figures there are optimistic"
    assert test["decisions"]["chosen"]["threshold"] == val["decisions"]["chosen"]["threshold"]
    assert on_test.page == run.folder / "report" / "test" / "report.html"
    assert on_val.text != on_test.text
    assert test["threshold_source"] in on_test.text


def test_the_manifest_is_read_once_and_the_report_is_not_read_back(run, without_pictures, monkeypatch):
    (run.folder / "result.json").write_text(json.dumps({**asdict(run.result()), "threshold": None}))
    opened = []
    real = Path.open

    def watched(path, mode="r", *args, **named):
        if "r" in mode:
            opened.append(path.name)
        return real(path, mode, *args, **named)

    monkeypatch.setattr(Path, "open", watched)
    text = evaluate_run(run, split="test").text
    assert opened.count("manifest.json") == 1
    assert "report.json" not in opened
    monkeypatch.undo()
    assert text == render_text(read_report(run.report("test")))


def test_other_data_are_evaluated_with_the_threshold_of_the_runs_own_and_have_a_report_of_their_own(
    rewrite, run, data, without_pictures
):
    own, before = read_report(run.report("test")), snapshot(run.report("test"))
    records = Manifest.load(data).split("val").records
    for plan, name in (("b" * 64, "external-val"), ("c" * 64, "external-cccccccc-val")):
        rewrite(data, name="external", plan=plan)
        evaluation = evaluate_run(run, split="val", data=data)
        assert evaluation.page == run.report(name) / "report.html"
        other = read_report(run.report(name))
        source = f"chosen on validation ({records} records) of the run's own data, chest_xray"
        assert other["threshold_source"] == source
        assert other["decisions"]["chosen"]["threshold"] == own["decisions"]["chosen"]["threshold"]
        assert other["facts"]["evaluated"] == f"val of external: {data}"
        assert other["facts"]["data"] == f"external: {data}"
        assert evaluation.text.startswith(f"val of external: {records} records")
        assert "Evaluation on the val split of external" in evaluation.page.read_text()
    evaluate_run(run, split="val", data=data)  # again: its place is known
    names = {path.name for path in (run.folder / "report").iterdir()}
    assert names == {"test", "external-val", "external-cccccccc-val"}
    assert snapshot(run.report("test")) == before
    watched = EventAccumulator(str(run.tensorboard / "report"), size_guidance={TENSORS: 0}).Reload()
    assert [len(watched.Tensors(f"{name}/report/auroc")) for name in sorted(names)] == [2, 1, 1]
    assert "val/report/auroc" not in watched.Tags()[TENSORS]


def test_the_runs_own_data_are_known_by_their_plan_wherever_they_are(
    run, data, tmp_path, monkeypatch, without_pictures
):
    (tmp_path / "link").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    gone = replace(run, config=replace(run.config, data=str(tmp_path / "gone")))
    (run.folder / "result.json").write_text(json.dumps({**asdict(run.result()), "threshold": None}))
    for path in (data, tmp_path / "link", Path("data")):
        evaluate_run(gone, split="val", data=path, out=tmp_path / "out")
        report = read_report(tmp_path / "out")
        assert report["threshold_source"] == "chosen on this split itself: its figures there are optimistic"
        assert "data" not in report
    assert evaluate_run(gone, split="val", data=data).page == run.report("val") / "report.html"
    assert run.result().threshold == report["decisions"]["chosen"]["threshold"]  # chosen on them, and kept
    with pytest.raises(InputError, match=r"gone: no such folder(.|\n)*--data=FOLDER"):
        evaluate_run(gone, split="val")


def test_of_train_the_originals_are_evaluated(run, converted, without_pictures):
    described = Manifest.load(converted).split("train")
    assert described.records == 2 * described.images
    text = evaluate_run(run, split="train").text
    report = read_report(run.report("train"))
    with (run.report("train") / "predictions.csv").open() as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    assert (len(ids), len(set(ids)), report["records"]) == (described.images,) * 3
    note = "The model was trained on these images: the figures are optimistic. Copies are left out."
    assert report["warnings"][0] == note
    assert note in text
    assert note in (run.report("train") / "report.html").read_text()


def test_out_takes_the_report_and_the_run_stays_as_it_is(run, tmp_path, without_pictures):
    (run.folder / "result.json").write_text(json.dumps({**asdict(run.result()), "threshold": None}))
    before, own = snapshot(run.folder), read_report(run.report("test"))
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    there = (tmp_path / "disk").stat().st_ino
    for out in (tmp_path / "new" / "report", tmp_path / "link", tmp_path / "link"):
        assert evaluate_run(run, split="test", out=out).page == out / "report.html"
        assert read_report(out)["decisions"] == own["decisions"]
        assert {path.name for path in out.iterdir()} == {path.name for path in run.report("test").iterdir()}
    assert ((tmp_path / "disk").stat().st_ino, (tmp_path / "link").is_symlink()) == (there, True)
    assert snapshot(run.folder) == before


@pytest.mark.parametrize("name", ["thesis.txt", "papers", "thesis.txt/report"])
def test_out_must_be_a_place_for_a_report(run, tmp_path, name):
    (tmp_path / "papers").mkdir()
    for folder in (tmp_path, tmp_path / "papers"):
        (folder / "thesis.txt").write_text("all of it")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=f"--out={tmp_path / name}: .*; give a"):
        evaluate_run(run, split="test", out=tmp_path / name)
    assert snapshot(tmp_path) == before


def test_a_run_that_cannot_be_written_is_told_of_out_before_anything_is_read(run, monkeypatch):
    before = snapshot(run.folder)
    monkeypatch.setattr(os, "access", lambda path, _: not Path(path).is_relative_to(run.folder))
    with pytest.raises(InputError, match=rf"--run_dir={run.folder}: .* cannot be written; give --out=FOLDER"):
        evaluate_run(run, split="test")
    assert snapshot(run.folder) == before


def test_a_run_that_has_not_ended_is_evaluated_at_its_best_epoch_so_far(run, without_pictures):
    result, own, model = run.result(), run.report("test"), run.model.read_bytes()
    run.model.unlink()
    (run.folder / "result.json").unlink()
    before = snapshot(run.folder, "report")
    evaluation = evaluate_run(run, split="test")
    folder = run.report("test-so-far")
    assert evaluation.page == folder / "report.html"
    assert (folder / "predictions.csv").read_bytes() == (own / "predictions.csv").read_bytes()
    report = read_report(folder)
    assert report["decisions"]["chosen"]["threshold"] == result.threshold
    assert report["threshold_source"] == read_report(own)["threshold_source"]
    assert (report["best_epoch"], report["facts"]["model file"]) == (result.epoch, "none yet")
    note = (
        f"Epoch {result.epoch} is the best so far of a run that has not ended: {result.epochs} epochs of at "
        f"most {run.config.epochs} were done."
    )
    assert note in evaluation.text
    assert snapshot(run.folder, "report") == before
    run.save_result(result)
    run.model.write_bytes(model)
    assert (
        finished_evaluation(run, "test-so-far", run.result()) is None
    )  # never taken for the report of an end


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        ({}, True),
        ({"data plan": None}, True),  # of a version before
        ({"data plan": None, "evaluated": "test of external: /elsewhere"}, False),
        ({"data plan": "b" * 64}, False),
        ({"model file": "SHA-256 other"}, False),
    ],
)
def test_a_report_is_kept_if_it_is_of_this_model_on_the_runs_own_data(run, facts, kept):
    path = run.report("test") / "report.json"
    report = json.loads(path.read_text())
    report["facts"] = {name: value for name, value in {**report["facts"], **facts}.items() if value}
    path.write_text(json.dumps(report))
    assert (finished_evaluation(run, "test", run.result()) is not None) == kept


def test_a_run_that_goes_on_is_evaluated_so_far_if_asked(run, tmp_path, without_pictures):
    model, result = keras.models.load_model(run.model), run.result()
    for weight in model.weights:  # the model of an earlier end
        weight.assign(weight * 0)
    model.save(run.model)
    run.save_result(replace(result, model_sha256=file_sha256(run.model)))
    evaluate_run(run, split="test", out=tmp_path / "out", so_far=True)
    own = (run.report("test") / "predictions.csv").read_bytes()
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == own


def test_the_numbers_of_a_run_are_those_of_scikit_learn_and_scipy(run, monkeypatch):
    """Metrics, intervals and the threshold of two classes, from the tables of predictions alone."""
    monkeypatch.setattr(report, "RESAMPLES", 40)
    evaluate_run(run, split="val")
    _, _, labels, table, _ = read(run.report("val"))
    threshold = youden(labels == 1, table[:, 1])
    for split in ("val", "test"):
        decisions = read_report(run.report(split))["decisions"]
        assert decisions["chosen"]["threshold"] == pytest.approx(threshold, abs=1e-12)
        resamples = 40 if split == "val" else 1
        for key, expected in recomputed(run.report(split), resamples=resamples).items():
            found = {k: (e["value"], e["low"], e["high"]) for k, e in decisions[key]["estimates"].items()}
            assert found.keys() == expected.keys()
            for name, numbers in expected.items():
                told = 3 if split == "val" else 1  # the report on test was made with other resamples
                assert found[name][:told] == pytest.approx(numbers[:told], abs=1e-6), (split, key, name)


@pytest.fixture
def of_before(rewrite, run, data):
    """A run of a version that took the second class, whose data are now called COVID and NORMAL."""
    rewrite(data, class_names=("COVID", "NORMAL"))
    config = json.loads((run.folder / "config.json").read_text())
    config["data"]["class_names"] = ["COVID", "NORMAL"]
    config["config"]["data"] = str(data)
    (run.folder / "config.json").write_text(json.dumps(config))
    result = json.loads((run.folder / "result.json").read_text())
    del result["positive"], result["chosen_on_groups"]
    (run.folder / "result.json").write_text(json.dumps(result))
    return Run.load(run.folder)


def threshold_for_covid(run):
    """That of scikit-learn on the validation split of such a run."""
    data = Path(run.config.data)
    val = predict_split(Predictor(run.model), data, Manifest.load(data), "val")
    return youden(val.labels == 0, val.probabilities[:, 0])


def test_a_run_of_before_means_what_it_meant_and_says_so(of_before):
    threshold = of_before.result().threshold
    text = evaluate_run(of_before, split="test").text
    written = read_report(of_before.report("test"))
    assert written["positive"] == "NORMAL"
    assert written["decisions"]["chosen"]["threshold"] == threshold
    assert "sensitivity (NORMAL)" in text
    assert "--positive=COVID evaluates for COVID" in written["warnings"][0]
    assert written["threshold_warnings"] == []  # on how many groups it was chosen is not known


@pytest.mark.stops
def test_another_positive_class_gets_a_threshold_and_a_report_of_its_own(of_before, run_command):
    own = (of_before.report("test") / "report.json").read_bytes()
    result = (of_before.folder / "result.json").read_bytes()
    done = run_command("trainer.evaluate", f"--run_dir={of_before.folder}", "--positive=COVID")
    assert done.returncode == 0, done.stderr
    assert "\nsensitivity (COVID)  " in done.stdout
    folder = of_before.folder / "report" / "test-positive-COVID"
    assert done.stdout.splitlines()[-1] == f"report: {folder}/report.html"
    written = read_report(folder)
    assert written["positive"] == "COVID"
    threshold = threshold_for_covid(of_before)
    chosen = written["decisions"]["chosen"]
    assert chosen["threshold"] == pytest.approx(threshold, abs=1e-12)
    _, _, labels, table, predicted = read(folder)
    expected_classes = np.where(table[:, 0] >= threshold, 0, 1)
    assert predicted == [("COVID", "NORMAL")[k] for k in expected_classes]
    for name, expected in (
        ("sensitivity", recall_score(labels, expected_classes, pos_label=0)),
        ("specificity", recall_score(labels, expected_classes, pos_label=1)),
        ("precision", precision_score(labels, expected_classes, pos_label=0, zero_division=0)),
    ):
        assert chosen["estimates"][name]["value"] == pytest.approx(expected), name
    assert all("evaluates for" not in warning for warning in written["warnings"])
    # What the run has published stays as it was.
    assert (of_before.report("test") / "report.json").read_bytes() == own
    assert (of_before.folder / "result.json").read_bytes() == result
    with pytest.raises(InputError, match=r"--positive=covid: .*COVID, NORMAL"):
        evaluate_run(of_before, split="test", positive="covid")


def test_a_finished_run_takes_another_positive_class_and_stays_paired(of_before, image_folder):
    manifest, said = Manifest.load(Path(of_before.config.data)), []
    before = of_before.result()
    finished_again(of_before, manifest, said.append, evaluate=False)  # nobody has chosen: nothing is changed
    assert of_before.result() == before
    chosen = replace(of_before, config=replace(of_before.config, positive="COVID"))
    evaluation = finished_again(chosen, manifest, said.append)
    result = Run.load(of_before.folder).result()
    assert result.positive == "COVID"
    assert result.threshold == pytest.approx(threshold_for_covid(of_before), abs=1e-12)
    assert replace(result, positive="", threshold=before.threshold, chosen_on_groups=()) == before
    written = read_report(of_before.report("test"))
    assert (written["positive"], evaluation.page.parent) == ("COVID", of_before.report("test"))
    assert written["decisions"]["chosen"]["threshold"] == result.threshold
    assert sum(" is COVID now" in line for line in said) == 1
    # Found finished again, and predicted by the same rule.
    assert finished_evaluation(Run.load(of_before.folder), "test", result).text == evaluation.text
    for answer in predict_files(Run.load(of_before.folder), sorted(image_folder.glob("*/*"))[:8]):
        assert answer.predicted == ("COVID" if answer.probabilities[0] >= result.threshold else "NORMAL")


def test_a_report_of_the_other_class_is_not_taken_for_the_runs(run):
    """As a kill between the new threshold and its report leaves it."""
    assert finished_evaluation(run, "test", run.result()) is not None
    run.save_result(replace(run.result(), positive="NORMAL"))
    assert finished_evaluation(run, "test", run.result()) is None


def test_the_flag_goes_before_the_data_and_the_data_before_the_names(trained):
    manifest, config = Manifest.load(trained.data), Run.load(trained.folder).config
    of_data = replace(manifest, positive="NORMAL")
    assert positive_of(config, manifest) == "PNEUMONIA"
    assert positive_of(config, of_data) == "NORMAL"
    assert positive_of(replace(config, positive="PNEUMONIA"), of_data) == "PNEUMONIA"
    assert positive_of(replace(config, positive="NORMAL"), manifest) == "NORMAL"


def test_a_new_run_keeps_its_positive_class(trained):
    run = Run.load(trained.folder)
    fields = ("label", "weight", "group")
    one = PipelineOptions(global_batch_size=1, cache="stream")
    manifest = Manifest.load(trained.data)
    records = make_dataset(trained.data, manifest, "val", one, training=False, fields=fields)
    pairs = {(int(r["label"][0]), r["group"][0]) for r in records.as_numpy_iterator()}
    groups = tuple(sum(label == k for label, _ in pairs) for k in (0, 1))
    assert (run.result().positive, run.result().chosen_on_groups) == ("PNEUMONIA", groups)
    assert run.facts["positive"].startswith("PNEUMONIA (NORMAL is the negative class by its name")
    # A configuration has the field only where it was chosen: files of before stay as they are.
    assert "positive" not in json.loads((trained.folder / "config.json").read_text())["config"]


def test_a_run_without_an_epoch_is_refused(run):
    run.model.unlink()
    shutil.rmtree(run.checkpoints)
    with pytest.raises(InputError, match="not there yet; the run has not ended, and no epoch of it is done"):
        evaluate_run(run, split="test")


def test_evaluating_again_gives_the_same_figures(run, without_pictures):
    before = json.loads((run.report("test") / "report.json").read_text())
    predictions = (run.report("test") / "predictions.csv").read_bytes()
    evaluate_run(run, split="test")
    assert (run.report("test") / "predictions.csv").read_bytes() == predictions
    assert read_report(run.report("test"))["decisions"] == before["decisions"]
