"""What a run publishes: its views, temperature and threshold, in a file that plain Keras opens."""

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig
from trainer.evaluation import report
from trainer.evaluation.data import DataSet, predict_split
from trainer.evaluation.evaluate_run import evaluate_run
from trainer.evaluation.report import read_report
from trainer.finish import finished_again, publish
from trainer.inference import Predictor, load_predictor
from trainer.run import Run
from trainer.served.averaging import averaged_runs, views
from trainer.served.rules import ThresholdRule
from trainer.served.temperature import fit_temperature, logits_of
from trainer.served.validation import check_served
from trainer.training import train

pytestmark = pytest.mark.slow

_TRAINED = {"epoch": 3, "val_loss": 0.5, "epochs": 3, "waited": 0}
_VIEWS = {"tta_flip": True, "tta_shift": 2}


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    return Run.load(tmp_path / "run")


@pytest.fixture
def without_files(monkeypatch):
    """Reports without pictures, which take most of the time."""
    monkeypatch.setattr(report, "_pictures", lambda *_: {})


def with_flags(run, **values):
    return replace(run, config=run.config.changed(**values))


def published(run, **values):
    """Publishes the network of a run again, with other flags, as the end of its training does."""
    run = with_flags(run, **values)
    network = keras.models.load_model(run.model, compile=False)
    served = views(network, flip=run.config.tta_flip, shift=run.config.tta_shift)
    publish(run, Manifest.load(run.config.data), served, _TRAINED)
    return run


def validation(run, predictor=None):
    data = DataSet.of(run)
    return predict_split(predictor or load_predictor(run.model), data.folder, data.manifest, "val")


@pytest.mark.stops
def test_a_published_model_opens_without_this_project(run, run_python, tmp_path):
    run = published(run, **_VIEWS, temperature="validation")
    pixels = np.random.default_rng(0).integers(0, 256, (32, *run.data.image_shape), np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    script = tmp_path / "plain.py"
    script.write_text(
        "import json, sys, keras, numpy\n"
        "model = keras.models.load_model(sys.argv[1], safe_mode=True)\n"
        "answers = numpy.asarray(model(numpy.load(sys.argv[2])))\n"
        "ours = {'tfrecords', 'data_pipeline', 'trainer'} & set(sys.modules)\n"
        "print(json.dumps([list(ours), answers.tolist()]))\n"
    )
    done = run_python("-I", script, run.model, tmp_path / "pixels.npy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, answers = json.loads(done.stdout.splitlines()[-1])
    assert ours == []
    model = keras.models.load_model(run.model)
    assert np.asarray(answers) == pytest.approx(np.asarray(model(pixels)), rel=1e-5)


def test_temperature_and_threshold_are_validations(run, without_files):
    plain = validation(run, Predictor.of(views(keras.models.load_model(run.model), flip=True, shift=2)))
    chosen = fit_temperature(logits_of(plain), plain.labels)
    run = published(run, **_VIEWS, temperature="validation", threshold_rule="sensitivity:0.9")
    result, found = run.result(), validation(run)
    assert result.temperature == pytest.approx(chosen, rel=1e-6)
    assert result.temperature != 1
    divided = logits_of(plain) / chosen
    expected = np.exp(divided) / np.exp(divided).sum(axis=1, keepdims=True)
    assert found.probabilities == pytest.approx(expected, abs=1e-6)
    # Of the file's own probabilities, to the bit.
    rule = ThresholdRule.parse("sensitivity:0.9")
    assert result.threshold == rule.chosen(found.of(result.positive)).threshold
    assert (result.threshold_rule, result.chosen_on) == ("sensitivity:0.9", len(found.ids))

    text = evaluate_run(run, split="test").text
    content = read_report(run.report("test"))
    told = content["temperature"]
    assert told["value"] == result.temperature
    assert told["loss"] == pytest.approx(content["decisions"]["default"]["estimates"]["loss"]["value"])
    assert told["calibration_error"] == content["calibration_error"]
    for words in (
        f"temperature {result.temperature:.3g}",
        f"({told['calibration_error_without']:.3f} without",
    ):
        assert words in text
    assert "sensitivity >= 0.9" in content["threshold_source"]
    assert "never on test" in content["threshold_source"]


def test_a_temperature_of_out_of_fold_predictions_is_taken_as_it_is(run, without_files):
    plain = validation(run)
    run = published(run, temperature="2.5")
    assert run.result().temperature == 2.5
    assert logits_of(validation(run)) - logits_of(validation(run))[:, :1] == pytest.approx(
        (logits_of(plain) - logits_of(plain)[:, :1]) / 2.5, abs=1e-4
    )
    assert "temperature 2.5 given as a number" in evaluate_run(run, split="val").text


def test_at_the_defaults_the_file_holds_the_network_itself(run):
    before, model = run.result(), keras.models.load_model(run.model)
    run = published(run)
    again = keras.models.load_model(run.model)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert again.get_weights()[0].tobytes() == model.get_weights()[0].tobytes()
    after = run.result()
    assert (after.threshold, after.temperature, after.threshold_rule) == (before.threshold, 1.0, "youden")


@pytest.mark.storm
@pytest.mark.stops
def test_a_run_that_trains_is_evaluated_as_it_will_be_published(run, without_files):
    flags = {**_VIEWS, "temperature": "validation", "threshold_rule": "cost:5:1"}
    run = published(with_flags(run, **flags))
    evaluate_run(run, split="test")
    evaluate_run(run, split="test", so_far=True)
    ended, so_far = (read_report(run.report(name)) for name in ("test", "test-so-far"))
    assert so_far["decisions"] == ended["decisions"]
    assert so_far["temperature"] == ended["temperature"]
    assert so_far["threshold_source"] == ended["threshold_source"]


@pytest.mark.storm
@pytest.mark.stops
def test_a_rule_that_is_given_later_chooses_anew(run, without_files):
    manifest, lines = Manifest.load(run.config.data), []
    finished_again(run, manifest, lines.append)
    before, model = run.result(), run.model.read_bytes()
    asked = with_flags(run, threshold_rule="fixed:0.3")
    finished_again(asked, manifest, lines.append)
    result = run.result()
    assert (result.threshold, result.threshold_rule, result.chosen_on) == (0.3, "fixed:0.3", 0)
    assert any("fixed:0.3" in line for line in lines)
    content = read_report(run.report("test"))
    assert content["decisions"]["chosen"]["threshold"] == 0.3
    assert "before training" not in content["threshold_source"]
    assert "after the training" in content["threshold_source"]
    # Without the flag the run keeps its rule; with youden, what was is there again.
    finished_again(run, manifest, lines.append)
    assert run.result() == result
    finished_again(with_flags(run, threshold_rule="youden"), manifest, lines.append)
    assert run.result() == replace(before, rule_came_later=True)
    assert run.model.read_bytes() == model


def test_a_fixed_threshold_says_that_no_data_chose_it(run, without_files):
    run = published(run, threshold_rule="fixed:0.5")
    evaluate_run(run, split="test")
    source = read_report(run.report("test"))["threshold_source"]
    assert source == "fixed before training by --threshold_rule=fixed:0.5"


def test_the_report_warns_of_a_goal_out_of_reach(run, without_files):
    run.save_result(replace(run.result(), threshold_note="specificity is at most 0.5 there"))
    assert "warning: specificity is at most 0.5 there" in evaluate_run(run, split="test").text


def test_runs_are_averaged(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    model = keras.models.load_model(run.model)
    for weight in model.trainable_weights:
        weight.assign(weight * 0.9)
    other = Run.load(other)
    publish(other, Manifest.load(other.config.data), model, _TRAINED)
    found = [validation(each).probabilities for each in (run, other)]
    assert np.abs(found[0] - found[1]).max() > 0.01
    together = averaged_runs([run, other])
    both = validation(run, Predictor.of(together))
    assert both.probabilities == pytest.approx((found[0] + found[1]) / 2, abs=1e-6)
    into = Run.load(other.folder)
    publish(into, Manifest.load(into.config.data), together, _TRAINED)
    assert validation(into).probabilities == pytest.approx(both.probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("flags", "classes", "fix"),
    [
        ({"threshold_rule": "fixed:0.5"}, ("A", "B", "C"), "leave it out"),
        ({"tta_shift": 24}, ("A", "B"), "less than 24"),
    ],
)
def test_what_the_data_do_not_allow_is_refused(flags, classes, fix, converted, tmp_path):
    config = TrainConfig.of(data=str(converted), run_dir=str(tmp_path / "run"), **flags)
    manifest = replace(Manifest.load(converted), class_names=classes)
    with pytest.raises(InputError, match=fix) as caught:
        check_served(config, manifest)
    name, value = next(iter(flags.items()))
    assert f"--{name}={value}" in str(caught.value)
    if name == "tta_shift":
        with pytest.raises(InputError, match=fix):
            train(config, lambda _: None)
        assert not (tmp_path / "run").exists()
