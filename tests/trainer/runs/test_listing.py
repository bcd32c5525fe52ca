import csv
import io
import json
import re
import shutil
import time
from html.parser import HTMLParser

import pytest

from tfrecords.errors import EndedEarly, InputError
from trainer.lock import RunLock
from trainer.runs.listing import ListingOptions, list_runs

RUNS = ("strong", "weak", "stopped", "pca_svm")


@pytest.fixture
def several(make_run, reported_runs):
    """Four runs: two with reports, one that was stopped, and a baseline without a report."""
    shutil.copytree(reported_runs, make_run.root, dirs_exist_ok=True)
    make_run("stopped", done=False, epochs=20, losses=(0.5, 0.2), model="resnet")
    make_run("pca_svm", model="pca_svm", losses=())
    return make_run.root


def listed(capsys, root, **options):
    list_runs(ListingOptions(root, **options))
    return capsys.readouterr()


def lines_of(text):
    """The line of each run, in order."""
    return [line for line in text.splitlines() if line.split() and line.split()[0] in RUNS]


def test_all_runs_are_in_one_table(several, capsys):
    text = listed(capsys, several).out
    assert [line.split()[0] for line in lines_of(text)] == sorted(RUNS)
    assert "4 runs" in text.splitlines()[0]
    assert "3 done, 1 stopped" in text.splitlines()[0]
    content = json.loads((several / "strong" / "report" / "test" / "report.json").read_text())
    auroc = content["decisions"]["chosen"]["estimates"]["auroc"]
    strong = next(line for line in lines_of(text) if line.startswith("strong"))
    assert f"{auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]" in strong
    assert re.search(r"2 of 3 +0\.4000", strong)
    assert "data chest" in text  # told once, for it is the same of all


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("auroc", ["strong", "weak", "pca_svm", "stopped"]),
        ("brier", ["strong", "weak", "pca_svm", "stopped"]),
        ("val_loss", ["stopped", "pca_svm", "strong", "weak"]),
    ],
)
def test_the_best_come_first_and_those_without_the_figure_last(several, capsys, sort, order):
    text = listed(capsys, several, sort=sort).out
    assert [line.split()[0] for line in lines_of(text)] == order
    assert sort in text.splitlines()[2]


def test_the_accuracy_on_images_that_contradict_the_shortcut_has_a_column_of_its_own(
    several, capsys, tmp_path
):
    for name, value in (("strong", 0.25), ("weak", 0.75)):
        path = several / name / "report" / "test" / "report.json"
        estimate = {"value": value, "low": value - 0.125, "high": value + 0.125, "method": "bootstrap"}
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"shortcut": {"contradicting": {"accuracy": estimate}}}))
    page = tmp_path / "runs.html"
    text = listed(capsys, several, sort="contradicting", html=str(page)).out
    assert "contradicting" in text
    assert text.index("0.750 [0.625, 0.875]") < text.index("0.250 [0.125, 0.375]")
    assert "Accuracy, shortcut contradicts" in page.read_text()
    assert "0.250</b>[0.125, 0.375]" in page.read_text()
    path.write_text(json.dumps(content | {"shortcut": {"contradicting": {"accuracy": {"value": "high"}}}}))
    with pytest.raises(EndedEarly, match=r"report\.json: is damaged"):
        listed(capsys, several)
    capsys.readouterr()
    # A report without it, as of data that are no images of a split, has no such column.
    content.pop("shortcut", None)
    for name in ("strong", "weak"):
        (several / name / "report" / "test" / "report.json").write_text(json.dumps(content))
    assert "contradicting" not in listed(capsys, several).out


def test_an_unknown_metric_is_refused_with_those_that_there_are(several, capsys):
    with pytest.raises(InputError, match=r"--sort=auc: .*auroc, .*brier"):
        listed(capsys, several, sort="auc")


@pytest.mark.parametrize("width", [40, 80, 100, 120, 160])
def test_a_terminal_gets_what_it_has_room_for_and_is_told_the_rest(several, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = listed(capsys, several, sort="accuracy").out
    assert max(map(len, lines_of(text))) <= width
    (head,) = [line for line in text.splitlines() if line.startswith("name ")]
    left_out = re.search(r"not shown at \d+ columns: ([^;]*)", " ".join(text.split()))
    hidden = left_out[1].split(", ") if left_out else []
    everything = ["name", "model", "state", "epoch", "val_loss", "threshold", "when"]
    everything += ["auroc", "accuracy", "sensitivity", "specificity"]
    assert sorted([*head.split(), *hidden]) == sorted(everything)
    if width >= 80:
        assert {"name", "state", "epoch", "val_loss", "accuracy"} <= set(head.split())


def test_a_long_name_keeps_its_end(make_run, capsys, monkeypatch):
    make_run("project/of/a/very/long/name/which/no/terminal/has/room/for/chest-resnet", done=False)
    monkeypatch.setenv("COLUMNS", "80")
    text = listed(capsys, make_run.root).out
    assert "/chest-resnet" in text
    assert max(map(len, text.split("not shown")[0].splitlines()[1:])) <= 80


def test_a_pipe_gets_all_columns(several, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    text = listed(capsys, several).out
    assert "specificity" in text
    assert "when" in text
    assert "not shown" not in text


def test_csv_has_all_metrics_in_full(several, capfd):
    out, err = listed(capfd, several, csv="-", sort="auroc")
    rows = list(csv.DictReader(io.StringIO(out)))
    content = json.loads((several / "strong" / "report" / "test" / "report.json").read_text())
    estimates = content["decisions"]["chosen"]["estimates"]
    assert [row["name"] for row in rows] == ["strong", "weak", "pca_svm", "stopped"]
    for name, estimate in estimates.items():
        found = [float(rows[0][key]) for key in (name, f"{name}_low", f"{name}_high")]
        assert found == [estimate[key] for key in ("value", "low", "high")]
    assert (rows[0]["best_epoch"], rows[0]["epochs"], rows[0]["threshold"]) == ("2", "3", "0.4")
    assert (rows[3]["auroc"], rows[3]["state"], rows[3]["most_epochs"]) == ("", "stopped", "20")
    assert time.strptime(rows[0]["changed"], "%Y-%m-%dT%H:%M:%SZ")
    assert "4 runs" in err  # so that the table is all that a pipe gets


class Page(HTMLParser):
    """What a page has: tags that are closed, rows of its tables, what it would load."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.rows, self.bars = [], [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.loads += [values[name] for name in ("src", "href") if name in values]
        self.rows += tag == "tr"
        self.bars += values.get("class") == "bar"
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_shows_intervals_as_bars(several, capsys, tmp_path):
    path = tmp_path / "runs.html"
    text = listed(capsys, several, html=str(path)).out
    assert str(path) in text
    page = Page(path.read_text())
    assert (page.open, page.loads, page.rows, page.bars) == ([], [], 5, 8)
    assert "prefers-color-scheme: dark" in path.read_text()


def test_names_are_text_in_the_page(make_run, capsys, tmp_path):
    make_run("<b>bold&", data="<i>")
    path = tmp_path / "runs.html"
    listed(capsys, make_run.root, html=str(path))
    assert "&lt;b&gt;bold&amp;" in path.read_text()
    assert "<i>" not in path.read_text()


def test_what_holds_no_run_or_is_damaged_is_named_after_the_table(several, capsys, tmp_path):
    (several / "foreign").mkdir()
    (several / "weak" / "config.json").write_text("{")
    (several / "strong" / "history.json").write_text("[")
    path = tmp_path / "runs.html"
    with pytest.raises(EndedEarly) as raised:
        listed(capsys, several, html=str(path))
    assert raised.value.code == 3
    message = str(raised.value)
    assert all(name in message for name in ("foreign", "weak/config.json", "strong/history.json"))
    text = capsys.readouterr().out
    assert [line.split()[0] for line in lines_of(text)] == ["pca_svm", "stopped", "strong"]
    assert "weak/config.json" in path.read_text()


def test_a_run_that_trains_is_shown_with_its_process(several, capsys):
    with RunLock(several / "stopped"):
        text = listed(capsys, several).out
    assert "1 training" in text
    assert re.search(r"stopped: process \d+ on \S+ trains it", text)


def test_no_run_at_all(tmp_path, capsys):
    assert "trainer.main" in listed(capsys, tmp_path).out


def test_what_may_come_next_can_be_copied(several, capsys):
    text = listed(capsys, several).out
    assert f"--compare={several / 'strong'},{several / 'weak'}" in text
