"""The cells count what they say, and the sentence follows from them."""

import numpy as np
import pytest
from reports import drawn

from trainer.evaluation.page import render_page
from trainer.evaluation.predictions import decide
from trainer.evaluation.report import summarise
from trainer.evaluation.shortcut.cells import cells_of, contradicts
from trainer.evaluation.shortcut.finding import NumbersSay
from trainer.evaluation.shortcut.showing import shortcut_lines, shortcut_section


def says(labels, classes, *, wrong):
    """Numbers that point to the class, but for these records."""
    pointed = np.where(wrong, (labels + 1) % classes, labels)
    rows = np.full((len(labels), classes), 0.2 / (classes - 1))
    rows[np.arange(len(labels)), pointed] = 0.8
    return NumbersSay(rows, 500, ("mean grey level", "noise"))


@pytest.mark.parametrize("names", [("NORMAL", "PNEUMONIA"), ("a", "b", "c")])
def test_cells_hold_all_records_and_the_models_accuracy(names):
    predictions = drawn(names, records=200)
    threshold = 0.4 if len(names) == 2 else None
    wrong = np.random.default_rng(1).random(200) < 0.2
    said = says(predictions.labels, len(names), wrong=wrong)
    assert (contradicts(predictions, said) == wrong).all()
    content = cells_of(predictions, said, threshold)
    right = decide(predictions, threshold) == predictions.labels
    assert len(content["cells"]) == 2 * len(names)
    for cell in content["cells"]:
        rows = (predictions.labels == names.index(cell["class"])) & (wrong != cell["agrees"])
        assert cell["records"] == rows.sum()
        assert cell["accuracy"]["value"] == pytest.approx(right[rows].mean())
    assert content["agreeing"]["accuracy"]["value"] == pytest.approx(right[~wrong].mean())
    assert content["contradicting"]["accuracy"]["value"] == pytest.approx(right[wrong].mean())
    assert content["contradicting"]["accuracy"]["low"] < content["contradicting"]["accuracy"]["value"]
    text, page = "\n".join(shortcut_lines(content)), "".join(shortcut_section(content))
    for shown in (text, page):
        assert f"{right[wrong].mean():.3f}" in shown
        assert "mean grey level" in shown
        assert content["meaning"] in shown


def case(model_right_where_wrong, share_wrong, area=True):
    """The sentence for a model that is right wherever the numbers are, and elsewhere so often."""
    predictions = drawn(records=400)
    random = np.random.default_rng(2)
    wrong = random.random(400) < share_wrong
    right = ~wrong | (random.random(400) < model_right_where_wrong)
    score = np.where(right == (predictions.labels == 1), 0.9, 0.1)
    predictions = predictions.__class__(
        predictions.class_names,
        predictions.ids,
        predictions.groups,
        predictions.labels,
        np.column_stack([1 - score, score]),
    )
    return cells_of(predictions, says(predictions.labels, 2, wrong=wrong), None)["meaning"]


def test_the_sentence_says_whether_the_model_leans_on_the_numbers():
    assert "it leans on" in case(0.4, 0.2)
    assert "no sign of leaning" in case(1.0, 0.2)
    assert "tell little" in case(0.4, 0.45)
    assert "No image of this split contradicts" in case(0.4, 0.0)
    assert "All images of this split contradict" in case(0.4, 1.1)


def test_the_page_has_the_accuracy_on_contradicting_images_beside_the_headline():
    predictions = drawn(records=200)
    wrong = np.arange(200) % 5 == 0
    content = cells_of(predictions, says(predictions.labels, 2, wrong=wrong), 0.5)
    numbers = summarise(split="test", predictions=predictions, threshold=None, threshold_source="", facts={})
    cards = [render_page(numbers | extra, {}) for extra in ({}, {"shortcut": content})]
    assert [page.count('<div class="card">') for page in cards] == [4, 5]
    estimate = content["contradicting"]["accuracy"]
    card = cards[1].split("contradict the shortcut")[1].split('<div class="card">')[0]
    assert f"{estimate['value']:.3f}" in card
    assert f"{estimate['low']:.3f} to {estimate['high']:.3f}" in card


def test_a_reason_stands_in_its_place():
    content = {"missing": "train has <5> images"}
    assert shortcut_lines(content) == ["no shortcut audit: train has <5> images"]
    assert "&lt;5&gt;" in "".join(shortcut_section(content))
