import csv
import json
import re
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
from matplotlib.image import imread
from reports import FILES, PICTURES, Page, contents, drawn, summarised, write

from tfrecords.errors import InputError
from trainer.evaluation import figures, metrics, report
from trainer.evaluation.intervals import estimates
from trainer.evaluation.metric_table import REPORTED
from trainer.evaluation.page import exact_note
from trainer.evaluation.predictions import Predictions, decide, worst_mistakes


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report directory for tests that only read it."""
    return write(tmp_path_factory.mktemp("written")).parent


@pytest.mark.slow
def test_the_report_is_complete(tmp_path):
    predictions = drawn()
    wrong = worst_mistakes(predictions, 0.4, 5)
    images = np.random.default_rng(0).integers(256, size=(len(wrong), 12, 10, 1), dtype=np.uint8)
    path = write(tmp_path / "run" / "report", predictions, mistakes=images)
    assert path == tmp_path / "run" / "report" / "report.html"
    assert set(contents(path.parent)) == FILES | {"mistakes.png"}
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["report"]  # Nothing temporary is left.
    for name in PICTURES | {"mistakes.png"}:
        height, width = imread(path.parent / name).shape[:2]
        assert min(height, width) > 300, name


def test_the_numbers_are_those_of_metrics(written):
    predictions = drawn()
    numbers = report.read_report(written)
    assert numbers["classes"] == {
        "NORMAL": int((predictions.labels == 0).sum()),
        "PNEUMONIA": int((predictions.labels == 1).sum()),
    }
    assert (numbers["records"], numbers["groups"], numbers["split"]) == (60, 30, "test")
    assert numbers["facts"] == {"data": "demo data: drawn phantoms", "precision": "float32"}
    assert (numbers["best_epoch"], numbers["resamples"], numbers["seed"]) == (2, 2000, 0)
    for key, threshold in (("default", 0.5), ("chosen", 0.4)):
        decision = numbers["decisions"][key]
        assert decision["threshold"] == threshold
        assert decision["confusion"] == metrics.confusion(predictions, threshold).tolist()
        for name, estimate in estimates(predictions, threshold, seed=0).items():
            found = {k: np.nan if v is None else v for k, v in decision["estimates"][name].items()}
            np.testing.assert_equal(found, asdict(estimate))


def test_the_table_of_predictions_gives_them_back_exactly(written):
    predictions = drawn()
    with (written / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "id",
        "group",
        "label",
        "predicted",
        "correct",
        "probability_NORMAL",
        "probability_PNEUMONIA",
    ]
    predicted = decide(predictions, 0.4)
    for i, row in enumerate(rows):
        assert (row["id"], row["group"]) == (predictions.ids[i], predictions.groups[i])
        assert row["label"] == predictions.class_names[predictions.labels[i]]
        assert row["predicted"] == predictions.class_names[predicted[i]]
        assert row["correct"] == str(int(predicted[i] == predictions.labels[i]))
        read = [float(row[f"probability_{name}"]) for name in predictions.class_names]
        assert read == predictions.probabilities[i].tolist()
    assert len(rows) == 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("predictions", "threshold", "decisions"),
    [
        (drawn(), None, {"default": 0.5}),
        (drawn(names=("A", "B", "C")), None, {"default": None}),
        (drawn(names=tuple(f"class {i}" for i in range(25)), records=80), None, {"default": None}),
        (
            Predictions(("A", "B"), ("1", "2"), ("1", "2"), np.array([1, 1]), np.full((2, 2), 0.5)),
            0.3,
            {"default": 0.5, "chosen": 0.3},
        ),
        (
            Predictions(("A", "B"), ("1", "2"), ("1", "1"), np.array([0, 1]), np.eye(2)),
            0.5,
            {"default": 0.5, "chosen": 0.5},
        ),
    ],
    ids=["no threshold", "three classes", "25 classes", "one class has no records", "one group"],
)
def test_every_kind_of_predictions_gets_a_whole_report(tmp_path, predictions, threshold, decisions):
    path = write(tmp_path, predictions, threshold, history=[])
    assert set(contents(tmp_path)) == FILES
    Page(path.read_text(encoding="utf-8"))
    written = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert {key: d["threshold"] for key, d in written["decisions"].items()} == decisions
    assert written["best_epoch"] is None
    text, few = report.render_text(written), min(predictions.groups_of_classes()) < 10
    assert len(written["warnings"]) == few
    # Two lines around the table, its head, a line for each metric, what the star means.
    lines = 4 + len(REPORTED) + ("chosen" in decisions) + few
    if (classes := len(predictions.class_names)) > 2:  # a title, a head, and all classes or the weakest five
        lines += 2 + (classes if classes <= 10 else 5)
    assert len(text.splitlines()) == lines


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(written, tmp_path):
    write(tmp_path)
    assert contents(tmp_path) == contents(written)


def test_a_failing_figure_leaves_the_earlier_report_whole(written, tmp_path, monkeypatch):
    before = contents(shutil.copytree(written, tmp_path / "report"))

    def fail(*_):
        raise RuntimeError("no such font")

    monkeypatch.setattr(figures, "reliability", fail)
    with pytest.raises(RuntimeError, match="no such font"):
        write(tmp_path / "report", drawn(seed=1))
    assert contents(tmp_path / "report") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.slow
def test_the_page_is_replaced_last(written, tmp_path):
    directory = shutil.copytree(written, tmp_path / "report")
    (directory / "reliability.png").unlink()
    (directory / "reliability.png").mkdir()  # No file can take this name.
    with pytest.raises(InputError, match=r"cannot write the report to .*: Is a directory"):
        write(directory, drawn(seed=1))
    assert (directory / "report.html").read_bytes() == (written / "report.html").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.slow
def test_a_gallery_of_an_earlier_report_goes(tmp_path):
    (tmp_path / "mistakes.png").write_bytes(b"of an earlier report")
    write(tmp_path)
    assert set(contents(tmp_path)) == FILES


@pytest.mark.slow
def test_images_that_are_not_the_mistakes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="61 images of mistakes, but"):
        write(tmp_path / "report", mistakes=np.zeros((61, 8, 8, 1), np.uint8))
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_named(tmp_path, facts):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError) as caught:
        write(tmp_path / "file" / "report")
    assert re.search(
        facts(
            f"cannot write the report to {tmp_path}/file/report: Not a directory. "
            "Give a directory that can be written, on a disk with free space"
        ),
        str(caught.value),
    )
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(InputError, match=r"cannot read .*report\.json: .*trainer\.evaluate"):
        report.read_report(tmp_path)


def test_text():
    predictions = Predictions(
        ("NORMAL", "PNEUMONIA"),
        ("a", "b", "c", "d"),
        ("g", "g", "g", "g"),
        np.array([0, 0, 1, 1]),
        np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]),
    )
    numbers = report.summarise(
        split="test",
        predictions=predictions,
        threshold=0.65,
        threshold_source="Youden's J on the val split",
        facts={},
    )
    text = report.render_text(numbers)
    assert text == (
        "test: 4 records of 1 groups (NORMAL 2, PNEUMONIA 2); 95% intervals by group\n"
        "warning: fewer than 10 groups of a class in test: NORMAL 1, PNEUMONIA 1; figures of so few "
        "say little, and their intervals are wide\n"
        "                         threshold 0.65          threshold 0.5\n"
        "accuracy                 1.000 [0.025, 1.000]*   0.750 [0.006, 1.000]*\n"
        "auroc                    1.000 [0.025, 1.000]*   1.000 [0.025, 1.000]*\n"
        "auprc (PNEUMONIA)        1.000 [0.025, 1.000]*   1.000 [0.025, 1.000]*\n"
        "sensitivity (PNEUMONIA)  1.000 [0.025, 1.000]*   1.000 [0.025, 1.000]*\n"
        "specificity (NORMAL)     1.000 [0.025, 1.000]*   0.500 [0.000, 1.000]*\n"
        "precision (PNEUMONIA)    1.000 [0.025, 1.000]*   0.667 [0.003, 1.000]*\n"
        "f1 (PNEUMONIA)           1.000 [0.049, 1.000]*   0.800 [0.006, 1.000]*\n"
        "balanced_accuracy        1.000 [0.025, 1.000]*   0.750 [0.013, 1.000]*\n"
        "mcc                      1.000 [-0.684, 1.000]*  0.577 [-0.855, 1.000]*\n"
        "loss                     0.400 [-]               0.400 [-]\n"
        "brier                    0.125 [-]               0.125 [-]\n"
        f"{exact_note(numbers)}\n"
        "threshold 0.65 for PNEUMONIA: Youden's J on the val split\n"
        "For research only: this model and its predictions are not a medical device and not for clinical use."
    )
    estimate = {"value": 0.9123, "low": 0.8894, "high": 0.9336}
    assert report.interval_text(estimate) == "0.912 [0.889, 0.934]"  # of a report of before


def test_a_threshold_fixed_at_one_half_is_shown_once(tmp_path):
    predictions = Predictions(
        ("NORMAL", "PNEUMONIA"),
        ("a", "b", "c", "d"),
        ("e", "f", "g", "h"),
        np.array([0, 0, 1, 1]),
        np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]),
    )
    for threshold, columns in ((0.5, 1), (0.6, 2)):
        numbers = report.summarise(
            split="test", predictions=predictions, threshold=threshold, threshold_source="told", facts={}
        )
        text = report.render_text(numbers).splitlines()
        assert text[2].split() == ["threshold", f"{threshold}", "threshold", "0.5"][: 2 * columns]
        assert f"threshold {threshold} for PNEUMONIA: told" in text
        mistakes = np.zeros((len(worst_mistakes(predictions, threshold, 12)), 4, 4, 1), np.uint8)
        report.write_report(
            tmp_path / f"{columns}", numbers, predictions=predictions, history=[], mistakes=mistakes
        )
        page = (tmp_path / f"{columns}/report.html").read_text()
        assert ("for comparison" in page) == (columns == 2)


def test_few_groups_of_a_class_are_told_beside_headline_and_threshold():
    predictions = drawn(records=40)
    groups = tuple(f"{label}/{i % 9 if label else i}" for i, label in enumerate(predictions.labels))
    predictions = replace(predictions, groups=groups)
    numbers, said = summarised(predictions, threshold_groups=(40, 3), warnings=("Look.",))
    note, headline = numbers["warnings"]
    (threshold,) = numbers["threshold_warnings"]
    assert note == "Look."
    assert "fewer than 10 groups of a class in test: PNEUMONIA 9;" in headline
    assert "in validation, which chose the threshold: PNEUMONIA 3;" in threshold
    text = report.render_text(numbers).splitlines()
    assert text[1:3] == ["warning: Look.", f"warning: {headline}"]
    assert text[-3].startswith("threshold 0.4 for PNEUMONIA")
    assert text[-2] == f"warning: {threshold}"
    # Beside the cards, and between the threshold and the table.
    places = [said.index(part) for part in (headline, "Results", "A record is", threshold, "Metric")]
    assert places == sorted(places)


def test_many_classes_with_few_groups_are_not_all_named():
    names = tuple(f"class {k:02}" for k in range(30))
    ids = tuple(map(str, range(30)))
    rows = np.full((30, 30), 1 / 30)
    (told,) = summarised(Predictions(names, ids, ids, np.arange(30), rows), None)[0]["warnings"]
    assert "class 00 1, class 01 1, class 02 1, class 03 1, class 04 1 and 25 more classes" in told


def test_enough_groups_need_no_warning():
    numbers, _ = summarised(drawn(records=200), threshold_groups=(10, 10))
    assert (numbers["warnings"], numbers["threshold_warnings"]) == ([], [])
    assert "warning" not in report.render_text(numbers)


def test_a_report_of_before_is_still_told():
    numbers, _ = summarised(drawn())
    for name in ("positive", "warnings", "threshold_warnings", "per_class"):
        del numbers[name]
    for decision in numbers["decisions"].values():
        for estimate in decision["estimates"].values():
            del estimate["method"]
    text = report.render_text(numbers)
    assert "\nsensitivity (PNEUMONIA)  " in text
    assert "*" not in text


def test_the_note_of_an_older_report_is_a_warning(tmp_path, written):
    numbers = report.read_report(written)
    numbers["facts"]["note"] = "The figures are optimistic."
    warnings = numbers["warnings"]
    (tmp_path / "report.json").write_text(json.dumps(numbers))
    read = report.read_report(tmp_path)
    assert read["warnings"] == ["The figures are optimistic.", *warnings]
    assert "note" not in read["facts"]
    assert "warning: The figures are optimistic." in report.render_text(read)
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(InputError, match=r"cannot read .*report\.json"):
        report.read_report(tmp_path)


def test_of_many_classes_the_text_has_the_weakest():
    names = tuple(f"class {k:02}" for k in range(12))
    numbers, _ = summarised(drawn(names=names, records=200), None)
    lines = report.render_text(numbers).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("the 5 classes of 12"))
    told = [line[:8] for line in lines[start + 2 : start + 7]]
    f1 = {row["name"]: row["estimates"]["f1"]["value"] for row in numbers["per_class"]}
    assert told == sorted(f1, key=f1.__getitem__)[:5]


def test_the_modules_import_without_their_heavy_friends(run_python):
    code = (
        "import sys; import trainer.evaluation.report; "
        "print(sorted({'tensorflow', 'sklearn', 'matplotlib.pyplot', 'matplotlib'} & set(sys.modules)))"
    )
    done = run_python("-c", code)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("classes", "records", "resamples"),
    [(2, 3_000_000, 2000), (10, 20_000, 2000), (100, 4_000, 1000), (2000, 4000, 200)],
)
def test_very_many_classes_have_fewer_resamples(classes, records, resamples):
    names = tuple(map(str, range(classes)))
    labels = np.zeros(records, np.int32)
    ids = ("",) * records
    many = Predictions(names, ids, ids, labels, np.broadcast_to(1 / classes, (records, classes)))
    assert report.resamples_of(many) == resamples
