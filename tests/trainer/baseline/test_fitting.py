import csv
import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from recomputation import recomputed, youden
from run_directories import open_run

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.files.atomic import file_sha256
from tfrecords.manifest import Manifest
from trainer.baseline import fitting
from trainer.baseline.fitting import SEARCH_NAME, fit_baseline
from trainer.baseline.grids import GRIDS
from trainer.baseline.options import BaselineOptions
from trainer.config import BASELINES, TrainConfig
from trainer.evaluation import report
from trainer.evaluation.data import predict_split
from trainer.evaluation.evaluate_run import evaluate_run
from trainer.evaluation.predictions import choose_threshold
from trainer.evaluation.report import read_report
from trainer.inference import load_predictor
from trainer.predict.files import predict_files
from trainer.run import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fitted(converted, tmp_path_factory):
    """The folder of each model's run, fitted once."""
    made = {}

    def of(model):
        if model not in made:
            folder = tmp_path_factory.mktemp(model) / "run"
            said = []
            fit_baseline(BaselineOptions(str(converted), str(folder), model, jobs=1), said.append)
            made[model] = folder, said
        return made[model]

    return of


def predictions(folder):
    return (folder / "report" / "test" / "predictions.csv").read_bytes()


@pytest.mark.parametrize("model", BASELINES)
def test_a_model_from_data_to_report(model, fitted, converted):
    folder, said = fitted(model)
    manifest = Manifest.load(converted)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", SEARCH_NAME, "model.skops", "result.json", "report", "tensorboard"}
    report = read_report(folder / "report" / "test")
    assert report["records"] == manifest.split("test").records
    assert report["best_epoch"] is None
    assert (folder / "report" / "test" / "report.html").stat().st_size > 50_000
    assert report["decisions"]["chosen"]["estimates"]["auroc"]["value"] > 0.8
    run = Run.load(folder)
    result = run.result()
    assert result.model_sha256 == file_sha256(folder / "model.skops")
    assert report["facts"]["model file"] == f"SHA-256 {result.model_sha256}"
    assert report["facts"]["model"].startswith(model)
    # As for a network: chosen on validation.
    answers = predict_split(load_predictor(run.model), converted, manifest, "val")
    assert result.threshold == choose_threshold(answers) == report["decisions"]["chosen"]["threshold"]
    assert result.chosen_on == len(answers.ids) == manifest.split("val").records
    stored = json.loads((folder / "config.json").read_text())
    assert stored["config"].keys().isdisjoint({"epochs", "learning_rate"})
    assert (stored["config"]["model"], stored["baseline"]) == (model, {"pixels": 64, "folds": 5})
    assert sum(": AUROC" in line for line in said) == len(GRIDS[model]) + 1


@pytest.mark.parametrize("model", BASELINES)
def test_the_same_bytes_for_any_number_of_jobs(model, fitted, converted, tmp_path):
    folder, _ = fitted(model)
    fit_baseline(BaselineOptions(str(converted), str(tmp_path / "run"), model, jobs=2), lambda _: None)
    assert predictions(tmp_path / "run") == predictions(folder)
    found = [json.loads((each / SEARCH_NAME).read_text()) for each in (folder, tmp_path / "run")]
    assert found[0] == found[1]
    thresholds = {Run.load(each).result().threshold for each in (folder, tmp_path / "run")}
    assert len(thresholds) == 1


def test_a_finished_run_is_not_fitted_again(fitted, converted):
    folder, _ = fitted("logistic")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    said = []
    evaluation = fit_baseline(BaselineOptions(str(converted), str(folder), "logistic"), said.append)
    assert len(said) == 1
    assert said[0].startswith("finished")
    assert evaluation.page == folder / "report" / "test" / "report.html"
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "pca_svm"}, "--model=logistic there, --model=pca_svm now"),
        ({"seed": 1}, "--seed=0 there, --seed=1 now"),
        ({"pixels": 32}, "--pixels=64 there, --pixels=32 now"),
        ({"folds": 3}, "--folds=5 there, --folds=3 now"),
    ],
)
def test_another_run_is_refused(values, message, fitted, converted):
    folder, _ = fitted("logistic")
    with pytest.raises(InputError, match=message):
        fit_baseline(BaselineOptions(str(converted), str(folder), **{"model": "logistic"} | values))


def test_networks_and_baselines_have_different_folders(fitted, converted, tmp_path):
    folder, _ = fitted("logistic")
    manifest = Manifest.load(converted)
    with pytest.raises(InputError, match="--model=logistic there, --model=cnn now"):
        Run.stored(TrainConfig(str(converted), str(folder), model="cnn"), manifest)
    network = TrainConfig(str(converted), str(tmp_path), model="cnn")
    open_run(network, manifest, {}, write=True)
    with pytest.raises(InputError, match="--model=cnn there, --model=logistic now"):
        fit_baseline(BaselineOptions(str(converted), str(tmp_path), "logistic"))


def test_a_file_that_was_changed_is_refused(fitted, converted, tmp_path):
    folder = shutil.copytree(fitted("logistic")[0], tmp_path / "run")
    model = folder / "model.skops"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.skops: is not the model"):
        evaluate_run(Run.load(folder), split="test")
    # The command that made it makes it again, with the scores of its search.
    said = []
    fit_baseline(BaselineOptions(str(converted), str(folder), "logistic"), said.append)
    assert sum("from before" in line for line in said) == len(GRIDS["logistic"])
    assert predictions(folder) == predictions(fitted("logistic")[0])


def test_evaluation_and_prediction_take_it(fitted, converted, image_folder):
    folder, _ = fitted("random_forest")
    run = Run.load(folder)
    evaluation = evaluate_run(run, split="val")
    assert evaluation.page == folder / "report" / "val" / "report.html"
    shutil.rmtree(folder / "report" / "val")
    with (folder / "report" / "test" / "predictions.csv").open() as file:
        evaluated = {row["id"]: row for row in csv.DictReader(file)}
    answers = list(predict_files(run, [image_folder]))
    assert len(answers) == 60
    for answer in answers:
        row = evaluated.get(answer.file.relative_to(image_folder).as_posix())
        if row:
            expected = [float(row[f"probability_{name}"]) for name in ("NORMAL", "PNEUMONIA")]
            assert answer.probabilities == pytest.approx(expected, abs=1e-6)
            assert answer.predicted == row["predicted"]


def test_more_than_two_classes_have_no_threshold_and_the_numbers_of_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESAMPLES", 40)
    random = np.random.default_rng(0)
    for label, name in enumerate("abc"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.normal(60 + 60 * label, 25, (16, 16)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{name}{number}.png")
    data, folder = tmp_path / "data", tmp_path / "run"
    convert_images(ConvertOptions(tmp_path / "images", data, size=(16, 16), val_fraction=0.2, workers=1))
    fit_baseline(BaselineOptions(str(data), str(folder), "pca_svm", jobs=1), lambda _: None)
    result, told = Run.load(folder).result(), read_report(folder / "report" / "test")
    assert (result.threshold, result.chosen_on, result.positive, told["positive"]) == (None, 0, "", None)
    assert told["decisions"].keys() == {"default"}
    estimates = told["decisions"]["default"]["estimates"]
    assert estimates["auroc"]["value"] > 0.8
    for name, numbers in recomputed(folder / "report" / "test", resamples=40)["default"].items():
        found = estimates[name]
        assert (found["value"], found["low"], found["high"]) == pytest.approx(numbers, abs=1e-6), name


def test_the_threshold_is_for_the_class_that_positive_names(fitted, converted, tmp_path):
    folder = shutil.copytree(fitted("logistic")[0], tmp_path / "run")
    options = BaselineOptions(str(converted), str(folder), "logistic", jobs=1)
    before, said = Run.load(folder).result(), []
    with pytest.raises(InputError, match=r"--positive=OTHER: .*NORMAL, PNEUMONIA"):
        fit_baseline(replace(options, positive="OTHER"))
    fit_baseline(replace(options, positive="NORMAL"), said.append)
    result, run = Run.load(folder).result(), Run.load(folder)
    answers = predict_split(load_predictor(run.model), converted, Manifest.load(converted), "val")
    assert before.positive == "PNEUMONIA"
    assert result.positive == read_report(folder / "report" / "test")["positive"] == "NORMAL"
    assert result.threshold == pytest.approx(youden(answers.labels == 0, answers.probabilities[:, 0]))
    assert result.model_sha256 == before.model_sha256
    assert not any("reading" in line for line in said)  # nothing was fitted


def test_memory_that_is_not_there(converted, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "free_memory", lambda: 1 << 20)
    with pytest.raises(InputError, match="lower --pixels=64"):
        fit_baseline(BaselineOptions(str(converted), str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_a_search_that_another_version_kept_is_not_used(fitted, converted, tmp_path):
    folder = shutil.copytree(fitted("logistic")[0], tmp_path / "run")
    (folder / "model.skops").unlink()
    kept = json.loads((folder / SEARCH_NAME).read_text())
    kept["of"]["scikit-learn"] = "0.1"
    (folder / SEARCH_NAME).write_text(json.dumps(kept))
    said = []
    fit_baseline(BaselineOptions(str(converted), str(folder), "logistic"), said.append)
    assert not [line for line in said if "from before" in line]


@pytest.mark.stops
def test_the_command(converted, tmp_path, run_command):
    flags = (f"--data={converted}", "--model=logistic", "--pixels=16")
    done = run_command("trainer.baseline", *flags, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    name = Manifest.load(converted).name
    run_dir = f"runs/{name}-logistic"
    for part in (
        "auroc",
        f"model:  {run_dir}/model.skops",
        f"report: {run_dir}/report/test/report.html",
        f"python -m trainer.predict --run_dir={run_dir}",
    ):
        assert part in done.stdout
    assert (tmp_path / run_dir / "report" / "test" / "report.html").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=logistic", "--pixels=0"], "--pixels=0: must be from 1 to 256"),
        (["--data=nothing_there"], "nothing_there"),
    ],
)
def test_bad_input_has_code_2(flags, message, converted, tmp_path, run_command):
    done = run_command("trainer.baseline", f"--data={converted}", *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.storm
@pytest.mark.stops
def test_sigterm_is_heard_in_the_search_which_goes_on_later(fitted, converted, tmp_path, start, wait_until):
    arguments = (f"--data={converted}", "--model=random_forest", "--jobs=1", f"--run_dir={tmp_path / 'run'}")
    process = start("-m", "trainer.baseline", *arguments)
    wait_until((tmp_path / "run" / SEARCH_NAME).exists, "the first score")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    kept = json.loads((tmp_path / "run" / SEARCH_NAME).read_text())["scores"]
    assert 1 <= len(kept) < len(GRIDS["random_forest"])
    said = []
    fit_baseline(BaselineOptions(str(converted), str(tmp_path / "run"), "random_forest"), said.append)
    assert sum("from before" in line for line in said) == len(kept)
    assert predictions(tmp_path / "run") == predictions(fitted("random_forest")[0])
    assert np.isfinite(Run.load(tmp_path / "run").result().val_loss)
