import csv
import io
import json
import re

import pytest

from tfrecords.errors import InputError
from trainer.evaluation.metric_table import BY_NAME
from trainer.runs.comparing import CompareOptions, compare_runs, compared, read_predictions


def options(root, *pair, **more):
    return CompareOptions(root, pair, **more)


@pytest.mark.slow
def test_two_runs_are_compared_by_name_by_path_and_by_report(reported_runs):
    ways = [
        ("strong", "weak"),
        (str(reported_runs / "strong"), "weak"),
        (str(reported_runs / "strong" / "report" / "test"), "weak"),
    ]
    found = [compared(options(reported_runs, *pair)).differences for pair in ways]
    assert found[0] == found[1] == found[2]
    assert {each.metric: each.verdict for each in found[0]}["auroc"] == "better"


def test_a_run_and_itself(reported_runs, capsys):
    compare_runs(options(reported_runs, "weak", "weak"))
    printed = capsys.readouterr().out
    assert re.search(r"accuracy .* \+0\.000 \[\+0\.000, \+0\.000\] ", printed)
    assert "better" not in printed
    assert "there is no difference" in printed


def test_what_is_printed_and_written(reported_runs, capfd, tmp_path):
    page = tmp_path / "difference.html"
    compare_runs(options(reported_runs, "strong", "weak", csv="-", html=str(page)))
    out, err = capfd.readouterr()
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(out))}
    found = {each.metric: each for each in compared(options(reported_runs, "strong", "weak")).differences}
    assert float(rows["auroc"]["difference_low"]) == found["auroc"].low
    assert rows["auroc"]["verdict"] == "better"
    assert f"{found['auroc'].value:+.3f} [{found['auroc'].low:+.3f}, {found['auroc'].high:+.3f}]" in err
    assert "400 records of 200 groups" in err
    text = page.read_text()
    assert "strong" in text
    assert "<script" not in text
    # A metric without bounds, as the loss, has a bar for the difference alone.
    assert text.count('class="bar"') == sum(3 if BY_NAME[name].bounds else 1 for name in found)


def test_records_in_another_order_are_matched_by_id(make_run, predictions_of, reported_runs):
    folder = make_run("turned")
    path = make_run.report(folder, predictions_of(3, seed=1)) / "predictions.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(rows)]) + "\n")
    found = compared(options(reported_runs, str(folder), "strong"))
    assert {each.verdict for each in found.differences} == {"the same"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plan": "fedcba9876543210"}, ("different data", "fedcba98", "01234567", "--data=FOLDER")),
        ({"records": 300}, ("different records", "100", "--out=REPORT")),
        ({"classes": ("NORMAL", "TUMOUR")}, ("different classes", "TUMOUR")),
        ({"in_group": 4}, ("different records",)),
    ],
)
def test_other_data_or_records_are_refused(make_run, predictions_of, reported_runs, change, words):
    folder = make_run("other")
    plan = {"plan": change.pop("plan")} if "plan" in change else {}
    make_run.report(folder, predictions_of(2, **change), **plan)
    with pytest.raises(InputError) as raised:
        compared(options(reported_runs, "weak", str(folder)))
    assert [word for word in (*words, "weak", "other") if word not in str(raised.value)] == []


def test_another_positive_class_is_refused(make_run, predictions_of, reported_runs):
    folder = make_run("other")
    make_run.report(folder, predictions_of(2).of("NORMAL"))
    with pytest.raises(InputError, match=r"of PNEUMONIA in weak, of NORMAL in .*--positive=PNEUMONIA"):
        compared(options(reported_runs, "weak", str(folder)))


def test_what_is_missing_is_named_with_the_command_that_makes_it(make_run, reported_runs):
    folder = make_run("bare")
    with pytest.raises(InputError, match=rf"trainer\.evaluate --run_dir={folder} --split=test"):
        compared(options(reported_runs, "weak", str(folder)))
    with pytest.raises(InputError, match="nowhere"):
        compared(options(reported_runs, "weak", "nowhere"))
    with pytest.raises(InputError, match="two runs"):
        options(reported_runs, "weak")


def test_a_report_of_an_earlier_model_is_refused(make_run, predictions_of, reported_runs):
    folder = make_run("older")
    path = make_run.report(folder, predictions_of(2)) / "report.json"
    content = json.loads(path.read_text())
    content["facts"]["model file"] = "SHA-256 another"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"earlier model.*\n.*trainer\.evaluate"):
        compared(options(reported_runs, "weak", str(folder)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id,group\n",
        "id,group,label,probability_a,probability_b\nx,y,c,0.5,0.5\n",
        "id,group,label,probability_a,probability_b\nx,y,a,0.5,much\n",
    ],
)
def test_damaged_predictions_are_named(tmp_path, text):
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"predictions\.csv"):
        read_predictions(path)


def test_predictions_are_read_as_they_were(tmp_path, predictions_of, make_run):
    wanted = predictions_of(2)
    found = read_predictions(make_run.report(make_run("a"), wanted) / "predictions.csv")
    assert (found.ids, found.groups, found.class_names) == (wanted.ids, wanted.groups, wanted.class_names)
    assert (found.labels == wanted.labels).all()
    assert (found.probabilities == wanted.probabilities).all()
