"""The parameters and metrics of a search as columns of TensorBoard's HParams page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tensorboard.plugins.hparams import summary_v2

from trainer.evaluation.metric_table import OF_AN_EPOCH
from trainer.tensorboard import hparams
from trainer.tune.show.overview import Parameter

# Shown name: subfolder and tag of the curves that a run writes.
METRICS: Final[hparams.Metrics] = {
    f"{phase} {metric.name}": (phase, f"epoch_{metric.name}")
    for phase in ("validation", "train")
    for metric in OF_AN_EPOCH
}


def write_experiment(
    folder: Path, parameters: Sequence[Parameter], metrics: Sequence[str] = tuple(METRICS)
) -> None:
    """Writes which hyperparameters are searched and which metrics are shown, unless the file exists.

    Args:
        folder: of the search, above the folders of all sessions; it need not exist.
        parameters: the hyperparameters that are searched.
        metrics: keys of `METRICS`.

    Raises:
        InputError: it cannot be written.
    """
    searched = {parameter.name: _domain(parameter) for parameter in parameters}
    hparams.write_experiment(folder, searched, {name: METRICS[name] for name in metrics})


def _domain(parameter: Parameter) -> Any:
    """Returns the domain; None for a choice among values of several types, which HParams does not support."""
    if parameter.kind == "boolean":
        return summary_v2.Discrete([False, True])
    if parameter.kind == "choice":
        types = {type(value) for value in parameter.values}
        if types == {int, float}:
            return summary_v2.Discrete([float(value) for value in parameter.values])
        return summary_v2.Discrete(parameter.values) if len(types) == 1 else None
    low, high = parameter.values
    if parameter.kind == "int":
        return summary_v2.IntInterval(low, high)
    return summary_v2.RealInterval(float(low), float(high))
