import json
import time
from dataclasses import asdict, replace

import pytest

from tfrecords.errors import InputError
from trainer.lock import LOCK_NAME, Holder, RunLock
from trainer.run import Run
from trainer.runs.reading import DIVERGED, DONE, STOPPED, TRAINING, read_run


def read(folder, **options):
    return read_run(folder, folder.name, **options)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({}, (DONE, 2, 3, 0.4)),
        ({"epochs": 20}, (STOPPED, 2, 3, 0.4)),  # ended by an earlier limit of epochs, may go on
        ({"done": False, "epochs": 20}, (STOPPED, 2, 3, 0.4)),
        ({"done": False, "losses": ()}, (STOPPED, None, 0, None)),
        ({"done": False, "losses": (float("nan"),)}, (STOPPED, None, 1, None)),
        ({"diverged": 77}, (DIVERGED, 2, 3, 0.4)),
        ({"model": "pca_svm", "losses": ()}, (DONE, None, 0, 0.3)),
    ],
)
def test_states_and_best_epochs(make_run, made, expected):
    row = read(make_run("a", **made))
    assert (row.state, row.best_epoch, row.epochs, row.val_loss) == expected
    assert (row.data, row.model, row.problems) == ("chest", made.get("model", "cnn"), ())


def test_a_run_of_before_result_json(make_run):
    folder = make_run("a")
    (folder / "result.json").unlink()
    row = read(folder)
    assert (row.state, row.best_epoch, row.val_loss) == (DONE, 2, 0.4)


def test_a_process_that_trains_is_named(make_run):
    folder = make_run("a", done=False, epochs=20)
    with RunLock(folder):
        row = read(folder)
        assert row.state == TRAINING
        assert f"process {Holder.here().pid} on " in row.holder
    assert read(folder).state == STOPPED


def test_a_process_that_was_killed_trains_no_more(make_run, run_python):
    folder = make_run("a", done=False)
    script = (
        "import os, pathlib; from trainer.lock import RunLock\n"
        f"with RunLock(pathlib.Path({str(folder)!r})): os.kill(os.getpid(), 9)"
    )
    run_python("-c", script)
    assert (folder / LOCK_NAME).exists()
    assert read(folder).state == STOPPED


@pytest.mark.parametrize(("age", "state"), [(0, TRAINING), (3600, STOPPED)])
def test_a_process_on_another_machine_is_believed_as_long_as_it_renews_its_lock(make_run, age, state):
    folder = make_run("a", done=False)
    elsewhere = replace(Holder.here(), host="gpu7", boot="another")
    (folder / LOCK_NAME).write_text(json.dumps(asdict(elsewhere)))
    row = read(folder, now=time.time() + age)
    assert row.state == state
    assert ("gpu7" in row.holder) == (state == TRAINING)
    assert any("gpu7" in note for note in row.notes) == (state == STOPPED)


def test_a_run_that_goes_on_shows_its_newest_best_epoch_and_says_whose_figures_it_has(
    make_run, predictions_of
):
    folder = make_run("a")
    make_run.report(folder, predictions_of(2))
    rows = [{"epoch": number, "val_loss": loss} for number, loss in enumerate((0.7, 0.4, 0.5, 0.3), 1)]
    (folder / "history.json").write_text(json.dumps(rows))
    row = read(folder)
    assert (row.state, row.best_epoch, row.epochs, row.val_loss) == (STOPPED, 4, 4, 0.3)
    assert "3 epochs" in row.notes[0]


def test_figures_and_threshold_are_those_of_the_report(make_run, predictions_of):
    folder = make_run("a")
    content = json.loads((make_run.report(folder, predictions_of(2)) / "report.json").read_text())
    row = read(folder)
    chosen = content["decisions"]["chosen"]
    assert row.threshold == chosen["threshold"] == 0.4
    assert row.estimates["auroc"] == chosen["estimates"]["auroc"]
    assert (row.reported.records, row.reported.groups) == (400, 200)
    assert read(folder, split="val").estimates == {}


def test_a_report_of_an_earlier_model_is_not_shown(make_run, predictions_of):
    folder = make_run("a")
    make_run.report(folder, predictions_of(2))
    run = Run.load(folder)
    run.save_result(replace(run.stored_result(), model_sha256="another"))
    row = read(folder)
    assert row.estimates == {}
    assert f"trainer.evaluate --run_dir={folder}" in row.notes[0]


@pytest.mark.parametrize("name", ["result.json", "history.json", "report/test/report.json"])
def test_a_damaged_file_is_named_and_the_rest_is_shown(make_run, predictions_of, name):
    folder = make_run("a")
    make_run.report(folder, predictions_of(2))
    (folder / name).write_text('{"decisions": 1')
    row = read(folder)
    assert row.data == "chest"
    assert [name in problem for problem in row.problems] == [True]


@pytest.mark.parametrize("change", [{"value": "high"}, {"low": [1]}, None])
def test_a_report_with_other_values_than_numbers_is_damaged(make_run, predictions_of, change):
    folder = make_run("a")
    path = make_run.report(folder, predictions_of(2)) / "report.json"
    content = json.loads(path.read_text())
    estimates = content["decisions"]["chosen"]["estimates"]
    estimates["auroc"] = {**estimates["auroc"], **change} if change else None
    path.write_text(json.dumps(content))
    assert "report.json" in read(folder).problems[0]


def test_a_damaged_configuration_is_refused(make_run):
    folder = make_run("a")
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json"):
        read(folder)


def test_a_run_that_has_only_just_begun_is_told_from_a_folder_without_a_run(make_run):
    folder = make_run.root / "new"
    with RunLock(folder), pytest.raises(InputError, match="just starting"):
        read(folder)
