import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from recomputation import read, recomputed, youden
from sklearn.metrics import precision_score, recall_score

from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError
from tfrecords.files import file_sha256
from tfrecords.manifest import Manifest
from tfrecords.sources.class_folders import image_files
from trainer.evaluation import report
from trainer.evaluation.evaluate_run import evaluate_run, finished_evaluation, predict_split
from trainer.evaluation.report import read_report
from trainer.finish import finished_again, positive_of
from trainer.inference import Predictor
from trainer.predict.files import predict_files
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
def of_before(run, data):
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
    called = np.where(table[:, 0] >= threshold, 0, 1)
    assert predicted == [("COVID", "NORMAL")[k] for k in called]
    for name, expected in (
        ("sensitivity", recall_score(labels, called, pos_label=0)),
        ("specificity", recall_score(labels, called, pos_label=1)),
        ("precision", precision_score(labels, called, pos_label=0, zero_division=0)),
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
    assert finished_evaluation(Run.load(of_before.folder), "test").text == evaluation.text
    for answer in predict_files(Run.load(of_before.folder), image_files([image_folder])[:8]):
        assert answer.predicted == ("COVID" if answer.probabilities[0] >= result.threshold else "NORMAL")


def test_a_report_of_the_other_class_is_not_taken_for_the_runs(run):
    """As a kill between the new threshold and its report leaves it."""
    assert finished_evaluation(run, "test") is not None
    run.save_result(replace(run.result(), positive="NORMAL"))
    assert finished_evaluation(run, "test") is None


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
    one = PipelineOptions(global_batch_size=1, cache="off")
    manifest = Manifest.load(trained.data)
    records = make_dataset(trained.data, manifest, "val", one, training=False, fields=fields)
    pairs = {(int(r["label"][0]), r["group"][0]) for r in records.as_numpy_iterator()}
    groups = tuple(sum(label == k for label, _ in pairs) for k in (0, 1))
    assert (run.result().positive, run.result().chosen_on_groups) == ("PNEUMONIA", groups)
    assert run.facts["positive"].startswith("PNEUMONIA (NORMAL is the negative class by its name")
    # A configuration has the field only where it was chosen: files of before stay as they are.
    assert "positive" not in json.loads((trained.folder / "config.json").read_text())["config"]


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
