"""The report's pictures, drawn with matplotlib's object interface: no pyplot, no global state.

Every function returns a `Figure`; `png` makes bytes of it. Colours are Okabe and Ito's, which
colour-blind readers can tell apart. Class names are drawn as they are, never as TeX, in a font that
has their letters; where there is none, their numbers stand for them.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tfrecords.text.fonts import has_font
from tfrecords.text.names import WIDTH, drawn_names, wrapped
from trainer.evaluation import metrics
from trainer.evaluation.drawing import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    SKY,
    joins_letters,
    message,
    new_figure,
    plain_text,
    style_panel,
)
from trainer.evaluation.intervals import class_ranking
from trainer.evaluation.metric_table import OF_AN_EPOCH, PREFIX, names, title_of
from trainer.evaluation.predictions import Floats, Ints, Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CYCLE = (BLUE, ORANGE, GREEN, SKY, "#CC79A7", "#E69F00")
_LIGHT_BOX = "#181818"
_LEARNING_RATE = "learning_rate"  # A column of the history that is no metric.
_POINT_STYLES = (("o", ORANGE), ("D", INK))
_LEGEND_LIMIT = 12  # Classes named in a legend; more would cover the curves.
_LONG_LEGEND = 4  # Lines that names may take in it beyond one each; with more it stands beside them.
_TEXT_LIMIT = 20  # Classes whose cells a confusion matrix still writes out.
_AXIS_LIMIT = 60  # Classes that it names on its axes.
_ACROSS = {2: 20, 3: 14}  # Columns of a name beside another on the x axis, by the number of classes.


def png(figure: "Figure", *, dpi: int = 144) -> bytes:
    """The figure as PNG bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # An id in a script that no font has is drawn as boxes; predictions.csv has it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def best_epoch(history: Sequence[Mapping[str, float]]) -> int | None:
    """The epoch with the lowest validation loss, if the history has one."""
    losses = _column(history, "val_loss")
    if not np.isfinite(losses).any():
        return None
    return int(_epochs(history)[np.nanargmin(losses)])


def training_curves(history: Sequence[Mapping[str, float]], best: int | None = None) -> "Figure":
    """The metrics of an epoch and the learning rate by epoch, whichever the history has.

    Args:
        history: One row an epoch: `epoch` (else counted from 1) and metrics, `val_` before those of
            validation. Any metric with a validation partner gets a panel. NaN is a gap.
        best: The epoch to mark; without it, the one with the lowest validation loss.
    """
    keys = list(dict.fromkeys(key for row in history for key in row))
    known = [*names(OF_AN_EPOCH), _LEARNING_RATE]
    drawn = [key for key in known if key in keys or PREFIX + key in keys]
    drawn += [key for key in keys if PREFIX + key in keys and key not in known]
    if not drawn:
        return message("No training history was kept for this run.")
    epochs = _epochs(history)
    best = best_epoch(history) if best is None else best
    columns = min(len(drawn), 2)
    rows = -(-len(drawn) // columns)
    figure = new_figure(4.8 * columns, 3.0 * rows)
    for index, key in enumerate(drawn):
        axes = figure.add_subplot(rows, columns, index + 1)
        style_panel(axes, "Learning rate" if key == _LEARNING_RATE else title_of(key), "Epoch", "")
        shape = "steps-mid" if key == _LEARNING_RATE else "default"
        _curve_panel(axes, epochs, _column(history, key), _column(history, PREFIX + key), shape)
        if best is not None and best in epochs:
            axes.axvline(best, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            at = _column(history, PREFIX + key)[epochs == best][0]
            note = f"best epoch {best}" + (f": {at:.4g}" if np.isfinite(at) else "")
            axes.set_title(note, loc="right", fontsize=9, color=FAINT)
    return figure


def confusion_matrices(class_names: Sequence[str], matrices: Mapping[str, Ints]) -> "Figure":
    """Confusion matrices side by side: counts, and each cell's share of its row (true class).

    Args:
        class_names: K names.
        matrices: Title to int64 [K, K], true class by row.
    """
    names = drawn(class_names)
    width = _ACROSS.get(len(names), WIDTH)
    names = [_lines(name, width) for name in names]
    size = min(max(3.9, 0.6 * len(names) + 1.6), 9)
    figure = new_figure((size + 0.2) * len(matrices), size)
    for index, (title, matrix) in enumerate(matrices.items()):
        axes = figure.add_subplot(1, len(matrices), index + 1)
        of_row = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(of_row, cmap="Blues", vmin=0, vmax=1.15)
        numbered = ", by the class's number" * (len(names) > _AXIS_LIMIT)
        style_panel(axes, title, f"Predicted{numbered}", f"True{numbered}" if index == 0 else "")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if len(names) <= _AXIS_LIMIT:
            axes.set_xticks(range(len(names)), names, rotation=0 if len(names) < 4 else 90)
            axes.set_yticks(range(len(names)), names, rotation=90 if len(names) < 4 else 0, va="center")
            plain_text(*axes.get_xticklabels(), *axes.get_yticklabels())
        if len(names) <= _TEXT_LIMIT:
            _cell_texts(axes, matrix, of_row)
    return figure


def roc(predictions: Predictions, thresholds: Mapping[str, float], caption: str = "") -> "Figure":
    """The ROC curve, or one a class where there are more than two.

    Args:
        predictions: The records.
        thresholds: Of two classes, name to threshold of the decisions to mark on the curve.
        caption: What the legend says of the curve of two classes, such as its AUROC.
    """
    figure = new_figure(5.2, 5.2)
    axes = figure.add_subplot()
    fpr, tpr = "false positive rate", "true positive rate"
    if predictions.binary:
        names = drawn(predictions.class_names)
        positive, other = names[predictions.positive], names[1 - predictions.positive]
        fpr, tpr = (f"share of {name} predicted as {positive}" for name in (other, positive))
    x, y = _lines(f"1 - specificity ({fpr})", 50), _lines(f"Sensitivity ({tpr})", 50)
    style_panel(axes, "ROC curve", x, y)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (2, 3)), label="chance")
    _class_curves(axes, predictions, metrics.roc_curve, "auroc", caption)
    for name, threshold, style in _marked(thresholds):
        tn, fp, fn, tp = metrics.outcomes(predictions, threshold)
        if tn + fp and fn + tp:
            axes.plot(fp / (fp + tn), tp / (tp + fn), label=name, **style)
    _unit_square(figure, axes, "lower right", len(predictions.class_names))
    return figure


def precision_recall(
    predictions: Predictions, thresholds: Mapping[str, float], caption: str = ""
) -> "Figure":
    """The precision-recall curve, or one a class; arguments as in `roc`."""
    figure = new_figure(5.2, 5.2)
    axes = figure.add_subplot()
    of = f" of {drawn(predictions.class_names)[predictions.positive]}" if predictions.binary else ""
    style_panel(
        axes, "Precision-recall curve", _lines(f"Recall (sensitivity){of}", 50), _lines(f"Precision{of}", 50)
    )
    if predictions.binary:
        share = float((predictions.labels == predictions.positive).mean())
        axes.axhline(share, color=FAINT, linewidth=1, linestyle=(0, (2, 3)), label="chance")
    _class_curves(axes, predictions, metrics.pr_curve, "auprc", caption)
    for name, threshold, style in _marked(thresholds):
        _, fp, fn, tp = metrics.outcomes(predictions, threshold)
        if tp + fp and tp + fn:
            axes.plot(tp / (tp + fn), tp / (tp + fp), label=name, **style)
    _unit_square(figure, axes, "lower left", len(predictions.class_names))
    return figure


def reliability(predictions: Predictions, thresholds: Mapping[str, float]) -> "Figure":
    """Predicted probability against the share that is of the class, beside a histogram of the probabilities.

    With two classes the probability is the positive class's; with more it is the highest one of each record.
    """
    curve = metrics.reliability_curve(predictions)
    figure = new_figure(9.6, 4.6)
    left, right = figure.subplots(1, 2)
    names = drawn(predictions.class_names)
    positive = names[predictions.positive]
    truth = f"Share that is {positive}" if predictions.binary else "Share that is predicted right"
    given = f"Predicted probability of {positive}" if predictions.binary else "Highest probability"
    truth, given = _lines(truth, 40), _lines(given, 40)
    style_panel(left, "Reliability", given, truth)
    left.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (2, 3)), label="perfect")
    left.vlines(curve.predicted, curve.low, curve.high, color=BLUE, linewidth=2, alpha=0.35)
    label = f"observed, with 95% intervals (ECE {curve.error:.3f})"
    left.plot(curve.predicted, curve.observed, "o-", color=BLUE, markersize=5, label=label)
    for name, threshold, style in _marked(thresholds):
        left.axvline(threshold, color=style["color"], linewidth=1.2, label=name, zorder=1)
        right.axvline(threshold, color=style["color"], linewidth=1.2)
    left.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    left.set_title(f"{len(predictions.ids):,} records", loc="right", fontsize=9, color=FAINT)
    _legend(left, "best")
    style_panel(right, "Predicted probabilities", given, "Records")
    bins = np.linspace(0, 1, 21)
    if predictions.binary:
        order = (1 - predictions.positive, predictions.positive)
        sides = [predictions.scores[predictions.labels == k] for k in order]
        labels = [_lines(names[k]) for k in order]
        right.hist(sides, bins.tolist(), stacked=True, color=[SKY, BLUE], label=labels)
        _legend(right, "best")
    else:
        right.hist(predictions.probabilities.max(axis=1), bins.tolist(), color=SKY)
    return figure


def gallery(images: npt.NDArray[np.uint8], captions: Sequence[tuple[str, str]]) -> "Figure":
    """Images in rows of four on a dark ground, each under its caption.

    Args:
        images: uint8 [n, H, W, C], C = 1 or 3.
        captions: n pairs of the caption and a fainter line below the image, such as its id.
    """
    if len(images) == 0:
        return message("No mistakes on this split.")
    columns = min(len(images), 4)
    rows = -(-len(images) // columns)
    height, width = images.shape[1:3]
    texts = [(_caption(caption), _lines(faint, 44)) for caption, faint in captions]
    most = max(sum(text.count("\n") + 1 for text in pair) for pair in texts)
    figure = new_figure(
        2.4 * columns, (2.4 * min(height / width, 1.6) + 0.6 + 0.13 * max(most - 3, 0)) * rows
    )
    figure.set_facecolor(_LIGHT_BOX)
    for index, (image, (caption, faint)) in enumerate(zip(images, texts, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1)
        picture = image[..., 0] if image.shape[-1] == 1 else image
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_title(caption, fontsize=8.5, color="white")
        axes.set_xlabel(faint, fontsize=7, color="#a3a3a3")
        plain_text(axes.title, axes.xaxis.label)
    return figure


def _curve_panel(
    axes: "Axes",
    epochs: Floats,
    train: Floats,
    validation: Floats,
    shape: Any,
) -> None:
    """One metric's training and validation lines."""
    from matplotlib.ticker import MaxNLocator

    marker = "o" if len(epochs) < 15 else ""
    for values, color, label in ((train, BLUE, "train"), (validation, ORANGE, "validation")):
        if np.isfinite(values).any():
            line: dict[str, Any] = {"color": color, "linewidth": 1.8, "marker": marker, "markersize": 4}
            axes.plot(epochs, values, label=label, drawstyle=shape, **line)
    both = np.concatenate([train, validation])
    both = both[np.isfinite(both)]
    if both.size and both.min() > 0 and both.max() / both.min() > 100:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if both.size and np.isfinite(validation).any():
        _legend(axes, "best")


def _cell_texts(axes: "Axes", matrix: Ints, of_row: Floats) -> None:
    """Writes each cell's count, and below it its share of the row."""
    big = 15 if len(matrix) < 4 else max(6, 12 - 0.3 * len(matrix))
    for (row, column), count in np.ndenumerate(matrix):
        color = "white" if of_row[row, column] > 0.6 else INK
        where: dict[str, Any] = {"ha": "center", "color": color}
        axes.text(column, row, f"{count:,}", va="bottom", fontsize=big, **where)
        share = f"{of_row[row, column]:.1%}"
        axes.text(column, row + 0.06, share, va="top", fontsize=big * 0.65, **where)


def _class_curves(axes: "Axes", predictions: Predictions, curve: Any, metric: str, caption: str) -> None:
    """Draws `curve` of the positive class, or of every class if there are more than two.

    Args:
        axes: The panel.
        predictions: The records.
        curve: `metrics.roc_curve` or `metrics.pr_curve`.
        metric: The area below it, "auroc" or "auprc".
        caption: What the legend says of the curve of two classes; "": the area.
    """
    binary, names = predictions.binary, drawn(predictions.class_names)
    for index in [predictions.positive] if binary else range(len(predictions.class_names)):
        if not metrics.ranks_both(predictions, index):
            continue
        value = class_ranking(predictions, index)[0 if metric == "auroc" else 1]
        label = f"{title_of(metric)} {value:.3f}"
        label = (caption or label) if binary else _lines(f"{label} {names[index]}", WIDTH + 12)
        x, y = curve(predictions, index)
        steps = "default" if metric == "auroc" else "steps-post"
        color = _CYCLE[index % len(_CYCLE)] if not binary else BLUE
        lines = ("-", "--", ":")
        style = lines[index // len(_CYCLE) % 3] if not binary else "-"
        axes.plot(x, y, color=color, linestyle=style, linewidth=2, drawstyle=steps, label=label)
    if not any(metrics.ranks_both(predictions, k) for k in range(len(predictions.class_names))):
        note = "undefined: all records are of one class"
        axes.text(0.5, 0.5, note, ha="center", color=FAINT)


def _marked(thresholds: Mapping[str, float]) -> list[tuple[str, float, dict[str, Any]]]:
    """Each threshold's name, value and marker."""
    marks = []
    for (name, threshold), (marker, color) in zip(thresholds.items(), _POINT_STYLES, strict=False):
        style = {"marker": marker, "color": color, "markersize": 8, "linestyle": ""}
        style |= {"markeredgecolor": "white", "zorder": 5, "clip_on": False}
        marks.append((name, threshold, style))
    return marks


def _unit_square(figure: "Figure", axes: "Axes", corner: str, classes: int) -> None:
    """Equal axes from 0 to 1, and the legend in the corner that the curve leaves free, or beside."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    if classes > _LEGEND_LIMIT:
        return
    if "".join(axes.get_legend_handles_labels()[1]).count("\n") > _LONG_LEGEND:
        figure.set_size_inches(8.4, 5.2)
        _legend(axes, "upper left", bbox_to_anchor=(1.02, 1))
    else:
        _legend(axes, corner)


def _legend(axes: "Axes", where: Any, **place: Any) -> None:
    """A frameless legend whose texts are no TeX."""
    legend = axes.legend(loc=where, fontsize=8.5, frameon=True, framealpha=0.85, **place)
    legend.get_frame().set_edgecolor("none")
    plain_text(*legend.get_texts())


def drawn(class_names: Sequence[str]) -> list[str]:
    """What stands for each class in the pictures; see `tfrecords.text.names`."""
    return drawn_names(class_names, shapes=joins_letters())


def is_drawn(text: str) -> bool:
    """Whether a font has all letters of a text."""
    return has_font(text, shapes=joins_letters())


def _lines(text: str, width: int = WIDTH) -> str:
    """The text in lines of that many columns."""
    return "\n".join(wrapped(text, width))


def _caption(text: str) -> str:
    """Each line of a caption in lines that a picture of the gallery has room for."""
    return "\n".join(_lines(line, 34) for line in text.split("\n"))


def _epochs(history: Sequence[Mapping[str, float]]) -> Floats:
    """The rows' epochs, counted from 1 where they do not say, float64."""
    return np.array([row.get("epoch", i + 1) for i, row in enumerate(history)], np.float64)


def _column(history: Sequence[Mapping[str, float]], key: str) -> Floats:
    """One value an epoch, float64, NaN where the row lacks it."""
    return np.array([row.get(key, np.nan) for row in history], np.float64)
