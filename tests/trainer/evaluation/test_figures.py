import warnings
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text
from reports import Page, drawn, of_covid, write

from trainer.evaluation import figures, report
from trainer.evaluation.predictions import decide, worst_mistakes


def test_the_marks_of_the_thresholds_lie_where_the_positive_class_has_them():
    labels, predicted = of_covid().labels, decide(of_covid(), 0.4)
    sensitivity, fpr = (predicted[labels == 0] == 0).mean(), (predicted[labels == 1] == 0).mean()
    precision = (labels[predicted == 0] == 0).mean()
    for figure, x, y in (
        (figures.roc(of_covid(), {"at": 0.4}), fpr, sensitivity),
        (figures.precision_recall(of_covid(), {"at": 0.4}), sensitivity, precision),
    ):
        (mark,) = (line for line in figure.axes[0].get_lines() if line.get_label() == "at")
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx((x, y))


def texts_of(figure):
    """What a figure says, with the file of each text's font."""
    texts = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible())
    return {text.get_text(): text.get_fontproperties().get_file() for text in texts}


@pytest.mark.slow
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
