import csv
import json
import os
import re
import shutil
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError
from tfrecords.files import file_sha256
from tfrecords.manifest import Manifest
from trainer.evaluation import figures
from trainer.evaluation.evaluate_run import (
    _STREAM,
    _images,
    evaluate_run,
    finished_evaluation,
    predict_split,
    validation_threshold,
)
from trainer.evaluation.report import read_report
from trainer.inference import Predictor
from trainer.run import Run

pytestmark = pytest.mark.slow


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run, elsewhere."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return Run.load(tmp_path / "run")


@pytest.fixture
def data(converted, tmp_path):
    shutil.copytree(converted, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def without_pictures(monkeypatch):
    """One picture for all, for drawing takes most of the time; `test_report` looks at them."""
    picture = BytesIO()
    Image.new("RGB", (1, 1)).save(picture, "PNG")
    monkeypatch.setattr(figures, "png", lambda _: picture.getvalue())


def rewrite(folder, **changes):
    replace(Manifest.load(folder), **changes).save(folder)


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


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_record_is_predicted_once_beside_its_own_id_group_and_label(trained, split):
    manifest = Manifest.load(trained.data)
    predictor = Predictor(trained.folder / "model.keras")
    found = predict_split(predictor, trained.data, manifest, split)
    one = PipelineOptions(global_batch_size=1, cache="off")
    fields = ("image", "label", "weight", "id", "group", "copy")
    records = list(
        make_dataset(trained.data, manifest, split, one, training=False, fields=fields).as_numpy_iterator()
    )
    assert len(records) == manifest.split(split).records
    assert list(found.ids) == [record["id"][0].decode() for record in records]
    assert list(found.groups) == [record["group"][0].decode() for record in records]
    assert found.labels.tolist() == [int(record["label"][0]) for record in records]
    assert found.class_names == ("NORMAL", "PNEUMONIA")
    alone = np.concatenate([predictor.probabilities(record["image"]) for record in records])
    assert np.array_equal(found.probabilities, alone)
    assert {int(record["copy"][0]) for record in records} == ({0, 1} if split == "train" else {0})


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


def test_other_data_are_evaluated_with_the_threshold_of_the_runs_own_and_have_a_report_of_their_own(
    run, data, without_pictures
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


def test_other_data_in_the_place_of_the_runs_own_are_not_taken_for_them(run, data):
    there = replace(run, config=replace(run.config, data=str(data)))
    rewrite(data, plan="b" * 64)
    for call in (lambda: evaluate_run(there, split="test"), lambda: validation_threshold(None, there)):
        with pytest.raises(InputError, match=rf"--data={data}: .* another conversion; .*--data=FOLDER"):
            call()


def test_of_train_the_originals_are_evaluated(run, converted, without_pictures):
    described = Manifest.load(converted).split("train")
    assert described.records == 2 * described.images
    text = evaluate_run(run, split="train").text
    report = read_report(run.report("train"))
    with (run.report("train") / "predictions.csv").open() as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    assert (len(ids), len(set(ids)), report["records"]) == (described.images,) * 3
    note = "The model was trained on these images: the figures are optimistic. Copies are left out."
    assert report["facts"]["note"] == note
    assert note in text
    assert note in (run.report("train") / "report.html").read_text()


def test_a_mistake_is_shown_with_its_own_image(converted):
    manifest = Manifest.load(converted)
    one = PipelineOptions(global_batch_size=1, cache="off")
    fields = ("image", "copy")
    records = make_dataset(converted, manifest, "train", one, training=False, fields=fields)
    images = [r["image"][0] for r in records.as_numpy_iterator() if r["copy"][0] == 0]
    assert len(images) > 33  # in more than one batch
    positions = np.array([len(images) - 1, 0, 31, 17, 32])
    found = _images(converted, manifest, "train", positions, _STREAM)
    assert [each.tolist() for each in found] == [images[at].tolist() for at in positions]


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
    assert finished_evaluation(run, "test-so-far") is None  # never taken for the report of an end


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
    assert (finished_evaluation(run, "test") is not None) == kept


def test_a_run_that_goes_on_is_evaluated_so_far_if_asked(run, tmp_path, without_pictures):
    model, result = keras.models.load_model(run.model), run.result()
    for weight in model.weights:  # the model of an earlier end
        weight.assign(weight * 0)
    model.save(run.model)
    run.save_result(replace(result, model_sha256=file_sha256(run.model)))
    evaluate_run(run, split="test", out=tmp_path / "out", so_far=True)
    own = (run.report("test") / "predictions.csv").read_bytes()
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == own


def test_a_split_that_is_not_there_is_refused(run):
    before = (run.folder / "report" / "test" / "report.json").read_bytes()
    with pytest.raises(InputError) as error:
        evaluate_run(run, split="nonsense")
    assert str(error.value).startswith(
        "split 'nonsense' is not in data set 'chest_xray'; it has train, val, test: "
    )
    assert [path.name for path in (run.folder / "report").iterdir()] == ["test"]
    assert (run.folder / "report" / "test" / "report.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"class_names": ("CAT", "DOG")}, "has classes CAT, DOG and images of (24, 32, 1)"),
        ({"image_shape": (12, 48, 1)}, "has classes NORMAL, PNEUMONIA and images of (12, 48, 1)"),
    ],
)
def test_data_that_does_not_fit_the_model_is_refused(run, data, changes, shown, facts):
    rewrite(data, **changes)
    with pytest.raises(InputError) as error:
        evaluate_run(run, split="test", data=data)
    assert re.search(
        facts(
            f"--data={data}: {shown}; the model of {run.folder} knows NORMAL, PNEUMONIA and (24, 32, 1): "
            f"convert with the same classes, --size and --channels"
        ),
        str(error.value),
    )


def test_the_same_classes_in_another_order_are_refused_with_both(run, data):
    rewrite(data, class_names=("PNEUMONIA", "NORMAL"))
    with pytest.raises(InputError) as error:
        evaluate_run(run, split="test", data=data)
    assert "has the classes PNEUMONIA, NORMAL, in this order" in str(error.value)
    assert "knows NORMAL, PNEUMONIA, in this order" in str(error.value)
    assert str(error.value).endswith("convert with the order of the model, --classes=NORMAL,PNEUMONIA")


def test_a_run_without_an_epoch_is_refused(run):
    run.model.unlink()
    shutil.rmtree(run.checkpoints)
    with pytest.raises(InputError, match="not there yet; the run has not ended, and no epoch of it is done"):
        evaluate_run(run, split="test")


def test_data_that_has_gone_is_named(run, tmp_path):
    config = replace(run.config, data=str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"gone: no such folder; make the data set with"):
        evaluate_run(replace(run, config=config), split="test")


def test_a_flipped_byte_names_the_shard(run, data):
    shard = data / Manifest.load(data).split("test").shards[0].name
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=shard.name):
        evaluate_run(run, split="test", data=data)


def test_evaluating_again_gives_the_same_figures(run, without_pictures):
    before = json.loads((run.report("test") / "report.json").read_text())
    predictions = (run.report("test") / "predictions.csv").read_bytes()
    evaluate_run(run, split="test")
    assert (run.report("test") / "predictions.csv").read_bytes() == predictions
    assert read_report(run.report("test"))["decisions"] == before["decisions"]
