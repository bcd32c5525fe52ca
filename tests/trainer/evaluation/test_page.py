import re

import pytest
from reports import PICTURES, Page, drawn, of_covid, summarised, write

from trainer.evaluation import figures, report
from trainer.evaluation.page import interval_text, render_page
from trainer.evaluation.predictions import decide


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report directory for tests that only read it."""
    return write(tmp_path_factory.mktemp("written")).parent


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


@pytest.mark.slow
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
        "share of the records of COVID that are predicted as COVID",
        "share of the records of NORMAL that are not predicted as COVID",
        "chance that a record of COVID scores above a randomly chosen record of NORMAL",
        "A record is predicted as COVID if its probability is at least the threshold: 0.4",
    ):
        assert part in said
    drawn_axes = [
        label.replace("\n", " ")
        for figure in (figures.roc(of_covid(), {}), figures.precision_recall(of_covid(), {}))
        for axes in figure.axes
        for label in (axes.get_xlabel(), axes.get_ylabel())
    ]
    assert drawn_axes == [
        "1 - specificity (share of NORMAL predicted as COVID)",
        "Sensitivity (share of COVID predicted as COVID)",
        "Recall (sensitivity) of COVID",
        "Precision of COVID",
    ]


@pytest.mark.parametrize(("classes", "rows"), [(2, 0), (3, 3), (25, 20 + 25)])
def test_each_class_has_its_row_and_of_many_the_weakest_come_first(classes, rows):
    names = tuple(f"class {k:02}" for k in range(classes))
    predictions = drawn(names=names, records=8 * classes)
    numbers, said = summarised(predictions, None)
    tables = render_page(numbers, {}).split('<div class="sheet classes">')[1:]
    assert sum(table.split("</tbody>")[0].count("<tr>") - 1 for table in tables) == rows
    assert ("All 25 classes" in said) == (classes == 25)
    assert [row["name"] for row in numbers["per_class"]] == list(names if classes > 2 else ())
    for row in numbers["per_class"]:
        k = names.index(row["name"])
        assert row["records"] == (predictions.labels == k).sum()
        assert row["groups"] == len(
            {g for g, y in zip(predictions.groups, predictions.labels, strict=True) if y == k}
        )
        for estimate in row["estimates"].values():
            assert interval_text(estimate).replace(" ", "", 1) in said
