import csv
import json
import re
import shutil
import warnings
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from tfrecords.errors import InputError
from trainer.evaluation import figures, metrics, report
from trainer.evaluation.intervals import estimates, point_values
from trainer.evaluation.page import render_page
from trainer.evaluation.predictions import Predictions, decide, worst_mistakes

PICTURES = {
    "training_curves.png",
    "confusion_matrix.png",
    "roc.png",
    "precision_recall.png",
    "reliability.png",
}
FILES = PICTURES | {"report.json", "predictions.csv", "report.html"}
HISTORY = [
    {"epoch": 1.0, "loss": 0.9, "val_loss": 0.8, "val_auc": 0.7, "learning_rate": 1e-3},
    {"epoch": 2.0, "loss": 0.5, "val_loss": 0.6, "val_auc": 0.8, "learning_rate": 1e-3},
    {"epoch": 3.0, "loss": 0.2, "val_loss": 0.7, "val_auc": float("nan"), "learning_rate": 1e-4},
]


def drawn(names=("NORMAL", "PNEUMONIA"), records=60, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(len(names), size=records)
    logits = random.normal(size=(records, len(names)))
    logits[np.arange(records), labels] += 1
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = tuple(f"id{i}" for i in range(records))
    groups = tuple(f"group {i // 2}" for i in range(records))
    return Predictions(names, ids, groups, labels, rows)


def write(directory, predictions=None, threshold: float | None = 0.4, **changes):
    arguments = {
        "split": "test",
        "predictions": predictions or drawn(),
        "threshold": threshold,
        "threshold_source": "Youden's J on the val split",
        "history": HISTORY,
        "facts": {"data": "demo data: drawn phantoms", "precision": "float32"},
    }
    return report.write_report(directory, **{**arguments, **changes})


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report directory for tests that only read it."""
    return write(tmp_path_factory.mktemp("written")).parent


class Page(HTMLParser):
    """Collects the tags, their attributes and the text; complains of tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text.append(data)


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
    called = decide(predictions, 0.4)
    for i, row in enumerate(rows):
        assert (row["id"], row["group"]) == (predictions.ids[i], predictions.groups[i])
        assert row["label"] == predictions.class_names[predictions.labels[i]]
        assert row["predicted"] == predictions.class_names[called[i]]
        assert row["correct"] == str(int(called[i] == predictions.labels[i]))
        read = [float(row[f"probability_{name}"]) for name in predictions.class_names]
        assert read == predictions.probabilities[i].tolist()
    assert len(rows) == 60


def test_the_page_needs_nothing_else(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r"base64,[^\"]*", "", text)) is None
    sources = [value for name, value in page.attributes if name == "src"]
    assert len(sources) == len(PICTURES)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not {"script", "link", "iframe", "a", "object"} & set(page.tags)
    assert not {"href", "srcset", "action"} & {name for name, _ in page.attributes}


def test_the_page_says_what_was_measured(written):
    page = Page((written / "report.html").read_text(encoding="utf-8"))
    said = " ".join("".join(page.text).split())
    for decision in report.read_report(written)["decisions"].values():
        for estimate in decision["estimates"].values():
            assert report.interval_text(estimate).replace(" ", "", 1) in said
    for part in (
        "Data: demo data: drawn phantoms",
        "0.4 (Youden's J on the val split), or 0.5",
        "60 records of 30 groups",
        "not for clinical use",
    ):
        assert part in said


def test_names_are_escaped_and_drawn_as_they_are(tmp_path):
    # Broken TeX, and letters that the font lacks: neither may stop or warn.
    names = ("<script>alert(1)</script>", "$\\frac{&'\" \u80ba\u708e$")
    path = write(tmp_path, drawn(names=names), history=[], facts={"data": "<img src=x>", "<b>": "<i>"})
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert all(value.startswith("data:") for name, value in page.attributes if name == "src")
    said = "".join(page.text)
    for name in (*names, "<img src=x>", "<b>", "<i>"):
        assert name in said


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
    # Two lines around the table, its head, ten metrics, what the star says.
    assert len(text.splitlines()) == 14 + ("chosen" in decisions) + few


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


def test_the_page_is_replaced_last(written, tmp_path):
    directory = shutil.copytree(written, tmp_path / "report")
    (directory / "reliability.png").unlink()
    (directory / "reliability.png").mkdir()  # No file can take this name.
    with pytest.raises(InputError, match=r"cannot write the report to .*: Is a directory"):
        write(directory, drawn(seed=1))
    assert (directory / "report.html").read_bytes() == (written / "report.html").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_gallery_of_an_earlier_report_goes(tmp_path):
    (tmp_path / "mistakes.png").write_bytes(b"of an earlier report")
    write(tmp_path)
    assert set(contents(tmp_path)) == FILES


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
        "loss                     0.400 [-]               0.400 [-]\n"
        "brier                    0.125 [-]               0.125 [-]\n"
        "* exact (Clopper-Pearson; AUROC: Newcombe) with groups as the unit: the bootstrap of few groups, or "
        "of groups that agree, is too narrow\n"
        "threshold 0.65 for PNEUMONIA: Youden's J on the val split\n"
        "For research only: this model and its predictions are not a medical device and not for clinical use."
    )
    estimate = {"value": 0.9123, "low": 0.8894, "high": 0.9336}
    assert report.interval_text(estimate) == "0.912 [0.889, 0.934]"  # of a report of before


def summarised(predictions, threshold=0.4, **changes):
    """The numbers without a picture, which takes seconds, and what a page says of them."""
    told = {"threshold_source": "Youden's J on the val split", "facts": {}, **changes}
    numbers = report.summarise(split="test", predictions=predictions, threshold=threshold, **told)
    return numbers, " ".join("".join(Page(render_page(numbers, {})).text).split())


def of_covid(**changes):
    """Predictions whose finding is the first class, and a threshold."""
    drawn_so = drawn(names=("COVID", "NORMAL"), records=120)
    return replace(drawn_so, positive=0, **changes)


def test_the_positive_class_is_named_wherever_sensitivity_stands():
    numbers, said = summarised(of_covid())
    assert numbers["positive"] == "COVID"
    labels, called = of_covid().labels, decide(of_covid(), 0.4)
    found = numbers["decisions"]["chosen"]["estimates"]
    assert found["sensitivity"]["value"] == pytest.approx((called[labels == 0] == 0).mean())
    assert found["specificity"]["value"] == pytest.approx((called[labels == 1] == 1).mean())
    text = report.render_text(numbers)
    for part in ("\nsensitivity (COVID)  ", "\nspecificity (NORMAL)  ", "\nthreshold 0.4 for COVID: "):
        assert part in text
    assert said.count("Sensitivity (COVID)") == said.count("Specificity (NORMAL)") == 2  # card and row
    for part in (
        "share of the records of COVID that are found",
        "share of the records of NORMAL that are left alone",
        "A record is called COVID where its probability is at least the threshold: 0.4",
    ):
        assert part in said
    drawn_axes = [
        label
        for figure in (figures.roc(of_covid(), {}), figures.precision_recall(of_covid(), {}))
        for axes in figure.axes
        for label in (axes.get_xlabel(), axes.get_ylabel())
    ]
    assert drawn_axes == [
        "1 - specificity (share of NORMAL called COVID)",
        "Sensitivity (share of COVID found)",
        "Recall (sensitivity) of COVID",
        "Precision of COVID",
    ]


def test_the_marks_of_the_thresholds_lie_where_the_positive_class_has_them():
    labels, called = of_covid().labels, decide(of_covid(), 0.4)
    sensitivity, alarms = (called[labels == 0] == 0).mean(), (called[labels == 1] == 0).mean()
    precision = (labels[called == 0] == 0).mean()
    for figure, x, y in (
        (figures.roc(of_covid(), {"at": 0.4}), alarms, sensitivity),
        (figures.precision_recall(of_covid(), {"at": 0.4}), sensitivity, precision),
    ):
        (mark,) = (line for line in figure.axes[0].get_lines() if line.get_label() == "at")
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx((x, y))


def test_few_groups_of_a_class_are_told_beside_headline_and_threshold():
    predictions = drawn(records=40)
    groups = tuple(f"{label}/{i % 9 if label else i}" for i, label in enumerate(predictions.labels))
    predictions = replace(predictions, groups=groups)
    numbers, said = summarised(predictions, threshold_groups=(40, 3), notes=("Look.",))
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
    places = [said.index(part) for part in (headline, "Results", "A record is called", threshold, "Metric")]
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
    for name in ("positive", "warnings", "threshold_warnings"):
        del numbers[name]
    for decision in numbers["decisions"].values():
        for estimate in decision["estimates"].values():
            del estimate["method"]
    text = report.render_text(numbers)
    assert "\nsensitivity (PNEUMONIA)  " in text
    assert "*" not in text


@pytest.mark.parametrize(("names", "shown"), [(("A", "B"), ["B"]), (("A", "B", "C"), ["A", "B", "C"])])
def test_tensorboard_reads_the_summaries_back(tmp_path, names, shown):
    from tensorboard.backend.event_processing import plugin_event_multiplexer
    from tensorboard.plugins.pr_curve import metadata
    from tensorboard.util import tensor_util

    predictions = drawn(names=names)
    predictions.probabilities[:20] = [0.5, *[0.5 / (len(names) - 1)] * (len(names) - 1)]  # At a threshold.
    threshold = 0.4 if len(names) == 2 else None
    report.write_summaries(
        tmp_path / "run", split="test", predictions=predictions, threshold=threshold, step=70
    )
    read = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()

    def content(tag):
        (event,) = read.Tensors("run", tag)
        assert event.step == 70
        return tensor_util.make_ndarray(event.tensor_proto)

    scalars = read.PluginRunToTagToContent("scalars")["run"]
    values = point_values(predictions, threshold)
    assert {tag: float(content(tag)) for tag in scalars} == pytest.approx(
        {f"test/report/{name}": value for name, value in values.items()}, abs=1e-6
    )
    images = read.PluginRunToTagToContent("images")["run"]
    assert set(images) == {f"test/report/{name[:-4]}" for name in PICTURES - {"training_curves.png"}}
    assert all(content(tag)[2].startswith(b"\x89PNG") for tag in images)
    curves = read.PluginRunToTagToContent(metadata.PLUGIN_NAME)["run"]
    assert set(curves) == {f"test/{name}/pr_curves" for name in shown}
    for name in shown:
        index = names.index(name)
        truth, scores = predictions.labels == index, predictions.probabilities[:, index]
        table = content(f"test/{name}/pr_curves")
        assert table.shape == (6, 201)
        for column, at in ((0, 0.0), (50, 0.25), (100, 0.5), (137, 0.685), (200, 1.0)):
            called = scores >= at
            found, alarms = (called & truth).sum(), (called & ~truth).sum()
            expected = [found, alarms, (~called & ~truth).sum(), (~called & truth).sum()]
            rates = [found / max(called.sum(), 1), found / truth.sum()]
            np.testing.assert_allclose(table[:, column], [*expected, *rates], rtol=1e-6)
        parsed = metadata.parse_plugin_metadata(curves[f"test/{name}/pr_curves"])
        assert parsed.num_thresholds == 201
    described = read.SummaryMetadata("run", "test/report/sensitivity").summary_description
    of = shown[0] if len(shown) == 1 else "the class"
    assert described == f"share of the records of {of} that are found"


def test_the_modules_import_without_their_heavy_friends(run_python):
    code = (
        "import sys; import trainer.evaluation.report; "
        "print(sorted({'tensorflow', 'sklearn', 'matplotlib.pyplot', 'matplotlib'} & set(sys.modules)))"
    )
    done = run_python("-c", code)
    assert done.stdout.strip() == "[]"


def texts_of(figure):
    """What a figure says, with the file of each text's font."""
    texts = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible())
    return {text.get_text(): text.get_fontproperties().get_file() for text in texts}


def test_a_class_that_no_font_has_is_numbered_in_the_pictures_and_named_in_the_page(tmp_path, no_fonts):
    names = ("正常", "肺炎", "B")
    predictions = drawn(names=names)
    said = texts_of(figures.confusion_matrices(names, {"all": np.eye(3, dtype=int)}))
    assert {"class 0", "class 1", "B"} <= set(said)
    assert not set(names[:2]) & set("".join(said))
    caption = report._mistake_captions(replace(predictions, ids=("肺.png",) * 60), None, 1)[0]
    first = int(worst_mistakes(predictions, None, 1)[0])
    assert caption[1] == f"row {first + 2} of predictions.csv"
    page = Page(write(tmp_path, predictions, None).read_text(encoding="utf-8"))
    assert "In the pictures class 0 is 正常, class 1 is 肺炎." in page.text


def test_a_class_that_an_installed_font_has_is_drawn_in_it(installed):
    font = installed("正常肺炎: AUROC.0123456789abcdefghijklmnopqrstuvwxyzPS", "Some Sans")
    names = ("正常", "肺炎", "B")
    said = texts_of(figures.confusion_matrices(names, {"all": np.eye(3, dtype=int)}))
    assert [said[name] for name in names] == [str(font), str(font), None]
    said = texts_of(figures.roc(drawn(names=names), {}))
    assert {file for text, file in said.items() if set(text) & set("正常肺炎")} == {str(font)}
    said = texts_of(figures.reliability(drawn(names=names[:2]), {}))
    assert {said["正常"], said["Share that is 肺炎"], said["Predicted probability of 肺炎"]} == {str(font)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figures.png(figures.reliability(drawn(names=names[:2]), {}), dpi=20)


def test_long_names_go_on_in_the_next_line_and_stay_apart():
    start = "chest_xray_adult_frontal_view_with_pneumonia_"
    names = (f"{start}bacterial", f"{start}viral")
    figure = figures.confusion_matrices(names, {"all": np.eye(2, dtype=int)})
    figure.draw_without_rendering()
    labels = [label for axes in figure.axes for label in axes.get_xticklabels()]
    assert [label.get_text().replace("\n", "") for label in labels] == list(names)
    left, right = (label.get_window_extent() for label in labels)
    assert left.x1 <= right.x0
    wide = figures.roc(drawn(names=tuple(f"{start}{i}" for i in range(8))), {})
    wide.draw_without_rendering()
    legend = wide.axes[0].get_legend().get_window_extent()
    assert legend.x0 >= wide.axes[0].get_window_extent().x1  # it covers no curve
    assert legend.x1 <= wide.bbox.x1


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
