import json
import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError
from tfrecords.files import file_sha256
from tfrecords.manifest import Manifest
from trainer.evaluation.evaluate_run import evaluate_run, predict_split
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


def rewrite(folder, **changes):
    replace(Manifest.load(folder), **changes).save(folder)


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


def test_a_model_that_has_learned_nothing_is_told(run):
    told = "The model gives all images the same probabilities: it has learned nothing from them."
    assert told not in evaluate_run(run, split="test").text
    model, result = keras.models.load_model(run.model), run.result()
    for weight in model.layers[-1].weights + model.layers[-2].weights:
        weight.assign(weight * 0)
    model.save(run.model)
    run.save_result(replace(result, model_sha256=file_sha256(run.model)))
    assert told in evaluate_run(run, split="test").text


def test_the_threshold_comes_from_validation_only(run):
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


def test_other_data_is_evaluated_with_the_threshold_of_the_runs_own(run, data):
    own = read_report(run.report("test"))
    evaluate_run(run, split="val", data=data)
    other = read_report(run.report("val"))
    assert other["threshold_source"].startswith("chosen on validation (")
    assert other["decisions"]["chosen"]["threshold"] == own["decisions"]["chosen"]["threshold"]
    assert other["facts"]["evaluated"] == f"val of chest_xray: {data}"


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


def test_data_of_another_resize_are_refused(run, data, facts):
    rewrite(data, resize="pad")
    with pytest.raises(InputError) as error:
        evaluate_run(run, split="test", data=data)
    said = f"--data={data}: --resize=pad; the model of {run.folder}: --resize=stretch"
    assert re.search(facts(said), str(error.value))


def test_a_run_that_has_not_ended_is_refused(run):
    run.model.unlink()
    with pytest.raises(InputError, match="not there yet; the run has not ended"):
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


def test_evaluating_again_gives_the_same_figures(run):
    before = json.loads((run.report("test") / "report.json").read_text())
    predictions = (run.report("test") / "predictions.csv").read_bytes()
    evaluate_run(run, split="test")
    assert (run.report("test") / "predictions.csv").read_bytes() == predictions
    assert read_report(run.report("test"))["decisions"] == before["decisions"]
