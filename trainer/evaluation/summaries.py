"""A report's copy for TensorBoard: scalars, pictures and precision-recall curves."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.evaluation import figures
from trainer.evaluation.intervals import point_values
from trainer.evaluation.metric_table import BY_NAME, meaning_of
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.report import evaluation_figures, legend_of, marked_thresholds

_PR_THRESHOLDS = 201  # TensorBoard's own default.


def write_summaries(
    log_dir: Path, *, split: str, predictions: Predictions, threshold: float | None, epoch: int
) -> None:
    """Writes the report's pictures, metrics and precision-recall curves for TensorBoard.

    Args:
        log_dir: A TensorBoard run directory; made if missing. One event file is added.
        split: The first part of every tag: `test/report/auroc`, `test/report/roc`; on other data than the
            run's own with their name before it.
        predictions: The records of the split.
        threshold: As in `summarise`.
        epoch: The epoch of the evaluated weights, counted from 1 as in history.csv: the step that TensorBoard
            shows them at. 0 for a model that has no epochs.
    """
    import tensorflow as tf
    from tensorboard.plugins.pr_curve import metadata

    drawn = evaluation_figures(predictions, marked_thresholds(predictions, threshold), {})
    shown = [predictions.positive] if predictions.binary else range(len(predictions.class_names))
    positive = predictions.positive_name
    other = predictions.class_names[1 - predictions.positive] if positive else ""
    writer = tf.summary.create_file_writer(str(log_dir), filename_suffix=".report")
    with writer.as_default(step=epoch):
        if sentence := legend_of(predictions):
            tf.summary.text(f"{split}/report/classes", sentence)
        for name, value in point_values(predictions, threshold).items():
            if math.isfinite(value):
                about = meaning_of(BY_NAME[name], positive, other)
                tf.summary.scalar(f"{split}/report/{name}", value, description=about)
        for name, figure in drawn.items():
            pixels = tf.io.decode_png(figures.png(figure), channels=3)
            tf.summary.image(f"{split}/report/{Path(name).stem}", pixels[tf.newaxis])
        for index in shown:
            name = f"{split}/{predictions.class_names[index]}"
            about = metadata.create_summary_metadata(name, "", _PR_THRESHOLDS)
            tf.summary.write(f"{name}/pr_curves", _pr_counts(predictions, index), metadata=about)
    writer.close()


def _pr_counts(predictions: Predictions, class_index: int) -> npt.NDArray[np.float32]:
    """What TensorBoard's PR-curve plugin stores: float32 [6, thresholds from 0 to 1].

    The rows are true positives, false positives, true negatives, false negatives, precision and
    recall (tensorboard/plugins/pr_curve/metadata.py).
    """
    truth = predictions.labels == class_index
    scores = predictions.probabilities[:, class_index]
    at = np.linspace(0, 1, _PR_THRESHOLDS)
    tp, fp = (side.size - np.searchsorted(np.sort(side), at) for side in (scores[truth], scores[~truth]))
    fn, tn = truth.sum() - tp, (~truth).sum() - fp
    precision = tp / np.maximum(tp + fp, 1)
    recall = tp / max(truth.sum(), 1)
    return np.stack([tp, fp, tn, fn, precision, recall]).astype(np.float32)
